"""From rows of queries to hits: what is nearest, in what order, and what each is."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import SearchConfig
from cgdcli.errors import ConfigError
from cgdcli.index.approximate import ApproximateIndex, faiss_path
from cgdcli.index.rerank import reranked
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.where import RowFilter
from cgdcli.remote import shown
from cgdcli.reports import Hit
from cgdcli.retrieval.places import display_path
from cgdcli.retrieval.queries import Query
from cgdcli.retrieval.vectors import Blocks, branch_similarities, reweighted

logger = logging.getLogger("cgdcli")

# A unit row of float32 is 1 to itself but for this: it is among what is as similar as 1.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Searched:
    """What is searched, and how.

    Attributes:
        among: the rows that count, as the index says them; None: all.
        plain: the queries are rows as they are; not means or sums.
        queries: so many are asked, of whose sum it is no matter which come together.
        opened: what has the approximate index, where that is not to be opened, and said, here.
    """

    index: EmbeddingIndex
    config: SearchConfig
    blocks: Blocks | None
    among: NDArray[np.int64] | RowFilter | None
    plain: bool = True
    queries: int = 1
    opened: Callable[[], ApproximateIndex | None] | None = None

    @cached_property
    def quick(self) -> ApproximateIndex | None:
        """The approximate index, where there is one that is worth it; said once.

        Never with a filter: what it keeps may be in other cells than those that are near a query,
        and to look at all of it is exact.
        """
        config = self.config
        if config.exact and self.index.proposed_by not in (None, "FLAT"):
            raise ConfigError(
                f"--exact: rows of `{shown(self.index.path)}` are found by its "
                f"{self.index.proposed_by} graph",
                hint="leave it out, or search the index in files that was sent there",
            )
        if config.exact or self.index.proposed_by is not None or self.among is not None:
            return None
        quick = self.opened() if self.opened else ApproximateIndex.beside(self.index)
        if quick is None or not quick.is_worth_it(self.wanted, self.is_plain, self.queries):
            return None
        if self.opened is None:
            self._say(quick)
        return quick

    def _say(self, quick: ApproximateIndex) -> None:
        words = f"it finds {100 * quick.facts.recall:.1f} % of the ten nearest"
        if not quick.is_tuned_for(self.wanted, self.is_plain):
            words = "how much it finds was measured for up to ten hits of a picture alone, not here"
        logger.info(
            "`%s` proposes what is looked at (%s); --exact looks at every row",
            *(faiss_path(self.index.path), words),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the queries are as the rows that an approximate index is tuned on."""
        return self.plain and not self.config.branches

    @property
    def wanted(self) -> int:
        """Rows of each query that are found."""
        return self.config.rerank.top if self.config.rerank else self.config.k


@dataclass(frozen=True)
class _Found:
    """Rows best first, their similarities, and the scores that their order is by, if another."""

    ids: NDArray[np.int64]
    similarities: NDArray[np.float64]
    scores: NDArray[np.float64] | None = None


def hits_of(queries: Sequence[Query], searched: Searched) -> Iterator[tuple[Hit, ...]]:
    """The hits of each query, best first."""
    config, blocks = searched.config, searched.blocks
    rows = np.stack([query.row for query in queries])
    if config.branches and blocks is not None:
        rows = np.stack([reweighted(row, blocks, config.branches) for row in rows])
    exclude = [set(query.own_rows) for query in queries] if config.exclude_self else None
    similarities, ids = _nearest(searched, rows, exclude)
    for query, row, found, near in zip(queries, rows, ids, similarities, strict=True):
        best = _Found(found[found >= 0], np.clip(near[found >= 0], -1, 1))
        if config.rerank:
            best = _reordered(row, best, searched)
        yield tuple(_hits(query, best, searched))


def _nearest(
    searched: Searched, rows: NDArray[np.float32], exclude: list[set[int]] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """By the approximate index where there is one that is worth it; what it lacks, by every row."""
    index, scan, among = searched.index, searched.config.scan, searched.among
    k, quick = searched.wanted, searched.quick
    if quick is None:
        return index.search(rows, k, exclude=exclude, among=among, config=scan)
    similarities, ids = quick.search(
        rows, index.rows, k, exclude=exclude, plain=searched.is_plain, threads=scan.threads
    )
    for query in np.flatnonzero((ids < 0).any(axis=1)).tolist():
        hidden = exclude[query] if exclude else set()
        if (ids[query] >= 0).sum() < len(index) - len(hidden):
            alone = [hidden] if hidden else None
            found = index.search(rows[query : query + 1], k, exclude=alone, config=scan)
            similarities[query], ids[query] = found[0][0], found[1][0]
    return similarities, ids


def _reordered(row: NDArray[np.float32], found: _Found, searched: Searched) -> _Found:
    stored = np.asarray(searched.index.stored(found.ids), dtype=np.float64)
    asked = row.astype(np.float64)
    scores = reranked(asked / np.linalg.norm(asked), stored, searched.config.rerank)
    order = np.argsort(-scores, kind="stable")
    return _Found(found.ids[order], found.similarities[order], scores[order])


def _hits(query: Query, found: _Found, searched: Searched) -> Iterator[Hit]:
    index, config = searched.index, searched.config
    near = found.similarities
    kept = np.arange(len(near))
    if config.min_similarity is not None:
        kept = kept[near >= config.min_similarity - ROUNDING]
    for rank, place in enumerate(kept[: config.k].tolist(), start=1):
        number = int(found.ids[place])
        picture, file = index.picture(number), index.file(number)
        branches = None
        if config.explain and searched.blocks is not None:
            stored = np.asarray(index.stored(number), dtype=np.float32)
            branches = branch_similarities(query.row, stored, searched.blocks)
        yield Hit(
            rank=rank,
            similarity=float(near[place]),
            path=display_path(file) if file else f"row:{number}",
            label=picture.label if picture else None,
            row=number,
            branches=branches,
            score=None if found.scores is None else float(found.scores[place]),
        )
