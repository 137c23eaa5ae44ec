"""What a training run tells while it goes on, and at its end."""

from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.reports.base import Report, SkippedImage
from cgdcli.reports.retrieval import RecallReport


@dataclass(frozen=True)
class StartReport(Report):
    """A training run as it is about to begin, or to go on; `before`: its epochs so far."""

    run: Path
    classes: int
    images: int
    steps_per_epoch: int
    epochs: int
    first_epoch: int
    batch_size: int
    device: str
    judged_on: str
    notes: tuple[str, ...]
    before: tuple["EpochReport", ...] = ()


@dataclass(frozen=True)
class StepReport(Report):
    """One optimizer step; `left_seconds` is the expected rest of the run, evaluation included.

    Attributes:
        parts: the losses of which `loss` is the weighted sum, by name; 0 for one without weight.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    left_seconds: float | None
    learning_rate: float
    active_triplets: float
    mean_distance: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochReport(Report):
    """One epoch: means over its steps, and the evaluation after it (epoch 0: before any).

    Attributes:
        mean_distance: of the pairs of a batch, Euclidean between unit rows: near 0 is collapse.
        evaluation: None after an epoch that was not judged.
    """

    epoch: int
    epochs: int
    learning_rate: float
    loss: float | None
    class_loss: float | None
    ranking_loss: float | None
    active_triplets: float | None
    accuracy: float | None
    images_per_second: float | None
    train_seconds: float
    evaluation: RecallReport | None
    is_best: bool
    proxy_loss: float | None = None
    mean_distance: float | None = None


@dataclass(frozen=True)
class TrainReport(Report):
    """A finished run. `test` was measured once, at the end, with the checkpoint `model`."""

    run: Path
    model: Path
    best_epoch: int | None
    epochs: int
    seconds: float
    judged_on: str
    evaluation: RecallReport | None
    test: RecallReport | None
    skipped: tuple[SkippedImage, ...] = ()
