"""Exact nearest rows in bounded memory, each row of the gallery read once.

Shape letters: Q queries, N rows of the gallery, B rows of one block, D dimensions, K kept.

Float32 products order the rows roughly; whatever may belong to the best k is scored again in
float64 and sorted by (similarity, row). So the answer does not depend on block sizes, threads or
the way that the products were made, and equal rows come in row order: a matrix product's last bit
differs with a row's place in the block.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ScanConfig
from cgdcli.errors import ConfigError
from cgdcli.index.candidates import TIE_BAND, Scores
from cgdcli.index.mapped_rows import MappedRows
from cgdcli.index.scanning import (
    PickedRows,
    RowReader,
    Rows,
    check_files,
    check_finite,
    is_buffered,
    parts_of,
)
from cgdcli.launch import cores

__all__ = ["TIE_BAND", "nearest"]

Float = NDArray[np.floating]
Ids = NDArray[np.int64]
Best = tuple[NDArray[np.float64], Ids]

GALLERY_BLOCK, QUERY_BLOCK = 16_384, 256
# Of few queries' scores, which are all that a thread keeps of a block.
FEW_BLOCK = 32_768
# Up to so many queries are compared row by row, by threads of ours; more are a matrix product's.
FEW_QUERIES = 4
# What one thread reads at a time where few queries are asked: it stays in the core's cache.
_CACHED_BYTES = 1_048_576
# What a candidate takes while it is scored again and put among the kept ones.
_CANDIDATE_BYTES = 128


@dataclass(frozen=True)
class _Plan:
    """How large the blocks are, and who looks at them.

    Attributes:
        values: so many are scored again in float64 at a time, twice.
        candidates: so many are put among the kept ones at a time.
    """

    gallery_block: int
    query_block: int
    threads: int
    values: int
    candidates: int
    few: bool


def nearest(
    queries: Float,
    gallery: Rows | PickedRows,
    k: int,
    *,
    exclude: Sequence[set[int]] | None = None,
    among: Ids | None = None,
    config: ScanConfig | None = None,
    gallery_block: int | None = None,
    query_block: int | None = None,
    few: int = FEW_QUERIES,
) -> Best:
    """The `k` rows most similar to each query, best first, equal ones by row.

    Args:
        queries: (Q, D) rows, unit ones where a similarity is to be a cosine.
        gallery: (N, D) unit rows, float32 or float16; may be memory-mapped, and in parts.
        k: at least 1; K = min(k, N) are returned.
        exclude: for each query, rows that are not returned to it.
        among: rising row numbers; only those rows are looked at.
        config: memory and threads.
        gallery_block, query_block: rows looked at together; None for what the memory allows.
        few: up to so many queries are compared row by row.

    Returns:
        Similarities float64 (Q, K), falling along a row, and row numbers int64 (Q, K). Where
        exclusions leave fewer than K, the rest is -inf and -1.

    Raises:
        ValueError: k below 1, or dimensions that differ.
        ConfigError: the memory is too small for one row.
        IndexFileError: the gallery's file became shorter, or has a row that is not finite.
    """
    if k < 1 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"want k >= 1 and equal dimensions; got k={k}, {queries.shape} and {gallery.shape}"
        )
    if among is not None:
        assert not isinstance(gallery, PickedRows)
        gallery = PickedRows(gallery, among)
    k = min(k, len(gallery))
    best = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, dtype=np.int64)
    if not best[0].size:
        return best
    check_files(gallery)
    plan = _plan(len(queries), gallery, config or ScanConfig(), few)
    plan = _with_blocks(plan, gallery_block, query_block)
    hidden = _Hidden(exclude, among) if exclude is not None and any(exclude) else None
    scan = _Scan(queries, gallery, hidden, plan)
    with _product_threads(0 if plan.few or config is None else config.threads):
        (_few_queries if plan.few else _many_queries)(scan, best)
    for part in parts_of(gallery):
        if isinstance(part, MappedRows) and among is None:
            part.scanned = True
    if among is not None:
        best[1][:] = np.where(best[1] < 0, -1, among[best[1]])
    return best


def _product_threads(count: int) -> contextlib.AbstractContextManager[object]:
    """NumPy's products take so many threads at most, in the whole process; 0: as they are set."""
    if not count:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits  # looks through all libraries: milliseconds

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(count, user_api="blas")
    return limits


