"""The comparison of two runs as a table and plain words."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import (
    ComparedIndexes,
    ComparedRun,
    PairedDifference,
    RerankReport,
    RunComparison,
)
from cgdcli.views.formatting import duration
from cgdcli.words import counted


def comparison_table(report: RunComparison | ComparedIndexes | RerankReport) -> RenderableType:
    """Each measure of both, the paired difference and its interval, in percent."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure")
    for title in ("A", "B", "B - A", "95 % interval"):
        table.add_column(title, justify="right")
    for d in report.differences:
        table.add_row(
            d.name,
            f"{100 * d.first:.2f} %",
            f"{100 * d.second:.2f} %",
            f"{100 * d.difference:+.2f}",
            f"{100 * d.low:+.2f} to {100 * d.high:+.2f}",
        )
    return table


def comparison_lines(report: RunComparison) -> list[str]:
    """What is compared, who is better and how surely."""
    return [
        f"A {_run_words(report.first)}",
        f"B {_run_words(report.second)}",
        f"on {report.what}: {counted(report.queries, 'query', 'queries')} of "
        f"{counted(report.classes, 'class', 'classes')}, the same for both",
        *(verdict(d) for d in report.differences if d.name in ("Recall@1", "mAP@R")),
        "the interval is a bootstrap over classes of pictures; how much another --seed moves a "
        "run it does not say",
    ]


def index_comparison_lines(report: ComparedIndexes) -> list[str]:
    """Which indexes, on how many pictures of both, who is better and how surely."""
    left = [
        f"{counted(count, 'picture')} {words}"
        for count, words in (
            (report.only_first, "only in A"),
            (report.only_second, "only in B"),
            (report.relabelled, "with different labels"),
        )
        if count
    ]
    where = f"{counted(report.queries, 'query', 'queries')} of "
    where += f"{counted(report.classes, 'class', 'classes')} in {counted(report.gallery, 'row')}"
    same = f", rows of the query's label and `{report.ignore_same}` ignored"
    return [
        f"A {report.first}",
        f"B {report.second}",
        f"{where}, the same for both, matched by {report.matched_by}"
        + (same if report.ignore_same else ""),
        *([f"left out: {', '.join(left)}"] if left else []),
        *(verdict(d) for d in report.differences if d.name in ("Recall@1", "mAP@R")),
        "the interval is a bootstrap over classes of pictures",
    ]


def rerank_lines(report: RerankReport) -> list[str]:
    """What was measured, and whether it helps."""
    same = f", rows of the query's label and `{report.ignore_same}` ignored"
    return [
        f"{report.what}: {counted(report.queries, 'query', 'queries')} of "
        f"{counted(report.classes, 'class', 'classes')} in {counted(report.gallery, 'row')}"
        + (same if report.ignore_same else ""),
        "A hits as they are",
        f"B the first {report.top} ordered anew by {report.method}",
        *(verdict(d) for d in report.differences if d.name in ("Recall@1", "mAP@R")),
        "the interval is a bootstrap over classes of pictures",
    ]


def verdict(difference: PairedDifference) -> str:
    """`Recall@1: B is better by 2.1 ± 1.7 points (95 % interval 0.4 to 3.8)`; behind ± half the
    interval's width."""
    d = difference
    name, points = d.name, 100 * d.difference
    if d.low <= 0 <= d.high:
        return (
            f"{name}: no difference can be told, B - A is {points:+.1f} points (95 % interval "
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f})"
        )
    better, low, high = ("B", d.low, d.high) if d.difference > 0 else ("A", -d.high, -d.low)
    return (
        f"{name}: {better} is better by {abs(points):.1f} ± {50 * (high - low):.1f} points (95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f})"
    )


def settings_table(report: RunComparison) -> RenderableType:
    """What differs in the settings; a line where nothing does."""
    if not report.settings:
        return Text("no setting differs")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("setting", "A", "B"):
        table.add_column(title, overflow="fold")
    for name, (one, other) in report.settings.items():
        table.add_row(Text(name), Text(_value(one)), Text(_value(other)))
    return table


def _run_words(run: ComparedRun) -> str:
    words = f"{run.run}: {run.model.name}"
    if run.epochs is None or run.seconds is None:
        return f"{words} of an unfinished run"
    chosen = f"epoch {run.best_epoch} of {run.epochs}" if run.best_epoch else f"{run.epochs} epochs"
    return f"{words}, {chosen}, trained for {duration(run.seconds)}"


def _value(value: Any) -> str:
    """Long lists (classes held out) by their length."""
    if value is None:
        return "-"
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} entries: {value[0]}, {value[1]}, ..."
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
