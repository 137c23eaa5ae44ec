"""Recall@K and mAP@R of rows, query by query, in bounded memory.

Shape letters: Q queries, N rows that are searched, D dimensions, K ranks.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RECALL_RANKS, RerankConfig, ScanConfig
from cgdcli.errors import ConfigError
from cgdcli.evaluation.long_lists import Searched, right_in_order
from cgdcli.index.exact import nearest
from cgdcli.index.rerank import reranked
from cgdcli.index.scanning import PickedRows, Rows, check_files
from cgdcli.reports import RecallReport

logger = logging.getLogger("cgdcli")

QUERIES_AT_ONCE = 1_024
NEIGHBOURS_KEPT = 5
# Of a query with more relevant rows the whole order is looked at (`long_lists`), which takes as
# long as to find about this many, or this share of the rows, by `nearest`.
SHORT_LIST, SHORT_SHARE = 256, 1 / 20
# That a query takes while a block is scored: a rank in `nearest` and in AP@R, a hidden row in sets.
RANK_BYTES, HIDDEN_BYTES = 128, 100


@dataclass(frozen=True)
class QueryScores:
    """Each query's own result; shape letters: Q queries, K ranks, `NEIGHBOURS_KEPT` neighbours.

    Attributes:
        hits: bool (Q, K), one of the query's label among the first so many rows.
        average_precision: float64 (Q,), AP@R; 0 where `relevant` is.
        relevant: int (Q,), R: other rows of the query's label.
        neighbours, similarities: (Q, <= NEIGHBOURS_KEPT), rows best first and their cosines.
        gallery: rows that were searched.
    """

    ranks: tuple[int, ...]
    hits: NDArray[np.bool_]
    average_precision: NDArray[np.float64]
    relevant: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    similarities: NDArray[np.float64]
    gallery: int


def check_ranks(ranks: Sequence[int]) -> None:
    """Whether these can be the Ks of Recall@K."""
    if not ranks or min(ranks) < 1:
        raise ConfigError(
            f"ranks {list(ranks)}: whole numbers from 1 are wanted", hint="try 1, 2, 4, 8"
        )


def score(
    rows: Rows | PickedRows,
    labels: Sequence[str],
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    gallery: Rows | PickedRows | None = None,
    gallery_labels: Sequence[str] | None = None,
    own_rows: Sequence[int] | None = None,
) -> RecallReport:
    """Recall@K and mAP@R of unit rows (Q, D) in themselves, or in a gallery (N, D).

    mAP@R (Musgrave, Belongie & Lim 2020, arXiv 2003.08505): 1/R sum_{i<=R} P(i) rel(i), R the
    number of other rows of the query's label.
    """
    scores = score_queries(
        rows,
        labels,
        ranks,
        gallery=gallery,
        gallery_labels=gallery_labels,
        own_rows=own_rows,
    )
    return summary(scores, labels)


def score_queries(
    rows: Rows | PickedRows,
    labels: Sequence[str],
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    gallery: Rows | PickedRows | None = None,
    gallery_labels: Sequence[str] | None = None,
    own_rows: Sequence[int] | None = None,
    ignored: Sequence[frozenset[int]] | None = None,
    rerank: RerankConfig | None = None,
) -> QueryScores:
    """The same, query by query.

    Never the whole Q x N matrix: blocks of queries against blocks of the gallery. Without a
    gallery a query's own row is left out by its number; with one, the row of it that `own_rows`
    says is the query itself (-1: none). Equal similarities are ranked by row.

    Args:
        ignored: for each query other rows that are not searched for it either, all of its label
            (`same_groups`).
        rerank: order the first hits of each query anew; similarities stay cosines.
    """
    if gallery is None:
        own_rows = range(len(rows))
    own_Q = np.full(len(rows), -1) if own_rows is None else np.asarray(own_rows)
    stored = rows if gallery is None else gallery
    stored_labels = labels if gallery_labels is None else gallery_labels
    label_Q, label_N, number = _numbered(labels, stored_labels)
    counts = np.bincount(label_N, minlength=number)
    relevant_Q = counts[label_Q] - _count_hidden(own_Q, ignored)
    short_Q = np.where(relevant_Q <= max(SHORT_LIST, SHORT_SHARE * len(stored)), relevant_Q, 0)
    least = max(*ranks, NEIGHBOURS_KEPT, rerank.top if rerank else 1)
    parts = []
    at_once = _queries_at_once(max(least, int(short_Q.max(initial=1))), ignored)
    for start in range(0, len(rows), at_once):
        check_files(rows)
        part = np.arange(start, min(start + at_once, len(rows)))
        hidden = _hidden(own_Q[part].tolist(), ignored and ignored[start : start + len(part)])
        exclude = hidden if any(hidden) else None
        k = max(least, int(short_Q[part].max()))
        similarities, ids = nearest(np.asarray(rows[part]), stored, k, exclude=exclude)
        if rerank:
            _order_anew(rows[part], stored, (similarities, ids), rerank)
        right = (label_N[ids] == label_Q[part, None]) & (ids >= 0)
        hits = np.stack([right[:, :rank].any(axis=1) for rank in ranks], axis=1)
        kept = slice(None, NEIGHBOURS_KEPT)
        average = _average_precision(right, relevant_Q[part])
        long = np.flatnonzero(relevant_Q[part] > right.shape[1])
        if len(long):
            check_files(rows)  # to search took long
            asked = part[long]
            whole = right_in_order(
                rows[asked], label_Q[asked], Searched(stored, label_N), [hidden[i] for i in long]
            )
            average[long] = _average_of_long(whole, right[long], relevant_Q[asked])
        parts.append((hits, average, ids[:, kept].copy(), similarities[:, kept].copy()))
    if number == 1:
        logger.warning("there is a single label, so that every hit is right")
    hits, average, neighbours, similarities = (np.concatenate(p) for p in zip(*parts, strict=True))
    return QueryScores(
        tuple(ranks), hits, average, relevant_Q, neighbours, similarities, len(stored)
    )


def _numbered(
    labels: Sequence[str], stored_labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Both as numbers, and how many there are."""
    number = {label: i for i, label in enumerate(sorted({*labels, *stored_labels}))}
    of_queries, of_stored = ([number[label] for label in part] for part in (labels, stored_labels))
    return np.array(of_queries), np.array(of_stored), len(number)


