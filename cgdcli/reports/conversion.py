"""What becomes of a foreign file, entry by entry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import ModelInfo, Report


@dataclass(frozen=True)
class PlannedEntry(Report):
    """One entry of a foreign file.

    Attributes:
        status: kept, renamed, dropped, unknown, or clash: its place is known but its shape or
            type does not fit there.
        name: ours; None if it is dropped or unknown.
        rule: by which it is renamed, or why it is dropped, unknown or a clash.
        shape, dtype: as in the file; None for what is no tensor.
    """

    source: str
    status: str
    name: str | None
    rule: str
    shape: tuple[int, ...] | None
    dtype: str | None


@dataclass(frozen=True)
class ConversionPlan(Report):
    """What a conversion would do. Every entry of the source stands in `entries` exactly once.

    Attributes:
        missing: entries of the network that the file lacks, with their shapes in words; also
            those of a classifier that `strict` does without.
        network: how many entries a whole network of this kind has, by part.
        filled: counters (`num_batches_tracked`) that old files lack and that start at 0.
        shared: groups of entries that are one tensor in the file, by its names, a profiler's aside.
        upcast: entries stored in half or double precision, float32 afterwards.
        config: of the network; None where it cannot be told.
        assumed: what the source does not say and was taken by convention, in words.
        problems: why the conversion would be refused; empty if it would not.
    """

    source: Path
    format: str
    wrapper: str
    strict: str
    source_entries: int
    entries: tuple[PlannedEntry, ...]
    missing: dict[str, str]
    network: dict[str, int]
    filled: tuple[str, ...]
    shared: tuple[tuple[str, ...], ...]
    upcast: int
    config: dict[str, Any] | None
    assumed: tuple[str, ...]
    problems: tuple[str, ...]

    def _with(self, status: str) -> list[PlannedEntry]:
        return [entry for entry in self.entries if entry.status == status]

    @property
    def kept(self) -> tuple[str, ...]:
        """Source names that are ours already."""
        return tuple(entry.source for entry in self._with("kept"))

    @property
    def renamed(self) -> dict[str, str]:
        """Source name to ours, where they differ."""
        return {entry.source: str(entry.name) for entry in self._with("renamed")}

    @property
    def dropped(self) -> dict[str, str]:
        """Source name to the reason."""
        return {entry.source: entry.rule for entry in self._with("dropped")}

    @property
    def counts(self) -> dict[str, int]:
        """How many entries are what."""
        statuses = ("kept", "renamed", "dropped", "unknown", "clash")
        found = {status: len(self._with(status)) for status in statuses}
        return found | {"missing": len(self.missing), "filled": len(self.filled)}

    @property
    def written_entries(self) -> int:
        """Entries of the new file."""
        return len(self._with("kept")) + len(self._with("renamed")) + len(self.filled)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the counts."""
        return super().to_dict() | {
            "counts": self.counts,
            "written_entries": self.written_entries,
        }


@dataclass(frozen=True)
class ConversionReport(ConversionPlan):
    """A conversion that was done: the plan, and what was written and read back.

    Attributes:
        not_finite: entries that make embeddings and hold NaN or infinity.
    """

    target: Path
    not_finite: tuple[str, ...]
    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class ExportReport(Report):
    """One of our checkpoints under another tool's names, read back and equal bit for bit.

    Attributes:
        renamed: our name to the one there.
        left_out: our name to the reason.
        notes: what the file cannot say and whoever loads it must know.
    """

    source: Path
    target: Path
    to: str
    renamed: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    config: dict[str, Any]


@dataclass(frozen=True)
class DataBaseReport(Report):
    """A data base of the reference as an index.

    Attributes:
        part: which of the file's `parts`.
        there: pictures that are still where the file says.
        normalized: whether the rows had to be brought to unit length.
        proved_on: pictures that `model` embedded again as they are stored; 0 without a model.
        descriptors: letters of the blocks, where they are known.
    """

    source: Path
    target: Path
    part: str
    parts: tuple[str, ...]
    rows: int
    embedding_dim: int
    labels: int
    there: int
    normalized: bool
    model: ModelInfo
    proved_on: int
    descriptors: str | None
