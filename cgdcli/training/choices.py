"""What a run decides by measuring before its first step; a resumed run keeps it."""

import copy
import functools
import logging
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cgdcli.config import Precision, TrainConfig
from cgdcli.config.checks import AUTO
from cgdcli.datasets.reading import TrainingData
from cgdcli.images.cache import SIDE
from cgdcli.model.cgd import CGD
from cgdcli.training.batches import BatchReader, shared_batches
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.fitting import (
    ReadingPace,
    ending_seconds,
    reading_pace,
    step_pace,
    steps_that_fit,
)
from cgdcli.training.learner import Learner
from cgdcli.training.memory import batch_words, largest_batch, memory_in_words, random_batch
from cgdcli.training.sampler import ClassBatches
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")

Paces = tuple[ReadingPace, ReadingPace]
"""Of the first epoch, and of later ones."""

_TIMED, _WARMUP = 3, 1
_STEPS = 100  # of a run of so many the last is timed: one in which all learns
# bf16 must be so much faster to be taken: it costs precision.
_WORTH_IT = 1.05
_SLOW_TO_READ = ", which is how fast they are read"
# The end of an epoch is said where it takes so much of an epoch's steps.
_SLOW_TO_END = 0.1
# A judged picture, and one of the warm phase, costs the backbone's forward pass, any other about
# three of them. Measured on ResNet-18 at 112 px, two cores, bf16: 630 and 185 pictures a second.
FORWARD_ALONE = 1 / 3


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


def decide(
    model: CGD,
    config: TrainConfig,
    data: TrainingData,
    *,
    kept: Choices | None = None,
    changed: Collection[str] = (),
    keeps: bool = True,
    runs: Path | None = None,
    processes: Processes = ALONE,
) -> tuple[ClassBatches, Choices]:
    """The batches of a run, and all that is measured for it; the batch size first, since the
    number of steps depends on it.

    Args:
        model: on the device it will be trained on; it stays as it is.
        kept: what a run that is taken up decided before.
        changed: the settings that are others than they were then, by name.
        keeps: whether decoded pictures are kept.
        runs: the folder that the run's will be made in, to time its disk; as `ending_seconds`.

    Raises:
        TrainingError: a step does not fit the memory, or cannot be compiled.
    """
    size, said = choose_batch_size(model, config, kept, changed, processes)
    batches = shared_batches(data.train, config, size, processes)
    given = (model, config, batches.batch_size, batches.steps)
    with memory_in_words(batches.batch_size, next(model.parameters()).device, ""):
        if kept is None:
            reader = BatchReader(
                data.train,
                batches,
                config,
                picture_side(config),
                skipped=_Unsaid(),
                processes=processes,
            )
            paces = functools.partial(reading_pace, reader, keeps=keeps)
            ends = functools.partial(_ending_seconds, model, config, size, runs, processes)
            choices = choose(*given, len(data.val), processes, reading=paces, ending=ends)
        else:
            choices = choose_again(kept, changed, *given, processes)
    batches.steps = choices.steps
    return batches, replace(choices, batch_size=size, notes=(*said, *choices.notes))


def choose_batch_size(
    model: CGD,
    config: TrainConfig,
    kept: Choices | None,
    changed: Collection[str],
    processes: Processes = ALONE,
) -> tuple[int, tuple[str, ...]]:
    """The batch size asked for, or measured once; and what to say of it.

    Args:
        kept, changed: as `choose_again` takes them; None and nothing for a new run.
        processes: share each batch; what fits the memory of every one of them is taken.
    """
    if config.batch_size != AUTO:
        return config.batch_size, ()
    if kept is not None and "batch_size" not in changed:
        return kept.batch_size, ()
    own = processes.together(lambda: largest_batch(model, config, shares=processes.size))
    size = min(processes.gather(own))
    return size, (batch_words(config, size),)


def choose(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    steps: int,
    judged: int,
    processes: Processes = ALONE,
    *,
    reading: Callable[[], Paces] = lambda: (ReadingPace(0, 0), ReadingPace(0, 0)),
    ending: Callable[[Precision], float] = lambda _: 0.0,
) -> Choices:
    """Decide on a model that stays as it is.

    Args:
        model: on the device it will be trained on.
        batch_size, steps: of an epoch that shows every picture.
        judged: pictures of one evaluation.
        processes: measure together, since they share cores and wait for each other; what the
            first one decides holds.
        reading: measures what reading pictures takes; asked only where the time is short.
        ending: likewise what the end of an epoch takes, in seconds.
    """
    chosen = _choose(model, config, batch_size, steps, judged, processes, reading, ending)
    return processes.on_first(lambda: chosen)


