"""`cgd check` as a table of splits and findings in words."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import CheckReport, Finding
from cgdcli.views.formatting import duration
from cgdcli.words import counted

FEW_EXAMPLES, MANY_EXAMPLES = 3, 1_000


def check_view(report: CheckReport, *, every: bool = False) -> RenderableType:
    """Counts by split, then notes, then each finding with examples (`every`: all that are kept)."""
    shown = MANY_EXAMPLES if every else FEW_EXAMPLES
    parts: list[RenderableType] = [Text(f"{report.data}: {report.dataset}"), _counts(report)]
    parts += [Text(f"note: {note}") for note in report.notes]
    for finding in report.findings:
        parts += [Text(line) for line in _lines(finding, shown)]
    parts.append(Text(verdict(report)))
    return Group(*parts)


def verdict(report: CheckReport) -> str:
    """One line: sound or not, and what that took."""
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    words = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    if report.decoded:
        rate = report.decoded / max(report.seconds, 1e-9)
        took = f"{counted(report.decoded, 'picture')} opened in {duration(report.seconds)}"
        took += f" ({rate:.0f} pictures/s)"
    else:
        took = f"no picture opened, in {duration(report.seconds)}"
    return f"{'sound' if report.sound else 'not sound'}: {words}; {took}"


def _counts(report: CheckReport) -> Table:
    roles = any(s.queries < s.pictures or s.gallery < s.pictures for s in report.splits)
    boxes = any(split.boxes for split in report.splits)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("split")
    names = ["pictures", "classes", *(["queries", "gallery"] if roles else [])]
    for name in [*names, *(["boxes"] if boxes else [])]:
        table.add_column(name, justify="right")
    for split in report.splits:
        cells = [split.pictures, split.classes]
        cells += [split.queries, split.gallery] if roles else []
        cells += [split.boxes] if boxes else []
        table.add_row(Text(split.name), *map(str, cells))
    return table


def _lines(finding: Finding, shown: int) -> list[str]:
    lines = [f"{finding.severity}: {finding.what}"]
    lines += [f"  {example}" for example in finding.examples[:shown]]
    if finding.count > shown:
        lines.append(f"  ... and {finding.count - shown} more")
    return [*lines, f"  hint: {finding.hint}"]
