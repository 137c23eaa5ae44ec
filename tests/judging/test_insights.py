"""Best, worst, confused, branches and the map, each against a naive count."""

from collections import Counter

import numpy as np
import pytest
from judgements import clustered, judgement, unit

from cgdcli.evaluation.details import confused_pairs, measures
from cgdcli.judging import insights
from cgdcli.judging.insights import (
    branch_recalls,
    evenly,
    extreme_queries,
    map_points,
    principal_plane,
)

BLOCKS = [("S", 0, 4), ("M", 4, 8), ("G", 8, 12)]


def hard():
    return clustered(spread=1.6)


def naive_nearest(rows, i, columns=slice(None)):
    """The other row of largest cosine."""
    part = rows[:, columns].astype(np.float64)
    part = part / np.linalg.norm(part, axis=1, keepdims=True)
    cosines = part @ part[i]
    cosines[i] = -2
    return int(np.argmax(cosines))


def naive_average_precision(rows, labels, i):
    cosines = rows.astype(np.float64) @ rows[i].astype(np.float64)
    order = [j for j in np.argsort(-cosines, kind="stable") if j != i]
    partners = sum(label == labels[i] for label in labels) - 1
    right = [labels[j] == labels[i] for j in order[:partners]]
    return sum(sum(right[: p + 1]) / (p + 1) for p, hit in enumerate(right) if hit) / partners


def test_measures_are_those_of_the_report():
    rows, labels = hard()
    judged = judgement(rows, labels)
    found = {m.name: m for m in measures(judged)}
    for rank, share in judged.report.recall.items():
        assert found[f"Recall@{rank}"].value == pytest.approx(share)
    assert found["mAP@R"].value == pytest.approx(judged.report.map_at_r)
    assert all(m.low <= m.value <= m.high for m in found.values())


def test_a_query_without_partner_is_out_of_map_alone():
    rows, labels = clustered(classes=3, each=4)
    judged = judgement(rows, [*labels[:-1], "lonely"])
    found = {m.name: m.value for m in measures(judged)}
    assert found["mAP@R"] == pytest.approx(judged.report.map_at_r)
    assert found["Recall@1"] == pytest.approx(judged.report.recall[1])
    for best in (True, False):
        shown = extreme_queries(judged, 99, best=best)
        assert len(shown) == 11 and all(q.answer.label != "lonely" for q in shown)


@pytest.mark.parametrize("best", [True, False])
def test_extreme_queries_against_a_naive_order(best):
    rows, labels = hard()
    shown = extreme_queries(judgement(rows, labels), 6, best=best)
    average = [naive_average_precision(rows, labels, i) for i in range(len(rows))]
    number = {f"/data/{label}/{i}.jpg": i for i, label in enumerate(labels)}
    assert len({q.answer.label for q in shown}) == 6  # one of a class while there are classes
    for query in shown:
        of_class = [
            a for a, label in zip(average, labels, strict=True) if label == query.answer.label
        ]
        extreme = max(of_class) if best else min(of_class)
        assert query.average_precision == pytest.approx(extreme)
        assert query.average_precision == pytest.approx(average[number[query.answer.query]])
        assert query.answer.hits[0].row == naive_nearest(rows, number[query.answer.query])
    falling = [q.average_precision for q in shown]
    assert falling == sorted(falling, reverse=best)


def test_more_queries_than_classes_are_still_shown_each_once():
    shown = extreme_queries(judgement(*clustered(classes=2, each=4)), 7, best=False)
    assert len({q.answer.query for q in shown}) == 7


def test_confused_pairs_against_a_naive_count():
    rows, labels = hard()
    counts = Counter()
    for i, label in enumerate(labels):
        other = labels[naive_nearest(rows, i)]
        if other != label:
            counts[label, other] += 1
    pairs = confused_pairs(judgement(rows, labels), 100)
    assert pairs and sum(counts.values()) == sum(
        p.first_as_second + p.second_as_first for p in pairs
    )
    for pair in pairs:
        assert pair.first < pair.second
        assert pair.first_as_second == counts[pair.first, pair.second]
        assert pair.second_as_first == counts[pair.second, pair.first]
        assert (pair.of_first, pair.of_second) == (5, 5)
        query, neighbour = (int(p.split("/")[-1][:-4]) for p in (pair.query, pair.neighbour))
        assert naive_nearest(rows, query) == neighbour
        assert pair.similarity == pytest.approx(float(rows[query] @ rows[neighbour]), abs=1e-5)
    sizes = [p.first_as_second + p.second_as_first for p in pairs]
    assert sizes == sorted(sizes, reverse=True)


def test_nothing_is_confused_where_every_class_lies_apart():
    assert confused_pairs(judgement(*clustered(spread=0.01)), 5) == ()


def test_branches_against_a_naive_search():
    rows, labels = hard()
    branches, asked = branch_recalls(judgement(rows, labels), BLOCKS)
    assert asked == len(rows) and [b.letter for b in branches] == ["S", "M", "G"]
    everything = np.arange(12)

    def recall(columns):
        return np.mean([labels[naive_nearest(rows, i, columns)] == labels[i] for i in range(30)])

    for branch, (_, start, stop) in zip(branches, BLOCKS, strict=True):
        rest = np.delete(everything, slice(start, stop))
        assert branch.alone.value == pytest.approx(recall(everything[start:stop]))
        assert branch.without.value == pytest.approx(recall(rest))
        assert branch.loss.value == pytest.approx(recall(everything) - recall(rest))


def test_a_single_branch_has_nothing_to_leave_out():
    rows, labels = hard()
    (branch,), _ = branch_recalls(judgement(rows, labels), [("S", 0, 12)])
    assert branch.without is None and branch.loss is None


def test_many_queries_are_sampled_and_a_zero_block_is_no_nan(monkeypatch):
    monkeypatch.setattr(insights, "BRANCH_QUERIES", 7)
    rows, labels = hard()
    rows[:, :4] = 0
    branches, asked = branch_recalls(judgement(unit(rows), labels), BLOCKS)
    assert asked == 7 and all(0 <= b.alone.value <= 1 for b in branches)


def test_plane_holds_the_largest_variance():
    """Against eigenvectors of the covariance matrix."""
    rows = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]
    places, shares = principal_plane(rows.astype(np.float32))
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    for i in (0, 1):
        expected = (rows - rows.mean(0)) @ vectors[:, -1 - i]
        assert abs(np.corrcoef(places[:, i], expected)[0, 1]) == pytest.approx(1, abs=1e-5)
        assert shares[i] == pytest.approx(values[-1 - i] / values.sum(), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (5, 1)])
def test_plane_of_too_little_is_finite(shape):
    places, shares = principal_plane(np.ones(shape, np.float32) / np.sqrt(shape[1]))
    assert np.isfinite(places).all() and shares == (0, 0)


def test_map_shows_at_most_so_many_and_says_which_are_hit():
    rows, labels = hard()
    points, shares = map_points(judgement(rows, labels), 10)
    assert len(points) == 10 and 0 < shares[1] <= shares[0] <= 1
    for point in points:
        i = int(point.path.split("/")[-1][:-4])
        assert point.is_hit == (labels[naive_nearest(rows, i)] == labels[i])


@pytest.mark.parametrize(("count", "wanted"), [(10, 3), (3, 10), (1, 1), (1000, 600)])
def test_evenly_spaced_positions(count, wanted):
    chosen = evenly(count, wanted)
    assert len(chosen) == min(count, wanted) == len(set(chosen.tolist()))
    assert chosen[0] == 0 and (chosen[-1] == count - 1 or wanted == 1)
