"""The first hits of a query in a better order, maybe: by what they have in common.

Shape letters: T the first hits (`top`), D dimensions, M = T + 1 the query and its hits.

All three look at the query and at the first T hits alone, so that memory and time do not grow with
the index. Whether they help depends on the pictures: `cgd evaluate --rerank` measures it.
"""

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Rerank, RerankConfig

Float = NDArray[np.float64]


def reranked(query: Float, rows: Float, config: RerankConfig) -> Float:
    """How well each hit fits, larger is better; the order is by this, equal ones as they were.

    Args:
        query: unit row (D,).
        rows: unit rows (T, D), its hits, best first.

    Returns:
        Scores (T,); only of one query are they comparable.
    """
    methods = {Rerank.aqe: expanded, Rerank.dba: augmented, Rerank.k_reciprocal: reciprocal}
    if len(rows) < 2 or config.method is Rerank.none:
        return np.asarray(rows @ query)
    return methods[config.method](query, rows, config)


def expanded(query: Float, rows: Float, config: RerankConfig) -> Float:
    """Query expansion: ask again with the mean of the query and its first hits.

    q' = (q + sum_i s_i^alpha x_i) / |...|, i up to `neighbours`; alpha 0 is the average query
    expansion of Chum et al. 2007 (ICCV, "Total recall"), alpha 3 that of Radenovic et al. 2018
    (arXiv 1711.02512). Negative similarities weigh nothing.
    """
    first = rows[: config.neighbours]
    weights = np.clip(first @ query, 0, None) ** config.alpha if config.alpha else 1.0
    wider = query + (np.broadcast_to(weights, len(first))[:, None] * first).sum(axis=0)
    return np.asarray(rows @ _unit(wider))


def augmented(query: Float, rows: Float, config: RerankConfig) -> Float:
    """Database-side augmentation: every hit becomes a mean of itself and its nearest ones.

    x' = sum_r (K - r) / K x_(r), r = 0 the row itself, then its nearest among the hits, K =
    `neighbours` + 1 (Turcot & Lowe 2009; the weights are those of Gordo et al. 2017, arXiv
    1610.07940).
    """
    kept = min(config.neighbours + 1, len(rows))
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, np.inf)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :kept]
    weights = (kept - np.arange(kept)) / kept
    wider = np.einsum("k,tkd->td", weights, rows[nearest])
    return np.asarray(_unit(wider) @ query)


def reciprocal(query: Float, rows: Float, config: RerankConfig) -> Float:
    """k-reciprocal encoding (Zhong, Zheng, Cao & Li 2017, arXiv 1701.08398), on query and hits.

    d* = (1 - lambda) d_J + lambda d, with d the squared Euclidean distance over its column's
    largest, and d_J the Jaccard distance of the sets R* (equations 2 to 12 there). Scores are -d*.
    """
    every = np.concatenate([query[None], rows])
    distances_MM = np.clip(2 - 2 * (every @ every.T), 0, None)
    distances_MM = (distances_MM / np.maximum(distances_MM.max(axis=0), 1e-12)).T
    ranks_MM = np.argsort(distances_MM, axis=1, kind="stable")
    weights_MM = _encoded(distances_MM, ranks_MM, config)
    if config.k2 > 1:
        weights_MM = weights_MM[ranks_MM[:, : config.k2]].mean(axis=1)
    least = np.minimum(weights_MM[0], weights_MM[1:]).sum(axis=1)
    most = np.maximum(weights_MM[0], weights_MM[1:]).sum(axis=1)
    jaccard = 1 - least / np.maximum(most, 1e-12)
    return np.asarray(-((1 - config.share) * jaccard + config.share * distances_MM[0, 1:]))


def _encoded(distances_MM: Float, ranks_MM: NDArray[np.int64], config: RerankConfig) -> Float:
    """Equation 7: exp(-d) for the members of R*(i, k1), 0 for the others, rows of sum 1."""
    weights_MM = np.zeros_like(distances_MM)
    half = round(config.k1 / 2)
    halves = [_mutual(ranks_MM, i, half) for i in range(len(ranks_MM))]
    for i in range(len(ranks_MM)):
        members = _mutual(ranks_MM, i, config.k1)
        wider = {i, *members.tolist()}  # of more than k1 equal ones it may not be among its own
        for candidate in members:  # equation 5: those that share two thirds with what is there
            near = halves[candidate]
            if 3 * len(np.intersect1d(near, members)) > 2 * len(near):
                wider |= set(near.tolist())
        kept = np.array(sorted(wider))
        similar = np.exp(-distances_MM[i, kept])
        weights_MM[i, kept] = similar / similar.sum()
    return weights_MM


def _mutual(ranks_MM: NDArray[np.int64], i: int, k: int) -> NDArray[np.int64]:
    """R(i, k): among the k nearest of i (itself is one more) those that have i among theirs."""
    forward = ranks_MM[i, : k + 1]
    found: NDArray[np.int64] = forward[(ranks_MM[forward, : k + 1] == i).any(axis=1)]
    return found


def _unit(rows: Float) -> Float:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))
