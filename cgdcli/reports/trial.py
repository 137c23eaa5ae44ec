"""How well each reading of a foreign file fits pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import Report, SkippedImage


@dataclass(frozen=True)
class ReadingScore(Report):
    """One reading: what tensors cannot say, said in one way, and how it fits.

    Attributes:
        recall_at_1: on the labelled folder; None where embeddings were compared instead.
        mean_difference, max_difference: of the cosine from 1, over pictures; None without
            embeddings to compare with.
        neighbour_agreement: mean share of a picture's nearest `neighbours` that are the same.
    """

    reading: dict[str, Any]
    recall_at_1: float | None = None
    mean_difference: float | None = None
    max_difference: float | None = None
    neighbour_agreement: float | None = None


@dataclass(frozen=True)
class TrialReport(Report):
    """Which reading of a file fits, and how surely.

    Attributes:
        scores: best first.
        margin: Recall@1 of the best less that of the second; `margin_low` to `margin_high` is its
            95 % interval, by a bootstrap over classes. None where embeddings were compared.
        decided: the interval lies above 0; or the best reading reproduces the embeddings.
        options: of convert-weights, for the best reading.
    """

    source: Path
    folder: Path | None
    against: Path | None
    pictures: int
    classes: int | None
    neighbours: int | None
    scores: tuple[ReadingScore, ...]
    margin: float | None
    margin_low: float | None
    margin_high: float | None
    decided: bool
    options: str
    skipped: tuple[SkippedImage, ...]
