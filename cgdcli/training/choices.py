"""What a run decides by measuring before its first step; a resumed run keeps it."""

import copy
import logging
import statistics
import time
from dataclasses import dataclass

import torch

from cgdcli.config import Cache, Precision, TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cache import side_that_fits
from cgdcli.images.decoding import read_image
from cgdcli.model.cgd import CGD
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.learner import Learner

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
        side: longest shorter side of pictures kept in memory; None for none kept.
        epochs, steps: of the run, and steps in each epoch.
        notes: what was measured and why, in words.
    """

    precision: Precision
    side: int | None
    epochs: int
    steps: int
    notes: tuple[str, ...] = ()


def choose(
    model: CGD,
    config: TrainConfig,
    table: ImageTable,
    batch_size: int,
    steps: int,
    judged: int,
    processes: Processes = ALONE,
) -> Choices:
    """Decide on a model that stays as it is.

    Args:
        model: on the device it will be trained on.
        batch_size, steps: of an epoch that shows every picture.
        judged: pictures of one evaluation.
        processes: measure together, since they share cores and wait for each other; what the
            first one decides holds.
    """
    chosen = _choose(model, config, table, batch_size, steps, judged, processes)
    return processes.on_first(lambda: chosen)


def _choose(
    model: CGD,
    config: TrainConfig,
    table: ImageTable,
    batch_size: int,
    steps: int,
    judged: int,
    processes: Processes,
) -> Choices:
    notes: list[str] = []
    precision, seconds = _precision(model, config, batch_size, notes, processes)
    side = _side(config, table, notes)
    epochs = config.epochs
    if config.minutes:
        if seconds is None:
            seconds = step_seconds(model, config, batch_size, precision, processes)
        share = _JUDGED * judged / batch_size * seconds * config.evaluations
        time_left = max(1.0, (1 - _FOR_THE_REST) * 60 * config.minutes - share)
        total = max(2, int(time_left / seconds))
        epochs, steps = max(1, total // steps), min(steps, total)
        notes.append(
            f"{config.minutes:g} minutes at {batch_size / seconds:.0f} pictures/s: "
            f"{epochs} epochs of {steps} steps"
        )
    return Choices(precision, side, epochs, steps, tuple(notes))


def step_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    precision: Precision,
    processes: Processes = ALONE,
) -> float:
    """Median seconds of forward and backward pass on a copy of the model, `batch_size` pictures
    shared among the processes."""
    size, part = config.image_size, processes.part(batch_size)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (len(part), size, size, 3), generator=generator).byte()
    labels = torch.tensor(part) % max(2, model.config.classes)
    learner = Learner(
        copy.deepcopy(model), config, steps=1, precision=precision, processes=processes
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
    model: CGD, config: TrainConfig, batch_size: int, notes: list[str], processes: Processes
) -> tuple[Precision, float | None]:
    """fp32 or bf16, and seconds a step where they were measured."""
    if config.precision is not Precision.auto:
        return config.precision, None
    if next(model.parameters()).device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return Precision.fp32, None
    full, half = (
        step_seconds(model, config, batch_size, precision, processes)
        for precision in (Precision.fp32, Precision.bf16)
    )
    chosen = Precision.bf16 if full / half >= _WORTH_IT else Precision.fp32
    notes.append(f"precision {chosen}: a step takes {full:.2f} s in fp32, {half:.2f} s in bf16")
    return chosen, half if chosen is Precision.bf16 else full


def _side(config: TrainConfig, table: ImageTable, notes: list[str]) -> int | None:
    if config.cache is Cache.none:
        return None
    free = None if config.cache is Cache.auto else 1 << 62
    pictures = [(path, table.box(i)) for i, path in enumerate(table.paths)]
    side = side_that_fits(
        pictures, lambda path, box: read_image(path, box)[0], config.image_size, free
    )
    notes.append(
        "pictures are decoded anew each time: they do not fit a quarter of the free memory"
        if side is None
        else f"pictures are decoded once and kept in memory, shorter side at most {side} px"
    )
    return side
