"""Job: what the similarities of an index mean, counted over pairs of its labelled rows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import DatasetError
from cgdcli.evaluation.of_index import labelled_rows
from cgdcli.index.calibration import BINS, Calibration, Counts, save_calibration
from cgdcli.index.scanning import PickedRows, Rows
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.reports import CalibrationPoint, CalibrationReport

PRECISIONS = (0.5, 0.75, 0.9, 0.95, 0.99)
# All pairs of so many rows, 1.25e9, take half a minute at 512 dimensions; of more, a sample.
EXACT_ROWS, SAMPLED_ROWS = 50_000, 10_000
BLOCK_A, BLOCK_B = 1_024, 8_192  # 32 MB of products, and as much again of bins, twice

OnProgress = Callable[[int, int, int], None]


def calibrate_index(
    index: EmbeddingIndex | Path | str, *, on_progress: OnProgress | None = None
) -> CalibrationReport:
    """Count pairs of labelled rows by similarity, and keep that beside the index.

    The share of pairs above a similarity that are of one class depends on how many pairs are: of
    98 classes of 30 one pair in a hundred is, of a thousand classes one in a thousand. So it is a
    statement about this index, over all its pairs, and not about the nearest hits of a query.

    Up to 50 000 rows all pairs are counted; of more, 10 000 rows, evenly spaced, against all.

    Raises:
        DatasetError: no row has a label, or no two have the same.
        OutputError: it cannot be written beside the index.
    """
    opened = open_index(index)
    labelled = labelled_rows(opened)
    assert opened.header is not None  # labels are in a table
    _, label_N = np.unique(np.array(labelled.labels), return_inverse=True)
    if np.bincount(label_N).max() < 2:
        raise DatasetError(
            f"no two rows of `{opened.path}` have the same label, so that nothing says which pairs "
            "belong together",
            hint="embed folders of classes with more than one picture each",
        )
    pairs, same, asked = count_pairs(labelled.rows, label_N, on_progress=on_progress)
    classes = int(label_N.max()) + 1
    calibration = Calibration(
        pairs,
        same,
        len(label_N),
        classes,
        asked,
        opened.header.generation,
        opened.header.checksum,
    )
    file = save_calibration(opened.path, calibration)
    return CalibrationReport(
        index=opened.path,
        file=str(file),
        rows=len(label_N),
        classes=classes,
        asked=asked,
        pairs=int(pairs.sum()),
        same=int(same.sum()),
        points=tuple(_point(calibration, precision) for precision in PRECISIONS),
    )


def count_pairs(
    rows: Rows | PickedRows,
    labels: NDArray[np.integer],
    *,
    exact_rows: int = EXACT_ROWS,
    sampled_rows: int = SAMPLED_ROWS,
    on_progress: OnProgress | None = None,
) -> tuple[Counts, Counts, int]:
    """Pairs of unit rows (N, D) with `labels` (N,) by similarity: all, and those of one label.

    Returns:
        Both counts, int64 (BINS,), and how many rows were compared with all others: N, each pair
        then once, or a sample, each with every other row.
    """
    count, pairs, same = len(rows), np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    asked = np.arange(count)
    if count > exact_rows:
        asked = np.linspace(0, count - 1, sampled_rows).astype(np.int64)
    for start in range(0, len(asked), BLOCK_A):
        part = asked[start : start + BLOCK_A]
        rows_A = np.ascontiguousarray(rows[part], dtype=np.float32)
        for block in _blocks(start if len(asked) == count else 0, count):
            scores_AB = rows_A @ np.ascontiguousarray(rows[block], dtype=np.float32).T
            bins_AB = np.clip((scores_AB + 1) * (BINS // 2), 0, BINS - 1).astype(np.int64)
            same_AB = labels[part, None] == labels[None, block]
            numbers = np.arange(block.start, block.start + scores_AB.shape[1])
            if len(asked) < count:
                wanted = numbers[None] != part[:, None]
            elif block.start < start + BLOCK_A:
                wanted = numbers[None] > part[:, None]
            else:
                pairs += np.bincount(bins_AB.ravel(), minlength=BINS)
                same += np.bincount(bins_AB[same_AB], minlength=BINS)
                continue
            pairs += np.bincount(bins_AB[wanted], minlength=BINS)
            same += np.bincount(bins_AB[wanted & same_AB], minlength=BINS)
        if on_progress is not None:
            done = min(len(asked), start + BLOCK_A) / len(asked)
            share = 1 - (1 - done) ** 2 if len(asked) == count else done
            on_progress(round(count * share), count, 0)
    return pairs, same, len(asked)


def _blocks(start: int, count: int) -> Iterator[slice]:
    for first in range(start, count, BLOCK_B):
        yield slice(first, min(count, first + BLOCK_B))


def _point(calibration: Calibration, precision: float) -> CalibrationPoint:
    found = calibration.at_precision(precision)
    if found is None:
        return CalibrationPoint(precision, None, None, 0)
    return CalibrationPoint(precision, found.similarity, found.recall, found.pairs)
