"""An evaluation as tables: figures with their intervals, classes, confusions."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.remote import shown
from cgdcli.reports import (
    CalibrationReport,
    ClassFigures,
    ConfusedPair,
    EvaluationReport,
    Measure,
)
from cgdcli.views.formatting import shown_name
from cgdcli.views.tables import judged_words
from cgdcli.words import counted

CLASSES_SHOWN = 20


def evaluation_table(report: EvaluationReport) -> RenderableType:
    """The measures, each over its interval, and what they were measured on."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    measures = {measure.name: measure for measure in report.measures}
    names = [*(f"Recall@{rank}" for rank in report.recall), "mAP@R"]
    for name in names:
        table.add_column(name, justify="right")
    table.add_row(*(_value(measures.get(name)) for name in names))
    table.add_row(*(_interval(measures.get(name)) for name in names))
    words = judged_words(report)
    if report.ignore_same:
        words += f"; rows of the query's label and `{report.ignore_same}` are ignored"
    words += "; in brackets the 95 % interval, a bootstrap over classes"
    return Group(Text(shown_name(words)), table)


def class_table(classes: Sequence[ClassFigures], *, every: bool = False) -> RenderableType:
    """Class by class, the worst first (`every`: all of them)."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", overflow="fold")
    for title in ("queries", "Recall@1", "mAP@R"):
        table.add_column(title, justify="right")
    first = classes if every else classes[:CLASSES_SHOWN]
    for one in first:
        average = "-" if one.map_at_r is None else f"{100 * one.map_at_r:.1f} %"
        table.add_row(
            Text(shown_name(one.label)), str(one.queries), f"{100 * one.recall_at_1:.1f} %", average
        )
    if len(first) == len(classes):
        return table
    left = counted(len(classes) - len(first), "class", "classes")
    return Group(table, Text(f"... and {left} more, which are better: -v or --json"))


def confused_table(pairs: Sequence[ConfusedPair]) -> RenderableType:
    """Pairs of classes: how many queries of each have a nearest picture of the other."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("class A", overflow="fold")
    table.add_column("class B", overflow="fold")
    for title in ("A as B", "B as A", "the surest"):
        table.add_column(title, justify="right")
    for pair in pairs:
        table.add_row(
            Text(shown_name(pair.first)),
            Text(shown_name(pair.second)),
            f"{pair.first_as_second} of {pair.of_first}",
            f"{pair.second_as_first} of {pair.of_second}",
            f"{pair.similarity:.4f}",
        )
    return table


def calibration_table(report: CalibrationReport) -> RenderableType:
    """From which similarity on how large a share of the pairs is of one class."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("share a class", "from similarity", "pairs above", "of all that share one"):
        table.add_column(title, justify="right")
    for point in report.points:
        recall = "-" if point.recall is None else f"{100 * point.recall:.2f} %"
        table.add_row(
            f"{100 * point.precision:.0f} %",
            "never" if point.similarity is None else f"{point.similarity:.3f}",
            f"{point.pairs:,}",
            recall,
        )
    return table


def calibration_lines(report: CalibrationReport) -> list[str]:
    """Which pairs were counted, and what their share means."""
    which = f"all {report.pairs:,} pairs of {counted(report.rows, 'labelled row')}"
    if report.asked < report.rows:
        which = (
            f"{report.pairs:,} pairs: {report.asked:,} rows, evenly spaced, with each of "
            f"{counted(report.rows, 'labelled row')}"
        )
    share = 100 * report.same / report.pairs
    return [
        f"{shown(report.index)}: {which}, of {counted(report.classes, 'class', 'classes')}",
        f"{share:.2g} % of these pairs share a class. Shares are of the pairs at or above a "
        "similarity; an index of more classes has more pairs that share none, and the same "
        "similarity then means less",
    ]


def _value(measure: Measure | None) -> str:
    return "-" if measure is None else f"{100 * measure.value:.2f} %"


def _interval(measure: Measure | None) -> str:
    return "" if measure is None else f"[{100 * measure.low:.1f} {100 * measure.high:.1f}]"