def same_groups(
    labels: Sequence[str],
    groups: Sequence[str | None],
    gallery_labels: Sequence[str],
    gallery_groups: Sequence[str | None],
) -> list[frozenset[int]]:
    """For each query the rows of the gallery with its label AND its group, which are ignored.

    As in re-identification (Zheng et al. 2015, Market-1501: "junk" are the pictures of the query's
    person by the query's camera): finding them is no merit, and no mistake either. Rows of its
    group with another label stay in the gallery, and are mistakes if found. A query or row of no
    group (None) ignores and is ignored by none.
    """
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (label, group) in enumerate(zip(gallery_labels, gallery_groups, strict=True)):
        if group is not None:
            members[label, group].append(row)
    sets = {key: frozenset(rows) for key, rows in members.items()}
    return [
        frozenset() if group is None else sets.get((label, group), frozenset())
        for label, group in zip(labels, groups, strict=True)
    ]


def summary(scores: QueryScores, labels: Sequence[str]) -> RecallReport:
    """The means over queries, whose `labels` are given."""
    queries, relevant = len(labels), scores.relevant
    partnered = int((relevant > 0).sum())
    return RecallReport(
        recall={
            rank: int(scores.hits[:, i].sum()) / queries for i, rank in enumerate(scores.ranks)
        },
        map_at_r=float(scores.average_precision.sum()) / partnered if partnered else None,
        queries=queries,
        gallery=scores.gallery,
        labels=len(set(labels)),
        without_partner=queries - partnered,
        lonely_labels=tuple(sorted({labels[int(i)] for i in np.flatnonzero(relevant == 0)})),
    )


def _order_anew(
    queries: NDArray[Any],
    stored: Rows | PickedRows,
    best: tuple[NDArray[np.float64], NDArray[np.int64]],
    config: RerankConfig,
) -> None:
    """Change the order of the first hits, of each query by itself."""
    for query, similarities, ids in zip(queries, *best, strict=True):
        there = int((ids[: config.top] >= 0).sum())
        rows = np.asarray(stored[ids[:there]], dtype=np.float64)
        scores = reranked(query.astype(np.float64), rows, config)
        order = np.argsort(-scores, kind="stable")
        similarities[:there], ids[:there] = similarities[:there][order], ids[:there][order]


def _hidden(own: Sequence[int], ignored: Sequence[frozenset[int]] | None) -> list[set[int]]:
    """What is not searched for each query: itself, and what it ignores."""
    alone: list[set[int]] = [{row} if row >= 0 else set() for row in own]
    if ignored is None:
        return alone
    return [one | others for one, others in zip(alone, ignored, strict=True)]


def _count_hidden(
    own: NDArray[np.integer], ignored: Sequence[frozenset[int]] | None
) -> NDArray[np.int64]:
    """How many rows that is, (Q,)."""
    found = (own >= 0).astype(np.int64)
    if ignored is None:
        return found
    others = (len(rows) - (row in rows) for row, rows in zip(own.tolist(), ignored, strict=True))
    return found + np.fromiter(others, dtype=np.int64, count=len(own))


def _queries_at_once(k: int, ignored: Sequence[frozenset[int]] | None) -> int:
    """So many that what a block of them takes stays within the memory of a scan."""
    most = max(map(len, ignored or ()), default=0)
    fitting = ScanConfig.max_memory // (RANK_BYTES * k + HIDDEN_BYTES * most)
    return max(1, min(QUERIES_AT_ONCE, fitting))


def _average_of_long(
    whole: Iterable[NDArray[np.bool_]], first_QK: NDArray[np.bool_], relevant: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AP@R of queries whose R hits are more than the `first_QK`, which may be ordered anew."""
    found = []
    for right, first, count in zip(whole, first_QK, relevant, strict=True):
        right[: len(first)] = first
        found.append(_average_precision(right[None, :count], count[None])[0])
    return np.array(found)


def _average_precision(right: NDArray[np.bool_], relevant: NDArray[Any]) -> NDArray[np.float64]:
    """AP@R of each query, 0 for one without partner."""
    places = np.arange(1, right.shape[1] + 1)
    counted = right & (places <= relevant[:, None])
    precision = np.cumsum(counted, axis=1) / places
    total: NDArray[np.float64] = (precision * counted).sum(axis=1)
    return np.asarray(total / np.maximum(relevant, 1), dtype=np.float64)
