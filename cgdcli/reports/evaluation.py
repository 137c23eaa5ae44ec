"""How good a retrieval is, how surely, and for which classes."""

from dataclasses import dataclass
from pathlib import Path

from cgdcli.reports.base import Report
from cgdcli.reports.retrieval import RecallReport
from cgdcli.reports.run import ConfusedPair, Measure, PairedDifference


@dataclass(frozen=True)
class ClassFigures(Report):
    """One class: its queries, and the means over them; `map_at_r` over those with a partner, None
    where none has one."""

    label: str
    queries: int
    recall_at_1: float
    map_at_r: float | None


@dataclass(frozen=True)
class EvaluationReport(RecallReport):
    """`RecallReport`, and what `cgd evaluate` adds to it.

    Attributes:
        measures: Recall@K and mAP@R again, each with its 95 % interval.
        classes: worst first; empty unless asked for.
        confused: pairs of classes, the most confused first; empty unless asked for.
        ignore_same: the column whose equal values were ignored among rows of one label; empty
            where nothing was.
        left_out: rows of an index without a label.
    """

    measures: tuple[Measure, ...] = ()
    classes: tuple[ClassFigures, ...] = ()
    confused: tuple[ConfusedPair, ...] = ()
    ignore_same: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class ComparedIndexes(Report):
    """How two indexes differ on the pictures that both have.

    Attributes:
        first, second: A and B.
        matched_by: `path` or `content`.
        queries, gallery, classes: of the rows that both have with the same label.
        only_first, only_second: labelled rows that the other does not have.
        relabelled: pictures that both have under different labels, which are left out.
        differences: B less A.
    """

    first: str
    second: str
    matched_by: str
    queries: int
    gallery: int
    classes: int
    only_first: int
    only_second: int
    relabelled: int
    differences: tuple[PairedDifference, ...]
    ignore_same: str = ""


@dataclass(frozen=True)
class RerankReport(Report):
    """What ordering the first `top` hits anew gives on an index's labels.

    Attributes:
        differences: hits ordered anew less hits as they are.
    """

    what: str
    method: str
    top: int
    queries: int
    gallery: int
    classes: int
    differences: tuple[PairedDifference, ...]
    ignore_same: str = ""


@dataclass(frozen=True)
class CalibrationPoint(Report):
    """The smallest similarity from which on the share `precision` of pairs is of one class; None
    where there is no such. `recall` is the share of all pairs of one class that is above it."""

    precision: float
    similarity: float | None
    recall: float | None
    pairs: int


@dataclass(frozen=True)
class CalibrationReport(Report):
    """What similarities of an index mean.

    Attributes:
        file: where it is kept: beside the index, or beside this machine's copy of it.
        rows, classes: that have a label, and how many labels.
        asked: rows that were compared with all others; fewer than `rows`: a sample.
        pairs, same: that were counted, and those of them of one class.
    """

    index: Path
    file: str
    rows: int
    classes: int
    asked: int
    pairs: int
    same: int
    points: tuple[CalibrationPoint, ...]
