"""Orders of the first hits, against the papers' formulas written down naively."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.config import Rerank, RerankConfig
from cgdcli.index.rerank import reranked


def unit(values):
    values = np.asarray(values, dtype=np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def scene(seed, rows=30, dim=8):
    """A query and its hits, best first; some nearly alike."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, dim))
    found = unit(centres[rng.integers(0, 4, rows)] + 0.5 * rng.standard_normal((rows, dim)))
    query = unit(centres[0] + 0.5 * rng.standard_normal(dim))
    return query, found[np.argsort(-(found @ query), kind="stable")]


def naive_reciprocal(query, rows, k1, k2, share):
    """Zhong et al. 2017, sections 3.2 to 3.5, by sets and loops."""
    points = [query, *rows]
    count = len(points)
    d = np.array([[sum((a - b) ** 2) for b in points] for a in points])
    d = np.array(
        [
            [d[j][i] / max(d[j2][i] for j2 in range(count)) for j in range(count)]
            for i in range(count)
        ]
    )
    order = [sorted(range(count), key=lambda j, i=i: d[i][j]) for i in range(count)]

    def mutual(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    vectors = []
    for i in range(count):
        members = mutual(i, k1)
        wider = set(members)
        for q in members:
            near = mutual(q, round(k1 / 2))
            if len(near & members) > 2 / 3 * len(near):
                wider |= near
        weights = {j: np.exp(-d[i][j]) for j in wider}
        total = sum(weights.values())
        vectors.append([weights.get(j, 0) / total for j in range(count)])
    if k2 > 1:
        vectors = [
            [sum(vectors[n][j] for n in order[i][:k2]) / k2 for j in range(count)]
            for i in range(count)
        ]
    scores = []
    for j in range(1, count):
        least = sum(map(min, vectors[0], vectors[j]))
        most = sum(map(max, vectors[0], vectors[j]))
        scores.append(-((1 - share) * (1 - least / most) + share * d[0][j]))
    return scores


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32), k1=st.integers(1, 20), k2=st.integers(1, 6), share=st.floats(0, 1)
)
def test_k_reciprocal_is_the_papers(seed, k1, k2, share):
    query, rows = scene(seed)
    config = RerankConfig(Rerank.k_reciprocal, k1=k1, k2=k2, share=share)
    expected = naive_reciprocal(query, rows, k1, k2, share)
    assert reranked(query, rows, config) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_query_expansion_asks_with_the_mean(alpha):
    query, rows = scene(1)
    wider = query.copy()
    for row in rows[:4]:
        wider += (row @ query) ** alpha * row
    wider /= np.linalg.norm(wider)
    config = RerankConfig(Rerank.aqe, neighbours=4, alpha=alpha)
    assert reranked(query, rows, config) == pytest.approx([row @ wider for row in rows])


def test_augmentation_asks_rows_that_are_means_of_their_neighbours():
    query, rows = scene(2)
    expected = []
    for i, row in enumerate(rows):
        others = sorted((j for j in range(len(rows)) if j != i), key=lambda j: -(rows[j] @ row))
        mean = row + sum((4 - r) / 4 * rows[j] for r, j in enumerate(others[:3], start=1))
        expected.append(mean @ query / np.linalg.norm(mean))
    config = RerankConfig(Rerank.dba, neighbours=3)
    assert reranked(query, rows, config) == pytest.approx(expected)


def test_k_reciprocal_puts_those_of_one_group_before_near_strangers():
    """The case it was made for: strangers nearer to the query than its group, yet nearer to each
    other than to it."""
    rng = np.random.default_rng(0)
    group = unit(np.eye(16)[0] + 0.12 * rng.standard_normal((8, 16)))
    query, own = group[0], group[1:]
    other = unit(query + 0.6 * np.eye(16)[15] + 0.01 * rng.standard_normal((12, 16)))
    rows = np.concatenate([own, other, unit(rng.standard_normal((40, 16)))])
    similarities = rows @ query
    assert similarities[7:19].min() > similarities[:7].min()
    order = np.argsort(-similarities, kind="stable")
    scores = np.empty(len(rows))
    scores[order] = reranked(query, rows[order], RerankConfig(Rerank.k_reciprocal, k1=7, k2=3))
    assert scores[7:].max() < scores[:7].min()


@pytest.mark.parametrize("method", list(Rerank))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 60])
def test_few_hits_and_equal_ones(method, count):
    query = unit(np.ones(4))
    scores = reranked(query, np.tile(query, (count, 1)), RerankConfig(method))
    assert scores.shape == (count,) and np.isfinite(scores).all()
    assert np.ptp(scores) < 1e-9 if count else True
