"""Nearest rows against the whole matrix in float64, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.index.exact import nearest


def unit(values, dtype=np.float32):
    values = np.asarray(values, dtype=np.float64)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def naive(queries, gallery, k, exclude=None):
    """Every similarity in float64 of the numbers as stored, sorted by (similarity, row)."""
    all_similarities, all_ids = [], []
    for number, query in enumerate(queries.astype(np.float32).astype(np.float64)):
        hidden = exclude[number] if exclude else set()
        scores = [float(np.vecdot(query, row.astype(np.float64))) for row in gallery]
        order = sorted((-s, i) for i, s in enumerate(scores) if i not in hidden)[:k]
        missing = min(k, len(gallery)) - len(order)
        all_similarities.append([-s for s, _ in order] + [-np.inf] * missing)
        all_ids.append([i for _, i in order] + [-1] * missing)
    return np.array(all_similarities), np.array(all_ids)


def agree(queries, gallery, k, exclude=None, **blocks):
    found, ids = nearest(queries, gallery, k, exclude=exclude, **blocks)
    expected, expected_ids = naive(queries, gallery, k, exclude)
    assert ids.tolist() == expected_ids.tolist()
    assert np.array_equal(found, expected)
    assert found.dtype == np.float64 and ids.dtype == np.int64


@st.composite
def searches(draw):
    """Few directions, so that equal rows are common; dimension, blocks and exclusions vary."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim = draw(st.sampled_from([1, 2, 3, 16, 130]))
    directions = unit(rng.standard_normal((draw(st.integers(1, 12)), dim)))
    rows, asked = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    gallery = directions[rng.integers(0, len(directions), rows)]
    gallery = gallery.astype(draw(st.sampled_from([np.float32, np.float16])))
    queries = directions[rng.integers(0, len(directions), asked)]
    exclude = draw(
        st.none() | st.lists(st.sets(st.integers(0, rows - 1)), min_size=asked, max_size=asked)
    )
    blocks = {
        "gallery_block": draw(st.integers(1, 50)),
        "query_block": draw(st.integers(1, 12)),
    }
    return queries, gallery, draw(st.integers(1, 50)), exclude, blocks


@settings(max_examples=300, deadline=None)
@given(searches())
def test_nearest_is_the_whole_matrix_sorted(search):
    queries, gallery, k, exclude, blocks = search
    agree(queries, gallery, k, exclude, **blocks)


def test_nearly_equal_rows_are_told_apart_in_float64():
    """Rows that differ in the last bit of one number: float32 products cannot order them."""
    rng = np.random.default_rng(0)
    base = unit(rng.standard_normal((1, 512)))
    gallery = np.repeat(base, 60, axis=0)
    for row in range(60):
        for place in rng.integers(0, 512, 3):
            gallery[row, place] = np.nextafter(gallery[row, place], rng.choice([-2.0, 2.0]))
    for block in (1, 7, 60):
        agree(unit(rng.standard_normal((3, 512))), gallery, 10, gallery_block=block)


def test_equal_rows_come_in_row_order():
    gallery = np.tile(unit([[3.0, 4.0]]), (50, 1))
    for block in (1, 8, 50, 1000):
        similarities, ids = nearest(gallery[:2], gallery, 20, gallery_block=block)
        assert ids.tolist() == [list(range(20))] * 2
        assert len(set(similarities.ravel().tolist())) == 1


def test_a_batch_gives_what_single_queries_give():
    rng = np.random.default_rng(1)
    queries, gallery = (unit(rng.standard_normal((n, 32))) for n in (20, 100))
    together = nearest(queries, gallery, 7)
    for row in range(20):
        alone = nearest(queries[row : row + 1], gallery, 7)
        assert np.array_equal(alone[0][0], together[0][row])
        assert np.array_equal(alone[1][0], together[1][row])


def test_k_above_the_gallery_gives_all_of_it():
    gallery = unit(np.eye(4))
    similarities, ids = nearest(gallery, gallery, 99)
    assert similarities.shape == (4, 4)
    assert sorted(ids[0].tolist()) == [0, 1, 2, 3]


def test_exclusions_leave_minus_infinity_and_minus_one():
    gallery = unit(np.eye(3))
    similarities, ids = nearest(gallery[:1], gallery, 3, exclude=[{0, 2}])
    assert ids.tolist() == [[1, -1, -1]]
    assert similarities.tolist() == [[0.0, -np.inf, -np.inf]]


def test_exclusions_are_those_of_their_own_query():
    gallery = unit(np.eye(5))
    exclude = [{i} for i in range(5)]
    _, ids = nearest(gallery, gallery, 4, exclude=exclude, query_block=2, gallery_block=2)
    for query in range(5):
        assert sorted(ids[query].tolist()) == [i for i in range(5) if i != query]


def test_empty_gallery_and_no_queries():
    gallery = unit(np.eye(3))
    similarities, ids = nearest(gallery, gallery[:0], 5)
    assert similarities.shape == ids.shape == (3, 0)
    assert nearest(gallery[:0], gallery, 2)[1].shape == (0, 2)


@pytest.mark.parametrize(("k", "dim"), [(0, 3), (-1, 3), (1, 2)])
def test_bad_arguments_are_refused(k, dim):
    with pytest.raises(ValueError, match="k >= 1 and equal dimensions"):
        nearest(unit(np.eye(3)), unit(np.eye(dim)), k)


def test_arguments_are_left_alone():
    gallery = unit(np.random.default_rng(0).standard_normal((9, 4)))
    before = gallery.copy()
    nearest(gallery, gallery, 3, exclude=[{i} for i in range(9)])
    assert np.array_equal(gallery, before)
