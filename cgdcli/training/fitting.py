"""How many steps fit the minutes asked for: computing and reading are timed, and overlap."""

import time
from dataclasses import dataclass
from itertools import islice
from math import ceil

from cgdcli.images.cache import MemoryStore
from cgdcli.launch import cores
from cgdcli.training.batches import BatchReader

# Of the minutes asked for, what goes to starting, judging and writing besides the steps.
_FOR_THE_REST = 0.08
# Reading is timed for so many seconds or pictures: a large PNG takes half a second.
_PATIENCE, _PICTURES = 2.0, 256
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


def steps_that_fit(
    minutes: float, pace: StepPace, steps: int, judging: float, saved: float = 0.0
) -> tuple[int, int]:
    """Epochs and steps in each: whole epochs, or, where these would leave much of the time, as
    many as there is time for, evenly spread.

    Args:
        steps: of an epoch that shows every picture.
        judging: seconds of all judgements.
        saved: seconds of a step, in the mean, that the warm phase saves.
    """
    left = max(1.0, (1 - _FOR_THE_REST) * 60 * minutes - judging)
    first = steps * max(pace.first - saved, 1e-6)
    if first >= left:
        return 1, max(2, int(left * steps / first))
    total = steps + int((left - first) / max(pace.later - saved, 1e-6))
    if total % steps <= _LEFT_OVER * total:
        return total // steps, steps
    epochs = ceil(total / steps)
    return epochs, total // epochs
