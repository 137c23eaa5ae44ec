"""What a finished run shows on its page, and what the comparison of two runs gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import Report
from cgdcli.reports.retrieval import QueryHits, RecallReport
from cgdcli.reports.training import EpochReport


@dataclass(frozen=True)
class Measure(Report):
    """A share of 1 with its 95 % interval, by a bootstrap over classes."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class JudgedQuery(Report):
    """A query, its nearest pictures, and how well all of its partners were found (AP@R)."""

    average_precision: float
    answer: QueryHits


@dataclass(frozen=True)
class ConfusedPair(Report):
    """Two classes whose pictures are taken for each other's.

    Attributes:
        first_as_second: pictures of `first` whose nearest picture is of `second`; `of_first` in
            all. `second_as_first` and `of_second` the other way round.
        query, neighbour: the example of it whose `similarity` is largest; paths.
            `query_is_first`: the query is of `first`.
    """

    first: str
    second: str
    first_as_second: int
    second_as_first: int
    of_first: int
    of_second: int
    query: str
    query_is_first: bool
    neighbour: str
    similarity: float


@dataclass(frozen=True)
class BranchRecall(Report):
    """What one branch contributes, by Recall@1.

    Attributes:
        alone: of its block of columns alone.
        without: of all other blocks; None where there is no other. `loss` is how much the whole
            embedding is above that, paired: what leaving the branch out costs.
    """

    letter: str
    name: str
    alone: Measure
    without: Measure | None
    loss: Measure | None


@dataclass(frozen=True)
class MapPoint(Report):
    """A picture on the map; `is_hit`: its nearest picture has its label."""

    x: float
    y: float
    path: str
    label: str
    is_hit: bool


@dataclass(frozen=True)
class RunReport(Report):
    """A finished run, whole.

    Attributes:
        what: the pictures of the last judgement: `test`, `val`, `held-out classes` or `train`.
        judged_on: the pictures that epochs were judged on.
        settings: by name, as in `config.toml`.
        best_epoch: None where no epoch was chosen and the last one was kept.
        seconds: of training, evaluation not included.
        result, measures: Recall@K and mAP@R of the model that was kept.
        best, worst: queries by AP@R, one of a class as far as there are classes.
        branches: measured on `branch_queries` of the queries.
        points: on the plane of the first two principal components, which hold the shares `plane`
            of the variance.
        in_gallery: queries were searched in a gallery, not all pictures in all.
    """

    run: str
    model: Path
    fingerprint: str
    data: str
    what: str
    judged_on: str
    settings: dict[str, Any]
    epochs: tuple[EpochReport, ...]
    best_epoch: int | None
    seconds: float
    result: RecallReport
    measures: tuple[Measure, ...]
    best: tuple[JudgedQuery, ...]
    worst: tuple[JudgedQuery, ...]
    confused: tuple[ConfusedPair, ...]
    branches: tuple[BranchRecall, ...]
    branch_queries: int
    points: tuple[MapPoint, ...]
    plane: tuple[float, float]
    in_gallery: bool = False


@dataclass(frozen=True)
class ComparedRun(Report):
    """One side of a comparison. `epochs` and `seconds` are None for an unfinished run."""

    run: Path
    model: Path
    fingerprint: str
    epochs: int | None
    best_epoch: int | None
    seconds: float | None


@dataclass(frozen=True)
class PairedDifference(Report):
    """A measure of both runs on the same queries; `difference` is second less first.

    `low` to `high` is its 95 % interval, by a bootstrap over classes.
    """

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class RunComparison(Report):
    """How two runs differ on the same pictures.

    Attributes:
        what: as in `RunReport`.
        settings: what differs in their settings: (first, second); None where one has no such.
    """

    first: ComparedRun
    second: ComparedRun
    what: str
    queries: int
    classes: int
    differences: tuple[PairedDifference, ...]
    settings: dict[str, tuple[Any, Any]]
