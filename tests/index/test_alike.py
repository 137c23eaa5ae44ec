"""Groups of alike rows against a naive search of all pairs, and what bounds the memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.index import alike
from cgdcli.index.alike import (
    Components,
    connect_alike,
    extremes,
    first_equal,
    first_of,
    groups_of,
    keepers,
)
from cgdcli.index.parted_rows import PartedRows


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def naive_groups(rows, threshold):
    """Depth first over all pairs, in float64; rows of equal bits are joined too."""
    wide = rows.astype(np.float64)
    scores = wide @ wide.T
    joined = scores >= threshold
    joined |= (rows[:, None] == rows[None]).all(axis=2)
    left, groups = set(range(len(rows))), []
    while left:
        way, group = [min(left)], set()
        while way:
            one = way.pop()
            if one not in group:
                group.add(one)
                way += np.flatnonzero(joined[one]).tolist()
        left -= group
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def found_groups(rows, threshold, **options):
    components = Components(len(rows))
    connect_alike(rows, threshold, components, **options)
    return [group.tolist() for group in groups_of(components)]


@st.composite
def crowded(draw):
    """Rows near few directions, with copies: chains and groups of every size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    directions = rng.standard_normal((draw(st.integers(1, 8)), 3))
    count = draw(st.integers(1, 60))
    rows = directions[rng.integers(0, len(directions), count)]
    rows = unit(rows + draw(st.sampled_from([0.0, 0.05, 0.3])) * rng.standard_normal((count, 3)))
    return rows[rng.integers(0, count, count)]


@settings(max_examples=150, deadline=None)
@given(crowded(), st.sampled_from([0.5, 0.9, 0.99, 1.0]), st.sampled_from([(4, 8), (64, 64)]))
def test_groups_are_those_of_all_pairs(rows, threshold, blocks):
    assert found_groups(rows, threshold, blocks=blocks) == naive_groups(rows, threshold)


def test_blocks_parts_and_lines_at_once_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    rows = unit(rng.standard_normal((300, 4)))
    rows[200:] = unit(rows[:100] + 0.05 * rng.standard_normal((100, 4)))
    whole = found_groups(rows, 0.98)
    assert sum(map(len, whole)) > 50
    monkeypatch.setattr(alike, "_PAIRS_AT_ONCE", 10)
    assert found_groups(rows, 0.98, blocks=(7, 64)) == whole
    parted = PartedRows([rows[:100], rows[100:100], rows[100:]])
    assert found_groups(parted, 0.98, blocks=(32, 32)) == whole


def test_a_pair_at_the_threshold_is_judged_in_float64():
    """Above and below it by less than a float32 product knows."""
    rng = np.random.default_rng(1)
    rows = unit(rng.standard_normal((2, 512)))
    exact = float(np.vecdot(*rows.astype(np.float64)))
    assert found_groups(rows, exact) == [[0, 1]]
    assert found_groups(rows, np.nextafter(exact, 2)) == []


def test_float16_rows_are_grouped():
    rows = unit(np.random.default_rng(0).standard_normal((50, 9)))
    rows[10], rows[20] = rows[3], rows[3]
    assert found_groups(rows.astype(np.float16), 0.9999) == [[3, 10, 20]]


def test_equal_rows_are_found_by_their_bits():
    rows = unit(np.random.default_rng(0).standard_normal((40, 6)))
    rows[[7, 9, 30]] = rows[2]
    first = first_equal(rows)
    assert first[[2, 7, 9, 30]].tolist() == [2, 2, 2, 2]
    others = np.delete(np.arange(40), [7, 9, 30])
    assert (first[others] == others).all()


def test_a_hash_that_two_rows_share_does_not_join_them(monkeypatch):
    """Of weights that are all the same, rows of the same values in another order share it."""

    class Same:
        def integers(self, low, high, size, dtype):
            return np.ones(size, dtype)

    rows = unit([[1, 2, 3], [3, 2, 1], [1, 2, 3]])
    monkeypatch.setattr(alike.np.random, "default_rng", lambda _: Same())
    assert first_equal(rows).tolist() == [0, 1, 0]


def test_first_of():
    assert first_of(np.array([5, 3, 5, 5, 3])).tolist() == [0, 1, 0, 0, 1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_components_are_those_of_a_naive_labelling(pairs):
    components, naive = Components(20), list(range(20))
    for start in range(0, len(pairs), 7):
        some = np.array(pairs[start : start + 7], dtype=np.int64).reshape(-1, 2)
        components.join(some[:, 0], some[:, 1])
    for a, b in pairs:
        low, high = sorted((naive[a], naive[b]))
        naive = [low if n == high else n for n in naive]
    assert components.roots(np.arange(20)).tolist() == naive


def test_memory_does_not_grow_with_the_pairs():
    """20 000 rows that are all alike have 2e8 pairs: 3.2 GB if the numbers of each were kept."""
    import tracemalloc

    rng = np.random.default_rng(0)
    rows = unit(np.ones(4) + 1e-3 * rng.standard_normal((20_000, 4)))
    tracemalloc.start()
    groups = found_groups(rows, 0.99)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(group) for group in groups] == [20_000]
    assert peak < 180e6


def test_extremes_are_those_of_all_pairs(monkeypatch):
    rows = unit(np.random.default_rng(0).standard_normal((1_300, 5)))
    members = np.arange(0, 1_300, 2)
    scores = rows[members].astype(np.float64) @ rows[members].astype(np.float64).T
    pairs = scores[np.triu_indices(len(members), 1)]
    assert extremes(rows, members) == pytest.approx((pairs.min(), pairs.max()), abs=1e-6)
    monkeypatch.setattr(alike, "MEASURED", 10)
    low, high = extremes(rows, members)
    assert pairs.min() - 1e-6 <= low <= high <= pairs.max() + 1e-6


@settings(max_examples=100, deadline=None)
@given(crowded(), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_each_member_is_alike_to_the_one_kept_for_it(rows, threshold):
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    kept, similarity = keepers(rows, order, threshold)
    wide = rows[order].astype(np.float64)
    own = np.arange(len(rows))
    assert (kept[kept] == kept).all() and (kept <= own).all()
    scores = np.vecdot(wide, wide[kept])
    assert (scores[kept != own] >= min(threshold, 1 - 1e-6)).all()
    assert similarity[kept != own] == pytest.approx(scores[kept != own], abs=1e-6)
    # Two that are kept are not alike: neither would be missed.
    two = wide[np.unique(kept)]
    assert ((two @ two.T)[np.triu_indices(len(two), 1)] < threshold + 1e-6).all()
