"""Exact nearest rows in bounded memory.

Shape letters: Q queries, N rows of the gallery, B rows of one block, D dimensions, K kept.

Float32 products order the rows roughly; whatever may belong to the best k is scored again in
float64 and sorted by (similarity, row). So the answer does not depend on block sizes, and equal
rows come in row order: a matrix product's last bit differs with a row's place in the block.
"""

import numpy as np
from numpy.typing import NDArray

from cgdcli.index.parted_rows import PartedRows

Float = NDArray[np.floating]
Ids = NDArray[np.int64]

GALLERY_BLOCK = 16_384
QUERY_BLOCK = 256
# The largest difference seen between a float32 product of unit rows and the exact one is 5.3e-7
# (256 000 pairs each at 512 to 4096 dimensions): a candidate this near the k-th may precede it.
TIE_BAND = 1e-5
_VALUES_AT_ONCE = 8_000_000  # 64 MB in float64, twice


def nearest(
    queries: Float,
    gallery: Float | PartedRows,
    k: int,
    *,
    exclude: list[set[int]] | None = None,
    gallery_block: int = GALLERY_BLOCK,
    query_block: int = QUERY_BLOCK,
) -> tuple[NDArray[np.float64], Ids]:
    """The `k` rows most similar to each query, best first, equal ones by row.

    Args:
        queries: (Q, D) unit rows.
        gallery: (N, D) unit rows, float32 or float16; may be memory-mapped, and in parts.
        k: at least 1; K = min(k, N) are returned.
        exclude: for each query, rows that are not returned to it.

    Returns:
        Similarities float64 (Q, K), falling along a row, and row numbers int64 (Q, K). Where
        exclusions leave fewer than K, the rest is -inf and -1.

    Raises:
        ValueError: k below 1, or dimensions that differ.
    """
    if k < 1 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"want k >= 1 and equal dimensions; got k={k}, {queries.shape} and {gallery.shape}"
        )
    k = min(k, len(gallery))
    similarities = np.full((len(queries), k), -np.inf)
    ids = np.full((len(queries), k), -1, dtype=np.int64)
    for first in range(0, len(queries), query_block):
        part = slice(first, first + query_block)
        _search_block(
            np.ascontiguousarray(queries[part], dtype=np.float32),
            gallery,
            exclude[part] if exclude else None,
            (similarities[part], ids[part]),
            gallery_block,
        )
    return similarities, ids


def _search_block(
    queries: NDArray[np.float32],
    gallery: Float | PartedRows,
    exclude: list[set[int]] | None,
    best: tuple[NDArray[np.float64], Ids],
    block: int,
) -> None:
    """Fill `best` (similarities, ids) for one block of queries, gallery block by gallery block."""
    similarities = best[0]
    k = similarities.shape[1]
    for start in range(0, len(gallery), block):
        rows = np.ascontiguousarray(gallery[start : start + block], dtype=np.float32)
        scores_QB = queries @ rows.T
        for query, hidden in enumerate(exclude or ()):
            inside = [row - start for row in hidden if start <= row < start + len(rows)]
            scores_QB[query, inside] = -np.inf
        floor_Q = similarities[:, -1].copy()
        if k < len(rows):
            floor_Q = np.maximum(floor_Q, np.partition(scores_QB, -k, axis=1)[:, -k])
        wanted = (scores_QB >= (floor_Q - TIE_BAND)[:, None]) & (scores_QB > -np.inf)
        query_of, row_of = np.nonzero(wanted)
        exact = _exact_similarities(queries, rows, query_of, row_of)
        _merge(best, query_of, row_of + start, exact)


def _exact_similarities(
    queries: NDArray[np.float32], rows: NDArray[np.float32], query_of: Ids, row_of: Ids
) -> NDArray[np.float64]:
    exact = np.empty(len(query_of))
    pairs = max(1, _VALUES_AT_ONCE // rows.shape[1])
    for first in range(0, len(query_of), pairs):
        part = slice(first, first + pairs)
        exact[part] = np.vecdot(
            queries[query_of[part]].astype(np.float64), rows[row_of[part]].astype(np.float64)
        )
    return exact


def _merge(
    best: tuple[NDArray[np.float64], Ids], query_of: Ids, ids: Ids, exact: NDArray[np.float64]
) -> None:
    """Put candidates into the kept ones: by query, then similarity falling, then row."""
    similarities, kept = best
    count, k = similarities.shape
    query_of = np.concatenate([np.repeat(np.arange(count), k), query_of])
    ids = np.concatenate([kept.ravel(), ids])
    exact = np.concatenate([similarities.ravel(), exact])
    # Empty places (-1) sort behind every row of equal similarity.
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -exact, query_of))
    first = np.searchsorted(query_of[order], np.arange(count))
    places = order[first[:, None] + np.arange(k)]
    similarities[:], kept[:] = exact[places], ids[places]
