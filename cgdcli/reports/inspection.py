"""What a file is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class InspectReport(Report):
    """What a file is: `kind` in words, then named facts in the order to show them."""

    path: Path
    kind: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
