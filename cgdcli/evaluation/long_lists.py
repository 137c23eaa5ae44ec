"""Which rows are right, down to the last one, for a query that has many of its label.

Shape letters: Q queries, B of them in a block, N rows that are searched, D dimensions.

`index.exact.nearest` scores again in float64 whatever may be among the first k, pair by pair: a
little work where k is small, all the work there is where it is half of the index. Here the products
are float64 at once, by blocks, and only rows that rounding could have put into the wrong order are
scored again, by the same kernel. So the order is that of `nearest`: equal similarities by row.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ScanConfig
from cgdcli.index.scanning import PickedRows, Rows, check_files
from cgdcli.launch import cores

Float = NDArray[np.float64]

# A sum of D products of unit rows is at most D times half of this from the true one, whatever order
# they are added in; two such sums are compared, each made in two ways.
ROUNDING = 4 * np.finfo(np.float64).eps
_NEVER = 2.0  # stands for the falling similarity of a row that is hidden: behind all others


@dataclass(frozen=True)
class Searched:
    """What is searched: (N, D) unit rows, float32 or float16, and their labels, int (N,)."""

    rows: Rows | PickedRows
    labels: NDArray[np.integer]


def right_in_order(
    queries: NDArray[Any],
    labels: NDArray[np.integer],
    searched: Searched,
    hidden: Sequence[Collection[int]],
    config: ScanConfig | None = None,
) -> Iterator[NDArray[np.bool_]]:
    """For each query whether rows have its label, bool (N,), the most similar first.

    Args:
        queries, labels: (Q, D) unit rows, and int (Q,).
        hidden: for each query rows that are not looked at; they come last, as if not right.
        config: memory for scores and blocks of rows; threads that sort.

    Raises:
        IndexFileError: the rows' file became shorter.
    """
    config = config or ScanConfig()
    count, dim = searched.rows.shape
    at_once = max(1, config.max_memory // 2 // (8 * count))
    block = max(1, config.max_memory // 4 // (16 * dim))
    with ThreadPoolExecutor(config.threads or cores()) as pool:
        for first in range(0, len(queries), at_once):
            check_files(searched.rows)
            asked_BD = np.asarray(queries[first : first + at_once], np.float32).astype(np.float64)
            falling_BN = _falling(asked_BD, searched.rows, block)
            for place, number in enumerate(range(first, first + len(asked_BD))):
                falling_BN[place, list(hidden[number])] = _NEVER
            look = partial(_right_of_one, searched=searched, block=block)
            part = labels[first : first + at_once]
            yield from pool.map(look, asked_BD, falling_BN, part)


def _falling(asked_BD: Float, rows: Rows | PickedRows, block: int) -> Float:
    """Minus the similarities (B, N): numpy sorts upwards."""
    found_BN = np.empty((len(asked_BD), len(rows)))
    for start in range(0, len(rows), block):
        part = np.asarray(rows[start : start + block], dtype=np.float64)
        np.matmul(-asked_BD, part.T, out=found_BN[:, start : start + block])
    return found_BN


def _right_of_one(
    asked: Float, falling: Float, label: int, *, searched: Searched, block: int
) -> NDArray[np.bool_]:
    right = (searched.labels == label) & (falling != _NEVER)
    order = np.argsort(falling)
    values = falling[order]
    close = np.diff(values) <= ROUNDING * len(asked)
    mixed = close & (right[order][:-1] != right[order][1:])
    if mixed.any():  # else no other order of what is close would show
        run_of = np.concatenate([[0], np.cumsum(~close)])
        places = np.flatnonzero(np.isin(run_of, run_of[:-1][mixed]))
        again = order[places]
        exact = _exact(asked, searched.rows, again, block)
        order[places] = again[np.lexsort((again, -exact, run_of[places]))]
    found: NDArray[np.bool_] = right[order]
    return found


def _exact(asked: Float, rows: Rows | PickedRows, numbers: NDArray[np.int64], block: int) -> Float:
    """Similarities as `index.exact` has them."""
    found = np.empty(len(numbers))
    for start in range(0, len(numbers), block):
        part = slice(start, start + block)
        found[part] = np.vecdot(asked, np.asarray(rows[numbers[part]], dtype=np.float64))
    return found
