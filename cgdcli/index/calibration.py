"""What a similarity of an index means, where labels say it; kept in a small file beside the index.

`feats.calibration.json` holds, for every step of 0.001 of similarity, how many pairs of labelled
rows have it, and how many of them are of one class. It is of one state of an index: generation and
checksum say of which.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError
from cgdcli.files import write_text
from cgdcli.index.store import EmbeddingIndex

logger = logging.getLogger("cgdcli")

FORMAT = 1
BINS = 2_000  # from -1 to 1
STEP = 2 / BINS
_EDGE = 1e-6  # 0.71 is not a binary fraction

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Meaning:
    """What the pairs at or above a similarity are.

    Attributes:
        similarity: the step that it is counted from, at or above the one asked for.
        precision: the share of those pairs that are of one class; None where there are none.
        recall: the share of all pairs of one class that are among them; None where there are none.
        pairs: how many there are.
    """

    similarity: float
    precision: float | None
    recall: float | None
    pairs: int


@dataclass(frozen=True)
class Calibration:
    """Pairs of labelled rows by similarity.

    Attributes:
        pairs, same: int64 (BINS,), all pairs, and those of one class; the first of -1 to -0.999.
        rows, classes: that have a label, and how many labels.
        asked: rows that were compared with all others; fewer than `rows`: a sample, evenly spaced,
            so that a pair of two of them counts twice, as every row's neighbours do.
        generation, checksum: of the index, as its header had them.
    """

    pairs: Counts
    same: Counts
    rows: int
    classes: int
    asked: int
    generation: str
    checksum: str

    def at(self, similarity: float) -> Meaning:
        """What pairs at or above `similarity` are, counted from the next step on."""
        first = int(np.ceil((similarity + 1) / STEP - _EDGE))
        first = min(max(first, 0), BINS)
        pairs, same = int(self.pairs[first:].sum()), int(self.same[first:].sum())
        every = int(self.same.sum())
        return Meaning(
            round(first * STEP - 1, 3),
            same / pairs if pairs else None,
            same / every if every else None,
            pairs,
        )

    def at_precision(self, precision: float) -> Meaning | None:
        """The smallest similarity from which on this share of pairs is of one class; None where
        there is no such."""
        above, same = (np.cumsum(counts[::-1])[::-1] for counts in (self.pairs, self.same))
        good = np.flatnonzero((above > 0) & (same >= precision * above))
        return self.at(float(good[0]) * STEP - 1) if len(good) else None


def calibration_path(index: Path) -> Path:
    """`feats.calibration.json` of `feats.npy`."""
    return index.with_suffix(".calibration.json")


def save_calibration(index: Path, calibration: Calibration) -> Path:
    """Write it beside the index, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    values = vars(calibration) | {
        name: _without_zeros(getattr(calibration, name)) for name in ("pairs", "same")
    }
    target = calibration_path(index)
    write_text(target, json.dumps({"format": FORMAT, "step": STEP, **values}) + "\n")
    return target


def calibration_of(index: EmbeddingIndex) -> Calibration | None:
    """What was kept of this state of the index; None where nothing was.

    One of another state is not used, and a warning says so.

    Raises:
        IndexFileError: it is damaged.
    """
    file = calibration_path(index.path)
    if index.header is None or not file.is_file():
        return None
    calibration = _read(file)
    if calibration is None:
        return None
    now = (index.header.generation, index.header.checksum)
    if (calibration.generation, calibration.checksum) != now:
        logger.warning(
            "`%s` is of an earlier state of the index and not used: cgd evaluate --index %s "
            "--calibrate",
            file,
            index.path,
        )
        return None
    return calibration


def _read(file: Path) -> Calibration | None:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT or values.pop("step") != STEP:
            logger.warning("`%s` is of another version of cgd and not used", file)
            return None
        found = Calibration(**values)
        return replace(found, pairs=_counts(values["pairs"]), same=_counts(values["same"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFileError(
            f"`{file}` is damaged: {error}",
            hint="remove it, and measure again: cgd evaluate --index ... --calibrate",
        ) from error


def _without_zeros(counts: Counts) -> list[list[int]]:
    """[bin, count] of those that are not zero."""
    return [[int(i), int(counts[i])] for i in np.flatnonzero(counts)]


def _counts(pairs: Sequence[Sequence[int]]) -> Counts:
    counts = np.zeros(BINS, np.int64)
    for place, count in pairs:
        if not 0 <= place < BINS or count < 0:
            raise ValueError(f"a count of {count} at step {place}")
        counts[place] = count
    return counts
