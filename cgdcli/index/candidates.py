"""Which scores of a block may be among a query's best k.

Shape letters: Q queries, B rows of one block, K kept.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
RowsOf = Callable[[Ids], NDArray[Any]]
"""Rows of the block, by number."""

# The largest difference seen between a float32 product of unit rows and the exact one is 5.3e-7
# (256 000 pairs each at 512 to 4096 dimensions): a candidate this near the k-th may precede it.
TIE_BAND = 1e-5
_LOWEST = np.finfo(np.float32).min  # of what is no exclusion's -inf
# So many more of a query than k, or than twice k, are no matter.
_FEW_MORE, _MORE = 32, 64
# To tell equal rows takes as long as to score each of them for so many queries.
_SCORED_MEANWHILE = 4
_HASHED_AT_ONCE = 512


class Scores:
    """Memory for the scores of a block, used again for each; a thread's own.

    New memory for each block would cost a page fault every 4 kB: a third of a product's time.
    """

    def __init__(self, queries: int, rows: int) -> None:
        self._scores = np.empty(queries * rows, np.float32)
        self._wanted = np.empty(queries * rows, np.bool_)

    def of(self, queries: int, rows: int) -> NDArray[np.float32]:
        """(queries, rows), contiguous, until the next call."""
        return self._scores[: queries * rows].reshape(queries, rows)

    def candidates(
        self,
        scores_QB: NDArray[np.float32],
        kept_QK: NDArray[np.float64],
        rows_of: RowsOf,
        most: int,
    ) -> Iterator[tuple[Ids, Ids]]:
        """Where a score may be among the best k: its query and its row in the block, at most
        `most` at a time, by query and row.

        A block rarely has many, once k are known; only where it has, its own k-th is looked for,
        which takes as long as half of the products. If there are many even so, it is because rows
        are equal, nearly always.
        """
        (queries, rows), k = scores_QB.shape, kept_QK.shape[1]
        floor_Q = np.maximum(kept_QK[:, -1] - TIE_BAND, _LOWEST).astype(np.float32)
        wanted = self._wanted[: scores_QB.size].reshape(queries, rows)
        unknown = np.flatnonzero(floor_Q == _LOWEST) if k < rows else ()
        for place in unknown:
            floor_Q[place] = _kth_floor(scores_QB[place], k)
        np.greater_equal(scores_QB, floor_Q[:, None], out=wanted)
        if k < rows and np.count_nonzero(wanted) > queries * (k + _FEW_MORE):
            for query in range(queries):
                if np.count_nonzero(wanted[query]) > 2 * k + _MORE:
                    floor = max(_kth_floor(scores_QB[query], k), floor_Q[query])
                    np.greater_equal(scores_QB[query], floor, out=wanted[query])
            if np.count_nonzero(wanted) > max(queries * (2 * k + _MORE), _SCORED_MEANWHILE * rows):
                _leave_first_of_equal(wanted, rows_of, k)
        return _pairs(wanted, most)


def _kth_floor(scores: NDArray[np.float32], k: int) -> np.float32:
    """Below it none of these is among their best k, whatever was rounded."""
    kth = np.partition(scores, -k)[-k]
    return np.float32(max(kth - np.float32(TIE_BAND), _LOWEST))


def _leave_first_of_equal(wanted_QB: NDArray[np.bool_], rows_of: RowsOf, k: int) -> None:
    """Of rows that are equal, only the first k that a query wants can be among its best k."""
    places = np.flatnonzero(wanted_QB.any(axis=0))
    equal = _groups(places, rows_of)
    order = np.argsort(equal, kind="stable")
    starts = np.flatnonzero(np.diff(equal[order], prepend=-1))
    lengths = np.diff(starts, append=len(order))
    places = places[order]
    for wanted in wanted_QB:
        there = wanted[places]
        seen = np.cumsum(there)
        before = np.repeat(seen[starts] - there[starts], lengths)
        wanted[places] = there & (seen - before <= k)


def _groups(places: Ids, rows_of: RowsOf) -> Ids:
    """The same number for rows of the same bytes; rows are read some at a time."""
    numbers: dict[bytes, int] = {}
    groups = []
    for first in range(0, len(places), _HASHED_AT_ONCE):
        for row in np.ascontiguousarray(rows_of(places[first : first + _HASHED_AT_ONCE])):
            digest = blake2b(row.data, digest_size=16).digest()
            groups.append(numbers.setdefault(digest, len(numbers)))
    return np.array(groups, dtype=np.int64)


def _pairs(wanted_QB: NDArray[np.bool_], most: int) -> Iterator[tuple[Ids, Ids]]:
    """Query and row of what is wanted: of as many queries as have up to `most`, or parts of one."""
    ends = np.cumsum(np.count_nonzero(wanted_QB, axis=1))
    first, done = 0, 0
    while first < len(ends) and done < ends[-1]:
        last = max(first + 1, int(np.searchsorted(ends, done + most, side="right")))
        found = np.flatnonzero(wanted_QB[first:last])
        for start in range(0, len(found), most):
            part = found[start : start + most]
            yield part // wanted_QB.shape[1] + first, part % wanted_QB.shape[1]
        first, done = last, int(ends[last - 1])
