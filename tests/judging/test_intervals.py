"""The bootstrap over classes against a loop that draws and averages pictures."""

import numpy as np
import pytest

from cgdcli.judging import intervals
from cgdcli.judging.intervals import RESAMPLES, class_interval


def naive(values, labels):
    """Draw classes, put all their pictures in one list, average it; two thousand times."""
    names = sorted(set(labels))
    members = {n: [v for v, label in zip(values, labels, strict=True) if label == n] for n in names}
    rng = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = [v for c in rng.integers(0, len(names), len(names)) for v in members[names[c]]]
        means.append(sum(drawn) / len(drawn))
    return np.mean(values), *np.percentile(means, [2.5, 97.5])


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_naive_loop(seed):
    rng = np.random.default_rng(seed)
    labels = [f"c{i}" for i in rng.integers(0, 7, 40)]
    values = rng.normal(size=40)
    assert class_interval(values, labels) == pytest.approx(naive(values, labels), abs=1e-12)


def test_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    labels, values = [f"c{i % 13}" for i in range(100)], rng.normal(size=100)
    whole = class_interval(values, labels)
    monkeypatch.setattr(intervals, "_VALUES_AT_ONCE", 13 * 7)
    assert class_interval(values, labels) == whole


def test_covers_the_truth_about_as_often_as_it_says():
    """40 classes whose means are normal around 0.3: 95 % of intervals hold 0.3."""
    rng = np.random.default_rng(5)
    labels = [f"c{i}" for i in range(40) for _ in range(4)]
    inside = 0
    for _ in range(200):
        values = np.repeat(rng.normal(0.3, 1, 40), 4) + 0.1 * rng.normal(size=160)
        _, low, high = class_interval(values, labels)
        inside += low <= 0.3 <= high
    assert 0.89 <= inside / 200 <= 0.985


def test_pictures_of_a_class_do_not_count_as_independent():
    """The same class means from ten times the pictures: the interval stays as wide."""
    means = np.random.default_rng(1).normal(size=20)
    few = class_interval(means, [f"c{i}" for i in range(20)])
    many = class_interval(np.repeat(means, 10), [f"c{i}" for i in range(20) for _ in range(10)])
    assert many == pytest.approx(few)


@pytest.mark.parametrize(("values", "labels"), [([], []), ([1.0], ["a", "b"])])
def test_wants_a_label_for_each_value(values, labels):
    with pytest.raises(ValueError, match="label"):
        class_interval(np.array(values), labels)
