"""Readings of a foreign file, and how well each fits pictures."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

from cgdcli.reports import ReadingScore, TrialReport
from cgdcli.words import counted

_SHOWN = 12


def trial_table(report: TrialReport) -> RenderableType:
    """The best readings, best first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    titles = (
        ("Recall@1",)
        if report.against is None
        else ("mean diff.", "max diff.", f"same of {report.neighbours}")
    )
    for title in ("stride", "letters", "p", "size", "mean/std"):
        table.add_column(title)
    for title in titles:
        table.add_column(title, justify="right")
    for score in report.scores[:_SHOWN]:
        table.add_row(*_reading(score.reading), *_figures(score))
    return table


def trial_lines(report: TrialReport) -> list[str]:
    """What the figures mean, and what to type next."""
    lines = []
    more = len(report.scores) - _SHOWN
    if more > 0:
        lines.append(f"and {counted(more, 'reading')} that fit less (all: --json)")
    if report.skipped:
        lines.append(f"skipped {counted(len(report.skipped), 'picture')} that could not be read")
    lines += _by_labels(report) if report.against is None else _by_rows(report)
    if report.decided:
        lines.append(f"to convert by this reading: cgd convert-weights ... {report.options}")
    return lines


def _by_labels(report: TrialReport) -> list[str]:
    lines = [f"{counted(report.pictures, 'picture')} of {report.classes} classes"]
    if report.margin is None:
        return [*lines, "one reading only: nothing to decide"]
    lines.append(
        f"the first is {100 * report.margin:.1f} points of Recall@1 above the second (95 % "
        f"interval {100 * (report.margin_low or 0):.1f} to {100 * (report.margin_high or 0):.1f}, "
        "bootstrap over classes)"
    )
    lines.append(
        "decided: the first fits"
        if report.decided
        else "not decided: the interval reaches 0; more pictures (--pictures) may tell, and "
        "embeddings of the old code (--against) do"
    )
    return lines


def _by_rows(report: TrialReport) -> list[str]:
    best = report.scores[0]
    lines = [
        f"{counted(report.pictures, 'picture')}; difference is 1 - cosine of the old embedding and "
        f"ours; same is the mean share of the {report.neighbours} nearest neighbours"
    ]
    if report.decided:
        lines.append(
            f"proved: the first reading makes the old embeddings (at most "
            f"{best.max_difference:.1e} in cosine)"
        )
    return lines


def _reading(reading: dict[str, Any]) -> tuple[str, ...]:
    p = reading["gem_p"]
    return (
        reading["stride"],
        reading["descriptors"],
        "-" if p is None else f"{p:g}",
        str(reading["image_size"]),
        reading["normalization"],
    )


def _figures(score: ReadingScore) -> tuple[str, ...]:
    if score.recall_at_1 is not None:
        return (f"{100 * score.recall_at_1:.1f} %",)
    agreement = score.neighbour_agreement
    return (
        f"{score.mean_difference:.1e}",
        f"{score.max_difference:.1e}",
        "-" if agreement is None else f"{100 * agreement:.1f} %",
    )
