"""Nearest rows against the whole matrix in float64, whatever the blocks."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.config import ScanConfig
from cgdcli.errors import ConfigError, IndexFileError
from cgdcli.index import candidates, exact
from cgdcli.index.exact import nearest
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.rows import RowWriter, open_rows


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
        "few": draw(st.sampled_from([0, 4, 99])),
    }
    return queries, gallery, draw(st.integers(1, 50)), exclude, blocks


@settings(max_examples=300, deadline=None)
@given(searches())
def test_nearest_is_the_whole_matrix_sorted(search):
    queries, gallery, k, exclude, blocks = search
    agree(queries, gallery, k, exclude, **blocks)


@settings(max_examples=60, deadline=None)
@given(search=searches(), threads=st.integers(1, 5), share=st.floats(0, 1))
def test_threads_parts_and_a_choice_of_rows_change_nothing(search, threads, share):
    """The same answer from one array, from parts, and of picked rows that of those rows alone."""
    queries, gallery, k, exclude, blocks = search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_CACHED_BYTES", 64)  # so that few rows are many threads' work
        patch.setattr(exact, "_CANDIDATE_BYTES", exact._CANDIDATE_BYTES * 50_000)  # two at a time
        for spared in ("_FEW_MORE", "_MORE", "_SCORED_MEANWHILE"):  # so that few are many
            patch.setattr(candidates, spared, -2)
        config = ScanConfig(threads=threads)
        agree(queries, gallery, k, exclude, config=config, **blocks)
        cut = int(share * len(gallery))
        parted = PartedRows([gallery[:cut], gallery[cut:]])
        found = nearest(queries, parted, k, exclude=exclude, config=config, **blocks)
        among = np.flatnonzero(np.random.default_rng(cut).random(len(gallery)) < share)
        picked = nearest(queries, gallery, k, exclude=exclude, among=among, config=config, **blocks)
    expected, expected_ids = naive(queries, gallery, k, exclude)
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], expected_ids)
    for query, (similarities, ids) in enumerate(zip(*picked, strict=True)):
        hidden = exclude[query] if exclude else set()
        scores = [
            (-float(np.vecdot(queries[query].astype(float), gallery[i].astype(float))), i)
            for i in among.tolist()
            if i not in hidden
        ]
        best = sorted(scores)[:k]
        assert ids[ids >= 0].tolist() == [i for _, i in best]
        assert similarities[ids >= 0].tolist() == [-s for s, _ in best]
        assert len(ids) == min(k, len(among))


@pytest.fixture
def file(tmp_path):
    """3 000 rows of 16, written as an index's are."""

    def write(dtype="float32", rows=3_000):
        writer = RowWriter(tmp_path / f"{dtype}.npy", 16, dtype=dtype)
        writer.append(unit(np.random.default_rng(5).standard_normal((rows, 16))))
        writer.finish()
        return writer.path

    return write


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("asked", [1, 3, 40])
def test_a_file_is_read_the_first_time_and_mapped_from_then_on(file, dtype, asked, monkeypatch):
    path, rng = file(dtype), np.random.default_rng(6)
    queries, rows = unit(rng.standard_normal((asked, 16))), open_rows(path)
    reads, preadv = [], os.preadv
    monkeypatch.setattr("os.preadv", lambda *given: reads.append(given[2]) or preadv(*given))
    expected = naive(queries, np.load(path), 7)
    for turn in range(2):
        found, ids = nearest(queries, rows, 7, gallery_block=512)
        assert np.array_equal(found, expected[0]) and np.array_equal(ids, expected[1])
        assert (len(reads) == 6) if turn == 0 else not reads, reads
        reads.clear()


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("asked", [1, 9])
def test_a_file_that_was_cut_short_meanwhile_is_an_error_and_no_crash(file, asked, scanned):
    path = file()
    rows, queries = open_rows(path), unit(np.eye(16)[:asked])
    if scanned:
        nearest(queries, rows, 3)
    with path.open("r+b") as handle:
        handle.truncate(20_000)
    with pytest.raises(IndexFileError, match=r"bec[ao]me shorter"):
        nearest(queries, rows, 3)


@pytest.mark.parametrize("asked", [1, 9])
def test_a_file_that_was_replaced_meanwhile_is_read_as_it_was(file, asked, tmp_path):
    path = file()
    rows, queries = open_rows(path), unit(np.random.default_rng(6).standard_normal((asked, 16)))
    expected = naive(queries, np.load(path), 3)
    other = tmp_path / "other.npy"
    np.save(other, unit(np.random.default_rng(7).standard_normal((3_000, 16))))
    other.replace(path)
    found, ids = nearest(queries, rows, 3)
    assert np.array_equal(found, expected[0]) and np.array_equal(ids, expected[1])


