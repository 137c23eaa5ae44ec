"""What a run decides by measuring before its first step; a resumed run keeps it."""

import copy
import logging
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass

import torch

from cgdcli.config import Precision, TrainConfig
from cgdcli.config.training import AUTO
from cgdcli.images.cache import SIDE
from cgdcli.model.cgd import CGD
from cgdcli.training.learner import Learner
from cgdcli.training.memory import batch_words, largest_batch, random_batch

logger = logging.getLogger("cgdcli")

_TIMED, _WARMUP = 3, 1
# bf16 must be so much faster to be taken: it costs precision.
_WORTH_IT = 1.05
# Of the minutes asked for, what goes to starting, judging and writing besides the steps.
_FOR_THE_REST = 0.08
# A judged picture costs a forward pass, a trained one about three.
_JUDGED = 1 / 3


@dataclass(frozen=True)
class Choices:
    """Decided once.

    Attributes:
        precision: fp32 or bf16.
        side: longest shorter side of the pictures that crops are cut from.
        epochs, steps: of the run, and steps in each epoch.
        batch_size: pictures of a step at most.
        notes: what was measured and why, in words.
    """

    precision: Precision
    side: int
    epochs: int
    steps: int
    batch_size: int
    notes: tuple[str, ...] = ()


def choose_batch_size(
    model: CGD, config: TrainConfig, kept: Choices | None, changed: Collection[str]
) -> tuple[int, tuple[str, ...]]:
    """The batch size asked for, or measured once; and what to say of it.

    Args:
        kept, changed: as `choose_again` takes them; None and nothing for a new run.
    """
    if config.batch_size != AUTO:
        return config.batch_size, ()
    if kept is not None and "batch_size" not in changed:
        return kept.batch_size, ()
    size = largest_batch(model, config)
    return size, (batch_words(config, size),)


def choose(model: CGD, config: TrainConfig, batch_size: int, steps: int, judged: int) -> Choices:
    """Decide on a model that stays as it is.

    Args:
        model: on the device it will be trained on.
        batch_size, steps: of an epoch that shows every picture.
        judged: pictures of one evaluation.
    """
    notes: list[str] = []
    precision, seconds = _precision(model, config, batch_size, notes)
    if config.compile:
        seconds = _compiled_seconds(model, config, batch_size, precision, seconds, notes)
    epochs = config.epochs
    if config.minutes:
        if seconds is None:
            seconds = step_seconds(model, config, batch_size, precision)
        share = _JUDGED * judged / batch_size * seconds * config.evaluations
        time_left = max(1.0, (1 - _FOR_THE_REST) * 60 * config.minutes - share)
        total = max(2, int(time_left / seconds))
        epochs, steps = max(1, total // steps), min(steps, total)
        notes.append(
            f"{config.minutes:g} minutes at {batch_size / seconds:.0f} pictures/s: "
            f"{epochs} epochs of {steps} steps"
        )
    return Choices(precision, picture_side(config), epochs, steps, batch_size, tuple(notes))


def choose_again(
    kept: Choices,
    changed: Collection[str],
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    steps: int,
) -> Choices:
    """What a run decided before; what a changed setting tells on is decided anew.

    Args:
        changed: names of settings. The others are as `choose` takes them.
    """
    notes: list[str] = []
    precision, side, epochs = kept.precision, kept.side, kept.epochs
    if "precision" in changed:
        precision, _ = _precision(model, config, batch_size, notes)
    if "image_size" in changed:
        side = picture_side(config)
    if "epochs" in changed:
        epochs = config.epochs
    if config.minutes and "epochs" not in changed:
        steps = min(steps, kept.steps)
    return Choices(precision, side, epochs, steps, batch_size, tuple(notes))


def step_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    precision: Precision,
    *,
    is_compiled: bool = False,
) -> float:
    """Median seconds of forward and backward pass on a copy of the model."""
    pixels, labels = random_batch(config, batch_size, model.config.classes)
    learner = Learner(
        copy.deepcopy(model),
        config,
        steps=1,
        precision=precision,
        compiled_for=batch_size if is_compiled else None,
    )
    learner.to_training()
    seconds = []
    for _ in range(_WARMUP + _TIMED):
        started = time.perf_counter()
        torch.autograd.backward(learner.losses(pixels, labels).total)
        if learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_WARMUP:])


def _precision(
    model: CGD, config: TrainConfig, batch_size: int, notes: list[str]
) -> tuple[Precision, float | None]:
    """fp32 or bf16, and seconds a step where they were measured."""
    if config.precision is not Precision.auto:
        return config.precision, None
    if next(model.parameters()).device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return Precision.fp32, None
    full, half = (
        step_seconds(model, config, batch_size, precision)
        for precision in (Precision.fp32, Precision.bf16)
    )
    chosen = Precision.bf16 if full / half >= _WORTH_IT else Precision.fp32
    notes.append(f"precision {chosen}: a step takes {full:.2f} s in fp32, {half:.2f} s in bf16")
    return chosen, half if chosen is Precision.bf16 else full


def _compiled_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    precision: Precision,
    plain: float | None,
    notes: list[str],
) -> float:
    """Of a compiled step. Whoever asks for it gets it, and is told what it brings."""
    if plain is None:
        plain = step_seconds(model, config, batch_size, precision)
    seconds = step_seconds(model, config, batch_size, precision, is_compiled=True)
    notes.append(f"compiled: a step takes {seconds:.2f} s, {plain:.2f} s as it is")
    if seconds > plain:
        logger.warning("--compile makes a step slower here; leave it out")
    return seconds


def picture_side(config: TrainConfig) -> int:
    """The same on every machine: what is kept where does not tell on the result."""
    return round(SIDE * config.image_size)
