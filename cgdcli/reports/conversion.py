"""What became of a foreign file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class ConversionReport(Report):
    """What became of every entry of a foreign file: kept + renamed + dropped = source_entries.

    `filled` are counters (`num_batches_tracked`) that old files lack and that start at 0; `upcast`
    counts the entries that were stored in half or double precision and are float32 now.
    """

    source: Path
    target: Path
    source_entries: int
    kept: tuple[str, ...]
    renamed: dict[str, str]
    dropped: dict[str, str]
    filled: tuple[str, ...]
    upcast: int
    wrapper: str
    format: str
    config: dict[str, Any]
    assumed: tuple[str, ...]
    fingerprint: str

    @property
    def written_entries(self) -> int:
        """Entries of the new file."""
        return len(self.kept) + len(self.renamed) + len(self.filled)
