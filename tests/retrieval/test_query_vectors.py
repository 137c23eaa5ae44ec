"""Queries taken together and weighted by branch, against what the words say."""

import math

import numpy as np
import pytest

from cgdcli.config import SearchConfig, branch_weights
from cgdcli.errors import ConfigError
from cgdcli.retrieval.queries import Query
from cgdcli.retrieval.vectors import branch_similarities, combined, reweighted

BLOCKS = [("S", 0, 4), ("M", 4, 8), ("G", 8, 12)]


def unit(values):
    return values / np.linalg.norm(values)


def blocked(seed):
    """A row as an index has it: unit blocks over sqrt(n)."""
    rng = np.random.default_rng(seed)
    blocks = [unit(rng.standard_normal(4)) for _ in BLOCKS]
    return (np.concatenate(blocks) / math.sqrt(3)).astype(np.float32)


def query(name, row, label=None, own=()):
    return Query(name, row, label, f"{name}.jpg", frozenset(own))


@pytest.mark.parametrize("text", ["S=1,G=2", "G=3", "S=1,M=1,G=1", "M=0.25,S=0"])
def test_reweighting_is_the_weighted_mean_of_the_branches(text):
    weights = branch_weights(text)
    for seed in range(20):
        asked, row = blocked(seed), blocked(seed + 100)
        cosines = branch_similarities(asked, row, BLOCKS)
        expected = sum(w * cosines[c] for c, w in weights) / sum(w for _, w in weights)
        assert float(reweighted(asked, BLOCKS, weights) @ row) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("weight", ["2", "1e308", "1e-320"])
def test_equal_weights_change_nothing(weight):
    asked, weights = blocked(1), branch_weights(f"S={weight},M={weight},G={weight}")
    assert reweighted(asked, BLOCKS, weights) == pytest.approx(asked)


def test_a_zero_block_weighs_nothing():
    asked = blocked(1)
    asked[4:8] = 0
    assert not reweighted(asked, BLOCKS, branch_weights("M=1")).any()


@pytest.mark.parametrize("text", ["S", "S=x", "S=-1", "S=inf", "S=nan", "S=1,S=2", "=1", "S=0", ""])
def test_weights_that_are_none(text):
    with pytest.raises(ConfigError) as caught:
        branch_weights(text)
    assert "--branch" in caught.value.what and "S=1,G=2" in caught.value.hint


def test_a_mean_is_unit_block_by_block():
    a, b = blocked(1), blocked(2)
    config = SearchConfig(mean=True)
    (mean,) = combined([query("a", a), query("b", b)], [], [], config, BLOCKS)
    assert mean.name == "mean of a + b"
    for _, start, stop in BLOCKS:
        expected = unit(a[start:stop].astype(float) + b[start:stop]) / math.sqrt(3)
        assert mean.row[start:stop] == pytest.approx(expected, abs=1e-6)
    (plain,) = combined([query("a", a), query("b", b)], [], [], config, None)
    assert plain.row == pytest.approx(unit(a.astype(float) + b), abs=1e-6)


def test_adding_and_taking_away_by_weight():
    a, b, c = (blocked(seed) for seed in (1, 2, 3))
    asking = [query("a", a, "x", {1}), query("d", c, "y", {7})]
    config = SearchConfig(weight=0.25)
    both = combined(asking, [query("b", b, "x", {2})], [query("c", c, "z", {3})], config, None)
    assert [found.name for found in both] == ["a + 0.25 x b - 0.25 x c", "d + 0.25 x b - 0.25 x c"]
    assert both[0].row == pytest.approx(unit(a + 0.25 * b.astype(float) - 0.25 * c), abs=1e-6)
    assert [found.label for found in both] == ["x", None]  # what is taken away says nothing
    assert both[0].own_rows == {1, 2, 3}


def test_what_is_made_of_several_pictures_is_none_of_them():
    a, b = query("a", blocked(1)), query("b", blocked(2))
    (mean,) = combined([a, b], [], [], SearchConfig(mean=True), BLOCKS)
    (sum_,) = combined([a], [b], [], SearchConfig(), BLOCKS)
    assert mean.path is sum_.path is None
    assert [found.path for found in combined([a], [], [], SearchConfig(), None)] == ["a.jpg"]


def test_without_mean_each_query_is_asked_as_it_is():
    asking = [query("a", blocked(1)), query("b", blocked(2))]
    assert combined(asking, [], [], SearchConfig(), BLOCKS) == asking


def test_pictures_that_cancel_each_other():
    a = query("a", blocked(1))
    with pytest.raises(ConfigError, match="cancel each other"):
        combined([a], [], [a], SearchConfig(weight=1.0), BLOCKS)
