"""What a run says of its steps and epochs."""

from pathlib import Path

from torch import Tensor

from cgdcli.errors import TrainingError
from cgdcli.reports import EpochReport, RecallReport, StepReport
from cgdcli.training.choices import FORWARD_ALONE
from cgdcli.training.objective import FIGURES
from cgdcli.words import resume_command

STEPS_BEFORE_A_FORECAST = 20


def share_left(first: int, now: int, total: int, warm: float) -> float:
    """What the steps after the first `now` of `total` cost, in times those from `first` to `now`.

    Args:
        warm: share of the run whose steps leave the backbone at rest, and so cost less.
    """

    def cost(steps: int) -> float:
        return steps - (1 - FORWARD_ALONE) * min(steps, warm * total)

    return (cost(total) - cost(now)) / (cost(now) - cost(first))


def before_training(epochs: int, learning_rate: float, judged: RecallReport) -> EpochReport:
    """Epoch 0: the backbone's pooled descriptors, what training has to beat."""
    return EpochReport(
        epoch=0,
        epochs=epochs,
        learning_rate=learning_rate,
        loss=None,
        class_loss=None,
        ranking_loss=None,
        proxy_loss=None,
        active_triplets=None,
        accuracy=None,
        mean_distance=None,
        images_per_second=None,
        train_seconds=0.0,
        evaluation=judged,
        is_best=False,
    )


def epoch_report(
    figures: Tensor,
    *,
    epoch: int,
    epochs: int,
    learning_rate: float,
    images_per_second: float,
    train_seconds: float,
    evaluation: RecallReport | None,
    is_best: bool,
) -> EpochReport:
    """An epoch from the means of its steps' `FIGURES`."""
    named = dict(zip(FIGURES, figures.tolist(), strict=True))
    return EpochReport(
        epoch=epoch,
        epochs=epochs,
        learning_rate=learning_rate,
        loss=named["total"],
        class_loss=named["class_loss"],
        ranking_loss=named["ranking_loss"],
        proxy_loss=named["proxy_loss"],
        active_triplets=named["active"],
        accuracy=named["accuracy"],
        mean_distance=named["distance"],
        images_per_second=images_per_second,
        train_seconds=train_seconds,
        evaluation=evaluation,
        is_best=is_best,
    )


def step_report(
    figures: Tensor,
    *,
    epoch: int,
    step: int,
    steps: int,
    images_per_second: float,
    left_seconds: float | None,
    learning_rate: float,
) -> StepReport:
    """A step from its `FIGURES`."""
    named = dict(zip(FIGURES, figures.tolist(), strict=True))
    return StepReport(
        epoch,
        step,
        steps,
        named["total"],
        images_per_second,
        left_seconds,
        learning_rate,
        named["active"],
        named["distance"],
        {n.removesuffix("_loss"): value for n, value in named.items() if n.endswith("_loss")},
    )


def diverged(run: Path, epoch: int, step: int, learning_rate: float) -> TrainingError:
    """A loss or weights that are not finite end a run: where it stood, and what is left of it."""
    good = [name for name in ("last", "best") if (run / f"{name}.safetensors").is_file()]
    kept = (
        f"the last good weights are `{run / good[0]}.safetensors`"
        if good
        else "no epoch was finished before"
    )
    again = f"{resume_command(run)} --force --learning-rate {learning_rate / 10:.1g}"
    return TrainingError(
        f"the loss is no longer finite at step {step} of epoch {epoch}, learning rate "
        f"{learning_rate:g}",
        hint=f"lower --learning-rate; {kept}" + (f", to go on from: {again}" if good else ""),
    )
