"""What a file is, as a table."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import InspectReport


def inspect_table(report: InspectReport, *, whole: bool = False) -> RenderableType:
    """Facts by name; nested ones on lines of their own; long lists counted, or `whole`."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("fact")
    table.add_column("value", overflow="fold")
    for key, value in _flat(report.facts, "", 10**9 if whole else 12):
        table.add_row(key, Text(str(value)))
    notes = [Text(f"note: {note}") for note in report.notes]
    return Group(Text(f"{report.path}: {report.kind}"), table, *notes)


def _flat(facts: dict[str, Any], prefix: str, longest: int) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.", longest)
        elif isinstance(value, (list, tuple)) and len(value) > longest:
            rows.append((prefix + key, f"{len(value)} entries"))
        else:
            rows.append((prefix + key, "-" if value in (None, [], ()) else value))
    return rows