def _choose(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    steps: int,
    judged: int,
    processes: Processes,
    reading: Callable[[], Paces],
    ending: Callable[[Precision], float],
) -> Choices:
    notes: list[str] = []
    precision, seconds = _precision(model, config, batch_size, notes, processes)
    if config.compile:
        seconds = _compiled_seconds(model, config, batch_size, precision, seconds, notes, processes)
    epochs = config.epochs
    if config.minutes:
        if seconds is None:
            seconds = step_seconds(model, config, batch_size, precision, processes)
        found = processes.gather(reading())
        slowest = max(anew for anew, _ in found), max(again for _, again in found)
        own = -(-batch_size // processes.size)
        on_cpu = next(model.parameters()).device.type == "cpu"
        pace = step_pace(seconds, own, slowest, on_cpu=on_cpu)
        look = step_pace(FORWARD_ALONE * seconds, own, slowest, on_cpu=on_cpu)
        saved = (1 - FORWARD_ALONE) * config.resting * seconds  # a step, in the mean
        once = look.first * judged / batch_size
        end = ending(precision)
        fit = functools.partial(
            steps_that_fit, config.minutes, pace, steps, saved=saved, ending=end
        )
        epochs, _ = fit(judging=config.evaluations * once)
        # A short run is judged once an epoch at most.
        epochs, steps = fit(judging=min(epochs, config.evaluations) * once)
        notes.append(
            f"{config.minutes:g} minutes at {batch_size / pace.later:.0f} pictures/s"
            f"{_SLOW_TO_READ * (pace.later > 2 * seconds)}"
            f"{f', {end:.2f} s to end an epoch' * (end > _SLOW_TO_END * steps * pace.later)}: "
            f"{counted(epochs, 'epoch')} of {counted(steps, 'step')}"
        )
    return Choices(precision, picture_side(config), epochs, steps, batch_size, tuple(notes))


class _Unsaid(dict[Path, str]):
    """Pictures that cannot be read: the run itself says which."""

    def __contains__(self, path: object) -> bool:
        return True


def choose_again(
    kept: Choices,
    changed: Collection[str],
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    steps: int,
    processes: Processes = ALONE,
) -> Choices:
    """What a run decided before; what a changed setting tells on is decided anew.

    Args:
        changed: names of settings. The others are as `choose` takes them.
    """
    notes: list[str] = []
    precision, epochs = kept.precision, kept.epochs
    if "precision" in changed:
        precision, _ = _precision(model, config, batch_size, notes, processes)
    if {"epochs", "minutes"} & set(changed):  # minutes can only have become epochs
        epochs = config.epochs
    elif config.minutes:
        steps = min(steps, kept.steps)
    side = picture_side(config, kept, changed)
    chosen = Choices(precision, side, epochs, steps, batch_size, tuple(notes))
    return processes.on_first(lambda: chosen)


def step_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    precision: Precision,
    processes: Processes = ALONE,
    *,
    is_compiled: bool = False,
) -> float:
    """Median seconds of a step of a copy of the model, past the warm phase, `batch_size` pictures
    shared among the processes; without reading them."""
    pixels, labels = random_batch(config, processes.part(batch_size), model.config.classes)
    learner = Learner(
        copy.deepcopy(model),
        config,
        steps=_STEPS,
        precision=precision,
        compiled_for=batch_size if is_compiled else None,
        processes=processes,
    )
    learner.to_training()
    seconds = []
    for _ in range(_WARMUP + _TIMED):
        started = time.perf_counter()
        learner.step(pixels, labels, _STEPS - 1)
        if learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_WARMUP:])


def _ending_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    runs: Path | None,
    processes: Processes,
    precision: Precision,
) -> float:
    """Of an epoch, of a copy of the model; the first process measures, since it alone writes."""

    def measure() -> float:
        pixels, _ = random_batch(config, processes.part(batch_size), model.config.classes)
        copied = copy.deepcopy(model)
        learner = Learner(copied, config, steps=_STEPS, precision=precision)
        return ending_seconds(learner, pixels, runs)

    return processes.on_first(measure)


def _precision(
    model: CGD, config: TrainConfig, batch_size: int, notes: list[str], processes: Processes
) -> tuple[Precision, float | None]:
    """fp32 or bf16, and seconds a step where they were measured."""
    if config.precision is not Precision.auto:
        return config.precision, None
    device = next(model.parameters()).device
    if not all(processes.gather(has_bf16(device))):
        notes.append(f"precision fp32: this {device.type} has no bf16")
        return Precision.fp32, None
    full, half = (
        step_seconds(model, config, batch_size, precision, processes)
        for precision in (Precision.fp32, Precision.bf16)
    )
    chosen = Precision.bf16 if full / half >= _WORTH_IT else Precision.fp32
    notes.append(f"precision {chosen}: a step takes {full:.2f} s in fp32, {half:.2f} s in bf16")
    return chosen, half if chosen is Precision.bf16 else full


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for it.

    PyTorch computes it without them, too: on an EPYC without AVX-512 a step of 128 pictures of 64
    pixels takes 47 s, in fp32 4 s.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities().items()  # avx512_bf16, amx_bf16; on ARM bf16
    return device.type == "cpu" and any(has for name, has in found if "bf16" in name)


def _compiled_seconds(
    model: CGD,
    config: TrainConfig,
    batch_size: int,
    precision: Precision,
    plain: float | None,
    notes: list[str],
    processes: Processes,
) -> float:
    """Of a compiled step. Whoever asks for it gets it, and is told what it brings."""
    if plain is None:
        plain = step_seconds(model, config, batch_size, precision, processes)
    seconds = step_seconds(model, config, batch_size, precision, processes, is_compiled=True)
    notes.append(f"compiled: a step takes {seconds:.2f} s, {plain:.2f} s as it is")
    if seconds > plain and processes.first:
        logger.warning("--compile makes a step slower here; leave it out")
    return seconds


def picture_side(
    config: TrainConfig, kept: Choices | None = None, changed: Collection[str] = ()
) -> int:
    """The same on every machine: what is kept where does not tell on the result."""
    if kept is not None and "image_size" not in changed:
        return kept.side
    return round(SIDE * config.image_size)
