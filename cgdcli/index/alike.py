"""Which rows of an index are alike: groups, and what can be said of one, in bounded memory.

Two rows at or above a threshold are connected, and a group is a connected component (union-find):
so two members may be below it, joined by others between them. How far that went is what a group's
smallest similarity says.

No pair is kept. Rows equal in every bit are joined first, by a hash, and stand for one row; of the
others each pair is computed once, block by block of the upper triangle, and joins two components
or is forgotten. What grows with N is less than 100 bytes a row.

Shape letters: N rows, M members of a group, A and B rows of two blocks, D dimensions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.index.exact import TIE_BAND
from cgdcli.index.scanning import Rows

Places = NDArray[np.int64]
OnProgress = Callable[[int, int, int], None]
"""Called with rows done, as far as their share of the pairs goes, rows in all, and 0."""

BLOCK_A, BLOCK_B = 2_048, 8_192  # 64 MB of products
MEASURED = 4_096  # members of a group whose pairs are all measured; of more, so many
_PAIRS_AT_ONCE = 524_288
_VALUES_AT_ONCE = 4_000_000  # 32 MB in float64
_READ_AT_ONCE = 8_192


class Components:
    """Union-find over `count` numbers; the smallest number of a component is its root."""

    def __init__(self, count: int) -> None:
        self.parent: Places = np.arange(count, dtype=np.int64)

    def roots(self, numbers: Places) -> Places:
        """The root of each, which they then point to."""
        found = self.parent[numbers]
        while True:
            above = self.parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self.parent[numbers] = found
        return found

    def join(self, first: Places, second: Places) -> None:
        """Make one component of those of `first[i]` and `second[i]`, for each i."""
        while len(first):
            a, b = self.roots(first), self.roots(second)
            apart = a != b
            first, second = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
            # A root points to a smaller number alone, so that there is no way round in a circle; of
            # several that it is joined to now, to one, and the next turn sees to the others.
            self.parent[second] = first


def groups_of(components: Components) -> list[Places]:
    """The components of more than one number, each ascending, by their smallest."""
    roots = components.roots(np.arange(len(components.parent)))
    sizes = np.bincount(roots, minlength=1)
    inside = np.flatnonzero(sizes[roots] > 1)
    inside = inside[np.argsort(roots[inside], kind="stable")]
    if not len(inside):
        return []
    starts = np.flatnonzero(np.diff(roots[inside])) + 1
    return np.split(inside, starts)


def connect_alike(
    rows: Rows,
    threshold: float,
    components: Components,
    *,
    on_progress: OnProgress | None = None,
    blocks: tuple[int, int] = (BLOCK_A, BLOCK_B),
) -> None:
    """Join rows (N, D) whose similarity is at least `threshold`, and rows that are equal.

    Float32 products decide, but for those within `TIE_BAND` of the threshold, which are computed
    again in float64: the answer does not depend on blocks.
    """
    first = first_equal(rows)
    components.join(first, np.arange(len(rows)))
    distinct = np.flatnonzero(first == np.arange(len(rows)))
    count = len(distinct)
    whole = count == len(rows)

    def block(start: int, size: int) -> NDArray[np.float32]:
        part = slice(start, start + size)
        found = rows[part] if whole else rows[distinct[part]]
        return np.ascontiguousarray(found, dtype=np.float32)

    for start_a in range(0, count, blocks[0]):
        rows_A = block(start_a, blocks[0])
        for start_b in range(start_a, count, blocks[1]):
            rows_B = rows_A if count <= blocks[0] else block(start_b, blocks[1])
            _connect_blocks(
                (rows_A, distinct[start_a : start_a + len(rows_A)]),
                (rows_B, distinct[start_b : start_b + len(rows_B)]),
                threshold,
                components,
            )
        if on_progress is not None:
            left = 1 - min(count, start_a + blocks[0]) / count
            on_progress(round(len(rows) * (1 - left * left)), len(rows), 0)


def first_equal(rows: Rows) -> Places:
    """For each row the number of the first one that has its bits, often its own; int64 (N,).

    By a hash of 64 bits (words times fixed random weights), then compared.
    """
    hashes = np.empty(len(rows), np.uint64)
    weights = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64) * 2 + 1
    for start in range(0, len(rows), _READ_AT_ONCE):
        words = _words(rows[start : start + _READ_AT_ONCE]).astype(np.uint64)
        hashes[start : start + len(words)] = words @ weights
    first = first_of(hashes)
    copies = np.flatnonzero(first != np.arange(len(rows)))
    for start in range(0, len(copies), _READ_AT_ONCE):
        part = copies[start : start + _READ_AT_ONCE]
        equal = (_words(rows[part]) == _words(rows[first[part]])).all(axis=1)
        first[part[~equal]] = part[~equal]
    return first


def first_of(values: NDArray[Any]) -> Places:
    """For each value the place of the first that equals it; int64 (N,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def extremes(rows: Rows, members: Places) -> tuple[float, float]:
    """The smallest and the largest similarity of two members of a group.

    Of a group of more than `MEASURED`, so many of them, evenly spaced.
    """
    if len(members) > MEASURED:
        members = members[np.linspace(0, len(members) - 1, MEASURED).astype(np.int64)]
    every = np.ascontiguousarray(rows[members], dtype=np.float32)
    low, high = np.inf, -np.inf
    for start in range(0, len(every), 512):
        part = every[start : start + 512]
        scores = part @ every[start:].T
        later = np.arange(scores.shape[1])[None] > np.arange(len(part))[:, None]
        low = min(low, float(scores.min(initial=np.inf, where=later)))
        high = max(high, float(scores.max(initial=-np.inf, where=later)))
    return max(-1.0, min(1.0, low)), max(-1.0, min(1.0, high))


def keepers(rows: Rows, members: Places, threshold: float) -> tuple[Places, NDArray[np.float64]]:
    """Which members of a group are kept, so that each other is at least `threshold` similar to one.

    Of a chain the first and the last may be unlike each other. The first member is kept for all
    that are as similar to it, the first of the rest for those of the rest, and so on.

    Args:
        members: (M,) rows, those to be kept rather first.

    Returns:
        For each member the place in `members` of the one that is kept for it, its own where that
        is itself, int64 (M,); and its similarity to that one, float64 (M,).
    """
    kept, similarity = np.arange(len(members)), np.ones(len(members))
    left = np.arange(len(members))
    while len(left):
        scores = _similarities(rows, members[left[0]], members[left])
        # A row of length 1 - 1e-6 and its equal are alike, also at a threshold of 1.
        near = scores >= min(threshold, scores[0])
        kept[left[near]], similarity[left[near]] = left[0], scores[near]
        similarity[left[0]] = 1.0
        left = left[~near]
    return kept, np.clip(similarity, -1, 1)


def _connect_blocks(
    block: tuple[NDArray[np.float32], Places],
    other: tuple[NDArray[np.float32], Places],
    threshold: float,
    components: Components,
) -> None:
    """Join what is alike in two blocks (rows, numbers), some lines of products after the others."""
    (rows_A, numbers_A), (rows_B, numbers_B) = block, other
    scores_AB = rows_A @ rows_B.T
    lines = np.flatnonzero(scores_AB.max(axis=1) >= threshold - TIE_BAND)
    at_once = max(1, _PAIRS_AT_ONCE // len(rows_B))
    for start in range(0, len(lines), at_once):
        part = lines[start : start + at_once]
        # Where all rows are alike, nearly all pairs are of one component, and end here.
        roots_a, roots_b = components.roots(numbers_A[part]), components.roots(numbers_B)
        apart = roots_a[:, None] != roots_b[None]
        line, b = np.nonzero(apart & (scores_AB[part] >= threshold - TIE_BAND))
        a = part[line]
        once = numbers_A[a] < numbers_B[b]
        a, b = a[once], b[once]
        sure = scores_AB[a, b] >= threshold + TIE_BAND
        sure[~sure] = _exact(rows_A, rows_B, a[~sure], b[~sure]) >= threshold
        components.join(numbers_A[a[sure]], numbers_B[b[sure]])


def _exact(
    rows: NDArray[np.float32], others: NDArray[np.float32], a: Places, b: Places
) -> NDArray[np.float64]:
    found = np.empty(len(a))
    pairs = max(1, _VALUES_AT_ONCE // rows.shape[1])
    for start in range(0, len(a), pairs):
        part = slice(start, start + pairs)
        found[part] = np.vecdot(
            rows[a[part]].astype(np.float64), others[b[part]].astype(np.float64)
        )
    return found


def _similarities(rows: Rows, row: int, others: Places) -> NDArray[np.float64]:
    one = np.asarray(rows[int(row)], dtype=np.float64)
    found = np.empty(len(others))
    at_once = max(1, _VALUES_AT_ONCE // len(one))
    for start in range(0, len(others), at_once):
        part = slice(start, start + at_once)
        found[part] = np.vecdot(one, np.asarray(rows[others[part]], dtype=np.float64))
    return found


def _words(rows: NDArray[Any]) -> NDArray[Any]:
    """The bits of float32 or float16 as whole numbers."""
    return np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