def test_products_take_as_many_threads_as_are_allowed(monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    def now():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    rows, seen, matmul = np.eye(20, dtype=np.float32), [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda *a, **b: seen.append(now()) or matmul(*a, **b))
    with threadpool_limits(3, user_api="blas"):
        for threads in (1, 2, 0):
            nearest(rows, rows, 3, config=ScanConfig(threads=threads))
        assert now() == {3}
    assert seen == [{1}, {2}, {3}]


@pytest.mark.parametrize(("asked", "dtype"), [(1, "float32"), (200, "float32"), (200, "float16")])
def test_memory_stays_within_what_is_allowed(asked, dtype, tmp_path):
    """Of 200 000 rows of 64 (51 MB as float32) and up to 40 million products."""
    writer = RowWriter(tmp_path / "rows.npy", 64, dtype=dtype)
    for seed in range(10):
        writer.append(unit(np.random.default_rng(seed).standard_normal((20_000, 64))))
    writer.finish()
    rows, queries = (
        open_rows(writer.path),
        unit(np.random.default_rng(9).standard_normal((asked, 64))),
    )
    found = {}
    for allowed in (8, 24):
        tracemalloc.start()
        found[allowed] = nearest(queries, rows, 10, config=ScanConfig(allowed * 2**20))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < allowed * 2**20, f"{peak / 2**20:.1f} MiB of {allowed}"
    assert all(np.array_equal(a, b) for a, b in zip(found[8], found[24], strict=True))


@pytest.mark.parametrize(("asked", "rows"), [(1, 40_000), (256, 6_000)])
def test_equal_rows_take_no_more_memory_and_come_in_order(asked, rows):
    """Every row is a candidate of every query, to the last."""
    gallery = np.tile(unit(np.ones((1, 256))), (rows, 1))
    gallery[5_000:] = unit(np.arange(1, 257)[None])  # less similar
    tracemalloc.start()
    similarities, ids = nearest(gallery[:asked], gallery, 3, config=ScanConfig(8 * 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20, f"{peak / 2**20:.1f} MiB"
    assert (ids == [0, 1, 2]).all() and len(np.unique(similarities)) == 1


def test_exclusions_among_equal_rows():
    """Of rows that are equal the first that are left to a query."""
    gallery = np.tile(unit(np.eye(8)[:3]), (200, 1))
    exclude = [set(range(0, 150, 3)), {3, 6}, set()]
    agree(gallery[:3], gallery, 5, exclude)
    agree(np.repeat(gallery[:3], 3, axis=0), gallery, 5, exclude * 3, gallery_block=590)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("asked", [1, 9])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(tmp_path, dtype, asked, bad):
    """It was looked for in a sample only, or came later."""
    rows = unit(np.random.default_rng(5).random((3_000, 16)), dtype)
    rows[1_234, 3] = bad
    np.save(tmp_path / "rows.npy", rows)
    queries, mapped = (
        unit(np.random.default_rng(6).random((asked, 16))),
        open_rows(tmp_path / "rows.npy"),
    )
    for among, block in [(None, None), (None, 512), (np.arange(1_000, 2_000), 512)]:
        with pytest.raises(IndexFileError, match="row 1234 of the index is not finite") as caught:
            nearest(queries, mapped, 10, among=among, gallery_block=block)
        assert "--rebuild" in caught.value.hint
    found, ids = nearest(queries, mapped, 3, among=np.arange(1_000))
    assert np.isfinite(found).all() and (ids >= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("asked", [1, 9])
def test_in_memory_a_row_that_is_not_finite_is_nobodys_hit(asked, value):
    rows = unit(np.random.default_rng(5).standard_normal((300, 16)))
    queries, kept = rows[:asked].copy(), np.delete(np.arange(300), 123)
    rows[123, 4] = value
    for block in (None, 100):
        _, ids = nearest(queries, rows, 7, gallery_block=block)
        assert np.array_equal(ids, kept[nearest(queries, rows[kept], 7)[1]])


def test_memory_for_less_than_one_row_is_refused():
    rows = np.zeros((2, 40_000), np.float32)
    with pytest.raises(ConfigError, match="too small for rows of 40000 columns"):
        nearest(rows, rows, 1, config=ScanConfig(8 * 2**20))


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
