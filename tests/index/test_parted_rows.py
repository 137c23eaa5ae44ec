"""Several arrays read as one give what the one would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgdcli.index.exact import nearest
from cgdcli.index.parted_rows import PartedRows


def unit(rows, dim=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def cut(whole, lengths):
    places = np.cumsum(lengths)[:-1]
    return PartedRows(np.split(whole, places))


lengths = st.lists(st.integers(0, 5), min_size=1, max_size=6)
bounds = st.one_of(st.none(), st.integers(-40, 40))


@given(lengths, bounds, bounds, st.sampled_from([None, 1, 2, -1, -3]))
def test_slices(sizes, start, stop, step):
    whole = unit(sum(sizes))
    parts = cut(whole, sizes)
    key = slice(start, stop, step)
    assert np.array_equal(parts[key], whole[key])
    assert parts.shape == whole.shape and len(parts) == len(whole) and parts.size == whole.size


@given(lengths.filter(any), st.data())
def test_numbers(sizes, data):
    whole = unit(sum(sizes))
    parts = cut(whole, sizes)
    numbers = data.draw(st.lists(st.integers(-len(whole), len(whole) - 1), max_size=9))
    assert np.array_equal(parts[numbers], whole[np.array(numbers, dtype=int)])
    mask = np.arange(len(whole)) % 2 == 0
    assert np.array_equal(parts[mask], whole[mask])
    for number in numbers:
        assert parts[number].tobytes() == whole[number].tobytes()
    assert np.array_equal(np.asarray(parts, dtype=np.float64), whole.astype(np.float64))
    assert np.array_equal(list(parts), whole)


@pytest.mark.parametrize("key", [5, -6, [0, 5], [-6]])
def test_rows_that_are_not_there(key):
    with pytest.raises(IndexError, match="of 5"):
        cut(unit(5), [2, 3])[key]


def test_a_slice_within_one_array_is_no_copy():
    whole = unit(9)
    parts = cut(whole, [0, 4, 5])
    assert np.shares_memory(parts[1:4], whole)
    assert not np.shares_memory(parts[3:5], whole)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(parts, copy=False)


def test_a_search_over_them_is_that_of_the_whole_to_the_bit():
    whole, queries = unit(400, seed=1), unit(7, seed=2)
    whole[300] = whole[10]  # equal similarities come by row
    for block in (16, 4096):
        expected = nearest(queries, whole, 20)
        found = nearest(queries, cut(whole, [0, 130, 1, 200, 69]), 20, gallery_block=block)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
