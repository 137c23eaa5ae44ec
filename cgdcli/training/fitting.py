"""How many steps fit the minutes asked for: computing and reading are timed, and overlap."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cgdcli.images.cache import MemoryStore
from cgdcli.launch import cores
from cgdcli.training.batches import BatchReader
from cgdcli.training.learner import Learner

# Of the minutes asked for, what goes to starting, to the end and to `best`.
_FOR_THE_REST = 0.08
# Reading is timed for so many seconds or pictures: a large PNG takes half a second.
_PATIENCE, _PICTURES = 2.0, 256
# The end of an epoch is timed so often, and so many bytes are written each time at most.
_ENDINGS, _WRITTEN = 3, 32 * 2**20
# Epochs that show every picture are worth so much of the time.
_LEFT_OVER = 0.05


@dataclass(frozen=True, order=True)
class ReadingPace:
    """What reading a picture takes, in seconds, by all threads together.

    Attributes:
        seconds: that pass. busy: of them, all cores were computing for so many.
    """

    seconds: float
    busy: float


@dataclass(frozen=True)
class StepPace:
    """Seconds of a step: of the first epoch's, which decodes, and of the others."""

    first: float
    later: float


def reading_pace(reader: BatchReader, *, keeps: bool) -> tuple[ReadingPace, ReadingPace]:
    """What reading takes in the first epoch and in later ones.

    Args:
        reader: of the run, or one like it; what it keeps pictures in is left empty.
        keeps: whether decoded pictures are kept.
    """
    reader.keep_in(MemoryStore() if keeps else None)
    anew, count = _pace(reader, _PICTURES)
    again = _pace(reader, count)[0] if keeps else anew
    reader.keep_in(None)
    return anew, again


def _pace(reader: BatchReader, most: int) -> tuple[ReadingPace, int]:
    started, before = time.perf_counter(), time.process_time()
    count = 0
    for _ in islice(reader.first_ones(), most):
        count += 1
        if time.perf_counter() - started > _PATIENCE:
            break
    passed, busy = time.perf_counter() - started, time.process_time() - before
    count = max(1, count)
    return ReadingPace(passed / count, busy / cores() / count), count


def step_pace(
    computing: float,
    pictures: int,
    reading: tuple[ReadingPace, ReadingPace],
    *,
    on_cpu: bool,
) -> StepPace:
    """What a step takes: the slower of reading its pictures and of computing, whose cores reading
    shares on a CPU.

    Args:
        computing: seconds of a step without reading.
        pictures: of a step.
    """
    first, later = (
        max(pace.seconds * pictures, computing + on_cpu * pace.busy * pictures) for pace in reading
    )
    return StepPace(first, later)


def ending_seconds(learner: Learner, pixels: Tensor, runs: Path | None) -> float:
    """What the end of an epoch takes: a look at its numbers, its checkpoint and the state.

    Of two steps of 20 small pictures an epoch it is more than they are: a ShuffleNet's steps take
    0.07 s, the look 0.04 and the files 0.09, though they are 8 MB.

    Args:
        pixels: of a step. runs: the folder of runs, or where it will be made; None: the system's
            folder for temporary files.
    """
    if learner.average is not None:
        learner.average.feed()
    writes = learner.state_bytes() + learner.model_bytes()
    found = []
    for _ in range(_ENDINGS):
        started = time.perf_counter()
        learner.gives_numbers(pixels)
        kept = learner.judged_model().state_dict()
        looked = time.perf_counter()
        written = _write(kept.values(), runs)
        found.append(looked - started + (time.perf_counter() - looked) * writes / written)
    return statistics.median(found)


def _write(tensors: Iterable[Tensor], runs: Path | None) -> int:
    """Write a network, or what of it may be written, and fsync it; the bytes.

    The file has no name, so that nothing is left of it, whatever ends the program.
    """
    parts, size = list[Tensor](), 0
    for tensor in tensors:
        parts.append(tensor.flatten()[: (_WRITTEN - size) // tensor.element_size()].clone())
        size += parts[-1].nbytes
    above = () if runs is None else (runs.absolute(), *runs.absolute().parents)
    place = next((folder for folder in above if folder.is_dir()), None)
    # A full disk is the run's to say; torch has a word of its own for it.
    with contextlib.suppress(OSError, RuntimeError), tempfile.TemporaryFile(dir=place) as stream:
        torch.save(parts, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return max(1, size)


def steps_that_fit(
    minutes: float,
    pace: StepPace,
    steps: int,
    judging: float,
    saved: float = 0.0,
    ending: float = 0.0,
) -> tuple[int, int]:
    """Epochs and steps in each: whole epochs, or, where these would leave much of the time, as
    many as there is time for, evenly spread.

    Args:
        steps: of an epoch that shows every picture.
        judging: seconds of all judgements.
        saved: seconds of a step, in the mean, that the warm phase saves.
        ending: seconds that the end of an epoch takes, and that of epoch 0.
    """
    left = max(1.0, (1 - _FOR_THE_REST) * 60 * minutes - judging - ending)
    first, later = (max(step - saved, 1e-6) for step in (pace.first, pace.later))
    if steps * first + ending >= left:
        return 1, max(2, int(max(0.0, left - ending) / first))
    left -= steps * first + ending
    more, left = divmod(left, steps * later + ending)
    epochs, over = 1 + int(more), max(0, int((left - ending) / later))
    total = epochs * steps + over
    if over <= _LEFT_OVER * total:
        return epochs, steps
    return epochs + 1, total // (epochs + 1)