def _plan(queries: int, gallery: Rows | PickedRows, config: ScanConfig, few: int) -> _Plan:
    """Half of the memory for blocks, one being read while another is used; an eighth for products
    in float64; the rest for scores."""
    narrow = gallery.dtype == np.float16  # read into a buffer, made float32 in another
    row_bytes = (6 if narrow else 4) * gallery.shape[1]
    if config.max_memory < 64 * row_bytes:
        raise ConfigError(
            f"--max-memory of {config.max_memory} bytes is too small for rows of "
            f"{gallery.shape[1]} columns; at least {64 * row_bytes} are wanted",
            hint="leave it out: the default is enough for any index",
        )
    most = FEW_BLOCK if queries <= few else min(GALLERY_BLOCK, config.max_memory // 4 // row_bytes)
    rows = max(1, min(most, len(gallery)))
    asked = max(1, min(QUERY_BLOCK, queries, config.max_memory // 4 // (5 * rows)))
    threads = config.threads or cores()
    # A thread begins in 0.1 ms, in which it could have read 2 MB.
    threads = max(1, min(threads, len(gallery) * row_bytes // (2 * _CACHED_BYTES)))
    threads = min(threads, max(1, config.max_memory // 4 // (2 * _CACHED_BYTES)))
    values, candidates = (config.max_memory // 8 // taken for taken in (16, _CANDIDATE_BYTES))
    return _Plan(rows, asked, threads, values, candidates, queries <= few)


def _with_blocks(plan: _Plan, gallery_block: int | None, query_block: int | None) -> _Plan:
    return replace(
        plan,
        gallery_block=gallery_block or plan.gallery_block,
        query_block=query_block or plan.query_block,
    )


class _Hidden:
    """Pairs of row and query that are not to be, by row."""

    def __init__(self, exclude: Sequence[set[int]], among: Ids | None) -> None:
        query_of = [query for query, rows in enumerate(exclude) for _ in rows]
        rows = np.array([row for rows in exclude for row in rows], dtype=np.int64)
        queries = np.array(query_of, dtype=np.int64)
        if among is not None:  # rows by their place among those looked at
            places = np.searchsorted(among, rows)
            there = np.append(among, -1)[places] == rows
            rows, queries = places[there], queries[there]
        order = np.argsort(rows, kind="stable")
        self.rows, self.queries = rows[order], queries[order]

    def apply(self, scores_QB: NDArray[np.float32], start: int, first: int) -> None:
        """Put -inf where rows from `start` and queries from `first` on are not to meet."""
        count, rows = scores_QB.shape
        inside = slice(*np.searchsorted(self.rows, (start, start + rows)))
        row_of, query_of = self.rows[inside] - start, self.queries[inside] - first
        ours = (query_of >= 0) & (query_of < count)
        scores_QB[query_of[ours], row_of[ours]] = -np.inf


@dataclass(frozen=True)
class _Scan:
    """One search: who asks, what is searched."""

    queries: Float
    gallery: Rows | PickedRows
    hidden: _Hidden | None
    plan: _Plan

    def reader(self, most: int) -> RowReader:
        """Of blocks of the gallery."""
        return RowReader(self.gallery, most)

    def block(self, first: int) -> NDArray[np.float32]:
        """The queries from `first` on, one block of them."""
        part = self.queries[first : first + self.plan.query_block]
        return np.ascontiguousarray(part, dtype=np.float32)

    def starts(self) -> range:
        """Of the gallery's blocks."""
        return range(0, len(self.gallery), self.plan.gallery_block)

    def offer(
        self,
        memory: Scores,
        scores_QB: NDArray[np.float32],
        first: int,
        start: int,
        best: Best,
    ) -> None:
        """Put the best of one block of scores into `best`, of the same queries."""
        self._check_finite(scores_QB, start)
        if self.hidden is not None:
            self.hidden.apply(scores_QB, start, first)
        pairs = memory.candidates(
            scores_QB, best[0], lambda rows: self.gallery[rows + start], self.plan.candidates
        )
        for query_of, row_of in pairs:
            exact = self._exact(query_of + first, row_of + start)
            _merge(best, query_of, row_of + start, exact)

    def _exact(self, query_of: Ids, row_of: Ids) -> NDArray[np.float64]:
        exact = np.empty(len(query_of))
        pairs = max(1, self.plan.values // self.gallery.shape[1])
        for first in range(0, len(query_of), pairs):
            part = slice(first, first + pairs)
            asked = np.asarray(self.queries[query_of[part]], dtype=np.float32)
            rows = self.gallery[row_of[part]]
            exact[part] = np.vecdot(asked.astype(np.float64), rows.astype(np.float64))
        if not np.isfinite(exact).all():
            check_finite(self.gallery, row_of[~np.isfinite(exact)])
        return exact

    def _check_finite(self, scores_QB: NDArray[np.float32], start: int) -> None:
        """A row that is not finite is so to every query: those of the first tell.

        Any order of scores of which one is NaN is none. In memory such a row is nobody's hit.
        """
        finite = np.isfinite(scores_QB[0])
        if not finite.all():
            check_finite(self.gallery, np.flatnonzero(~finite) + start)
            scores_QB[:, ~finite] = -np.inf


def _few_queries(scan: _Scan, best: Best) -> None:
    """Row by row: threads, each with blocks of its own, as fast as memory is read."""
    asked = np.ascontiguousarray(scan.queries, dtype=np.float32)
    turns = iter(scan.starts())
    turn = threading.Lock()

    def look() -> Best:
        kept = np.full_like(best[0], -np.inf), np.full_like(best[1], -1)
        with scan.reader(_cached_rows(scan)) as reader:
            memory = Scores(len(asked), scan.plan.gallery_block)
            while True:
                with turn:
                    start = next(turns, None)
                if start is None:
                    return kept
                stop = min(start + scan.plan.gallery_block, len(scan.gallery))
                scores = memory.of(len(asked), stop - start)
                _score_rows(scan, asked, reader, start, scores)
                scan.offer(memory, scores, 0, start, kept)

    for similarities, ids in _in_threads(look, scan.plan.threads):
        query_of, place = np.nonzero(ids >= 0)
        _merge(best, query_of, ids[query_of, place], similarities[query_of, place])


def _in_threads(look: Callable[[], Best], threads: int) -> Iterator[Best]:
    if threads == 1:
        yield look()
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from [run.result() for run in [pool.submit(look) for _ in range(threads)]]


def _cached_rows(scan: _Scan) -> int:
    """Rows that a thread reads at a time: all that it may, where one query looks where they are."""
    if len(scan.queries) == 1 and not is_buffered(scan.gallery):
        return scan.plan.gallery_block
    rows = _CACHED_BYTES // (4 * int(scan.gallery.shape[1]))
    return max(1, min(scan.plan.gallery_block, rows))


def _score_rows(
    scan: _Scan,
    asked: NDArray[np.float32],
    reader: RowReader,
    start: int,
    scores_QB: NDArray[np.float32],
) -> None:
    """Write the products of all queries with rows from `start` on."""
    for first in range(0, scores_QB.shape[1], reader.most):
        last = min(first + reader.most, scores_QB.shape[1])
        rows = reader.read(start + first, start + last)
        for query, scores in zip(asked, scores_QB, strict=True):
            np.vecdot(rows, query, out=scores[first:last])


def _many_queries(scan: _Scan, best: Best) -> None:
    """A matrix product for each pair of blocks; the next block is read meanwhile."""
    memory = Scores(scan.plan.query_block, scan.plan.gallery_block)
    for start, rows in _blocks_ahead(scan):
        for first in range(0, len(scan.queries), scan.plan.query_block):
            asked = scan.block(first)
            part = slice(first, first + len(asked))
            found = memory.of(len(asked), len(rows))
            np.matmul(asked, rows.T, out=found)
            scan.offer(memory, found, first, start, (best[0][part], best[1][part]))


def _blocks_ahead(scan: _Scan) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Start and rows of every block; one is read while another is used."""
    size, starts = scan.plan.gallery_block, scan.starts()

    def stop(start: int) -> int:
        return min(start + size, len(scan.gallery))

    with (
        scan.reader(size) as even,
        scan.reader(size) as odd,
        ThreadPoolExecutor(1) as pool,
    ):
        ahead: Future[NDArray[np.float32]] | None = None
        for number, start in enumerate(starts):
            rows = even.read(start, stop(start)) if ahead is None else ahead.result()
            if start + size < len(scan.gallery) and is_buffered(scan.gallery):
                reader = even if number % 2 else odd
                ahead = pool.submit(reader.read, start + size, stop(start + size))
            elif ahead is not None:
                ahead = None
            yield start, rows


def _merge(best: Best, query_of: Ids, ids: Ids, exact: NDArray[np.float64]) -> None:
    """Put candidates into the kept ones: by query, then similarity falling, then row."""
    similarities, kept = best
    k = similarities.shape[1]
    touched, query_of = np.unique(query_of, return_inverse=True)
    query_of = np.concatenate([np.repeat(np.arange(len(touched)), k), query_of])
    ids = np.concatenate([kept[touched].ravel(), ids])
    exact = np.concatenate([similarities[touched].ravel(), exact])
    # Empty places (-1) sort behind every row of equal similarity.
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -exact, query_of))
    first = np.searchsorted(query_of[order], np.arange(len(touched)))
    places = order[first[:, None] + np.arange(k)]
    similarities[touched], kept[touched] = exact[places], ids[places]
