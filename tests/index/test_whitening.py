"""PCA of an index's rows: the maths, what is kept of it, and an index that is made with it."""

import dataclasses
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from cgdcli.config import VectorConfig
from cgdcli.errors import DatasetError, IndexFileError, MismatchError
from cgdcli.index import whitening
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture, sidecar
from cgdcli.index.replacing import check_replaceable
from cgdcli.index.rows import check_unit_rows
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.whitening import Projection, learn_projection

DIM = 12


def unit(rows, seed=0, dim=DIM):
    """Rows about a mean far from 0, with a variance of their own along each of mixed directions."""
    rng = np.random.default_rng(seed)
    mixed = np.linalg.qr(np.random.default_rng(99).standard_normal((dim, dim)))[0]
    values = rng.standard_normal((rows, dim)) * np.geomspace(1, 0.02, dim) @ mixed + 1
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def centred(projection, rows):
    """What is projected, before it is made unit."""
    return (rows.astype(np.float64) - projection.mean) @ projection.matrix.astype(np.float64)


# ---- the maths


def test_a_cut_keeps_the_directions_of_largest_variance():
    rows = unit(400)
    projection = learn_projection(rows, 3, whiten=False)
    wanted = np.linalg.svd(rows - rows.mean(axis=0, dtype=np.float64), full_matrices=False)
    found = centred(projection, rows)
    assert np.allclose(found.var(axis=0), wanted.S[:3] ** 2 / 400, rtol=1e-4)
    assert np.allclose(np.abs((projection.matrix * wanted.Vh[:3].T).sum(axis=0)), 1, atol=1e-5)
    assert projection.shrinkage is None and projection.learned_on == 400


def test_whitened_columns_are_uncorrelated_and_of_one_variance():
    rows = unit(500)
    found = centred(learn_projection(rows, 8, whiten=True, shrinkage=0.0), rows)
    covariance = np.cov(found.T, bias=True)
    assert np.allclose(covariance / covariance[0, 0], np.eye(8), atol=1e-3)


def test_shrinkage_at_one_is_the_plain_cut_and_between_it_holds_small_variances_back():
    rows = unit(500)
    plain = learn_projection(rows, 8, whiten=False)
    whole = learn_projection(rows, 8, whiten=True, shrinkage=1.0)
    assert np.allclose(whole.matrix, plain.matrix, atol=1e-6)
    spread = [
        np.linalg.norm(learn_projection(rows, 8, whiten=True, shrinkage=a).matrix, axis=0)[-1]
        for a in (0.0, 0.1, 1.0)
    ]
    assert spread == sorted(spread, reverse=True) and spread[0] > 1.5 * spread[1]


def test_projected_rows_are_unit_and_a_row_does_not_depend_on_its_neighbours():
    rows = unit(300)
    projection = learn_projection(rows, 5, whiten=True)
    found = projection.apply(rows)
    assert found.dtype == np.float32 and found.shape == (300, 5)
    check_unit_rows(Path("x"), found)
    alone = [projection.apply(rows[i : i + 1], each=True)[0] for i in range(50)]
    assert np.array_equal(projection.apply(rows[:50], each=True), np.stack(alone))
    assert np.allclose(alone, found[:50], atol=1e-6)


def test_blocks_do_not_matter_nor_rows_that_do_not_count(monkeypatch):
    rows = unit(300)
    whole = learn_projection(rows[::2], 6, whiten=True)
    monkeypatch.setattr(whitening, "_VALUES_AT_ONCE", 7 * DIM)
    parts = learn_projection(rows, 6, whiten=True, kept=np.arange(0, 300, 2))
    assert parts.learned_on == 150
    assert np.allclose(parts.matrix, whole.matrix, atol=1e-5)
    again = learn_projection(rows, 6, whiten=True, kept=np.arange(0, 300, 2))
    assert again.matrix.tobytes() == parts.matrix.tobytes()


def test_few_rows_are_warned_of(caplog):
    learn_projection(unit(2 * DIM), 4, whiten=True)
    learn_projection(unit(2 * DIM - 1), 4, whiten=False)
    assert not caplog.records
    learn_projection(unit(2 * DIM - 1), 4, whiten=True)
    assert "23 rows of 12 columns" in caplog.text


def test_signs_are_fixed():
    matrix = learn_projection(unit(100), DIM, whiten=False).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(DIM)] > 0).all()


@pytest.mark.parametrize(("rows", "dim"), [(0, 1), (1, 1), (5, 5), (12, 12)])
def test_too_few_rows_say_nothing(rows, dim):
    with pytest.raises(DatasetError, match=f"{rows} rows are too few .* {dim} columns") as caught:
        learn_projection(unit(rows), dim, whiten=True)
    if rows > 1:
        assert f"--dim {rows - 1}" in caught.value.hint
    assert learn_projection(unit(dim + 1), dim, whiten=True).matrix.shape == (DIM, dim)


def test_rows_that_are_too_much_alike_say_no_more():
    rows = np.repeat(unit(4), 10, axis=0)
    with pytest.raises(DatasetError, match="differ in 3 directions only") as caught:
        learn_projection(rows, 4, whiten=True)
    assert "--dim 3" in caught.value.hint
    with pytest.raises(DatasetError, match="0 directions"):
        learn_projection(np.ones((9, 4), np.float32) / 2, 1, whiten=False)


def test_the_mean_itself_has_no_direction():
    projection = learn_projection(unit(100), 4, whiten=True)
    with pytest.raises(DatasetError, match="mean of the 100"):
        projection.apply(np.stack([unit(1)[0], projection.mean]))


def test_a_projection_comes_back_as_it_was_and_damaged_not():
    projection = learn_projection(unit(100), 4, whiten=True)
    database = sqlite3.connect(":memory:")
    projection.save(database)
    facts = projection.to_dict()
    found = Projection.saved(database, facts)
    for field in dataclasses.fields(Projection):
        assert np.array_equal(getattr(found, field.name), getattr(projection, field.name))
    for damage in (
        "UPDATE projection SET data = substr(data, 1, 8) WHERE name = 'matrix'",
        "DELETE FROM projection WHERE name = 'mean'",
        "DROP TABLE projection",
    ):
        database.execute(damage)
        with pytest.raises(IndexFileError, match="projection"):
            Projection.saved(database, facts)


# ---- an index


def header(vectors, **values):
    known = {
        "rows": 0,
        "dim": vectors.stored_dim(DIM),
        "model": {"source": "m.safetensors", "fingerprint": "f" * 64},
        "engine": "torch",
        "precision": "fp32",
        "blocks": None if vectors.projects else [("S", 0, DIM)],
        "sources": ["/data"],
        "vectors": vectors.to_dict(),
    }
    return IndexHeader(**known | values)


def build(path, vectors, rows, *, first=0, remove=(), settings=None, refreshes=False):
    names = [f"{first + i:04d}.jpg" for i in range(len(rows))]
    with IndexBuilder(
        path, DIM, vectors=vectors, settings=settings, refreshes=lambda: refreshes
    ) as builder:
        builder.begin()
        builder.remove(remove)
        for start in range(0, len(rows), 16):
            part = slice(start, start + 16)
            builder.append(rows[part], [Picture(Path("/data"), name) for name in names[part]])
        builder.finish(header(vectors))
    return path


VECTORS = [
    VectorConfig(whiten=True),
    VectorConfig(dim=5),
    VectorConfig(whiten=True, dim=5, dtype="float16"),
    VectorConfig(dtype="float16"),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "feats.npy"


@pytest.mark.parametrize("vectors", VECTORS, ids=str)
def test_an_index_holds_projected_rows_and_the_projection(file, vectors):
    rows = unit(60)
    index = EmbeddingIndex.open(build(file, vectors, rows))
    assert index.rows.dtype.name == vectors.dtype and index.dim == vectors.stored_dim(DIM)
    wanted = rows
    if vectors.projects:
        learned = learn_projection(rows, index.dim, whiten=vectors.whiten)
        wanted = learned.apply(rows)
        assert np.array_equal(index.projection.matrix, learned.matrix)
        assert index.header.projection == learned.to_dict()
        assert index.header.projection["learned_on"] == 60
    else:
        assert index.projection is None and index.header.projection is None
    assert np.array_equal(index.rows, wanted.astype(vectors.dtype))
    assert VectorConfig.from_dict(index.header.vectors) == vectors
    assert np.array_equal(np.load(file), index.rows)
    assert sorted(path.name for path in file.parent.iterdir()) == ["feats.npy", "feats.sqlite"]


@pytest.mark.parametrize("vectors", VECTORS, ids=str)
def test_a_refreshed_index_keeps_its_projection(file, vectors):
    """Learned on other rows it would be another: that is how one sees it frozen."""
    old, new = unit(60), unit(40, seed=1)
    with EmbeddingIndex.open(build(file, vectors, old)) as index:
        before, frozen = np.array(index.rows), index.projection
    build(file, vectors, new, first=60, remove=[3, 7], settings={"a": 1}, refreshes=True)
    index = EmbeddingIndex.open(file)
    assert len(index) == 98
    assert np.array_equal(index.rows[:58], np.delete(before, [3, 7], axis=0))
    wanted = frozen.apply(new, each=True) if frozen else new
    assert np.array_equal(index.rows[58:], wanted.astype(vectors.dtype))
    if frozen:
        assert index.projection.matrix.tobytes() == frozen.matrix.tobytes()
        assert index.header.projection == frozen.to_dict()


@pytest.mark.parametrize("vectors", VECTORS, ids=str)
def test_an_unfinished_index_is_gone_on_with(file, vectors):
    """Rows that wait for their projection are float32 whatever the index will be."""
    rows = unit(60)
    build(file.with_name("whole.npy"), vectors, rows)
    with IndexBuilder(file, DIM, vectors=vectors, settings={"a": 1}) as builder:
        builder.append(rows[:32], [Picture(Path("/data"), f"{i:04d}.jpg") for i in range(32)])
        builder.commit(now=True)
    with IndexBuilder(file, DIM, vectors=vectors, settings={"a": 1}) as builder:
        assert builder.continued and builder.kept() == 32
        builder.append(rows[32:], [Picture(Path("/data"), f"{i:04d}.jpg") for i in range(32, 60)])
        builder.finish(header(vectors))
    assert file.read_bytes() == file.with_name("whole.npy").read_bytes()


def test_too_few_rows_keep_what_was_embedded(file):
    vectors = VectorConfig(whiten=True)
    rows = unit(DIM)
    with (
        pytest.raises(DatasetError, match="too few"),
        IndexBuilder(file, DIM, vectors=vectors, settings={"a": 1}) as builder,
    ):
        builder.append(rows, [Picture(Path("/data"), f"{i}.jpg") for i in range(DIM)])
        builder.finish(header(vectors))
    assert not file.exists()
    with IndexBuilder(file, DIM, vectors=vectors, settings={"a": 1}) as builder:
        assert builder.continued
        builder.append(unit(9, 1), [Picture(Path("/data"), f"new{i}.jpg") for i in range(9)])
        builder.finish(header(vectors))
    assert EmbeddingIndex.open(file).header.projection["learned_on"] == DIM + 9


@pytest.mark.parametrize(
    "other",
    [
        VectorConfig(),
        VectorConfig(flip=True, whiten=True, dim=5),
        VectorConfig(scales=(0.7, 1), whiten=True, dim=5),
        VectorConfig(dim=5),
        VectorConfig(whiten=True),
        VectorConfig(whiten=True, dim=5, dtype="float16"),
    ],
    ids=str,
)
def test_an_index_of_other_vectors_is_refused_and_both_are_named(file, other):
    vectors = VectorConfig(whiten=True, dim=5)
    build(file, vectors, unit(20))
    assert check_replaceable(file, header(vectors), rebuild=False)
    with pytest.raises(MismatchError) as caught:
        check_replaceable(file, header(other), rebuild=False)
    assert "made with --whiten --dim 5," in caught.value.what
    assert (str(other) or "as the network gives them") in caught.value.what
    assert "--rebuild" in caught.value.hint
    assert check_replaceable(file, header(other), rebuild=True)


def test_a_damaged_projection_is_said(file):
    build(file, VectorConfig(whiten=True), unit(20))
    with sqlite3.connect(sidecar(file)) as database:
        database.execute("UPDATE projection SET data = x'00' WHERE name = 'mean'")
    database.close()
    with pytest.raises(IndexFileError, match="projection"):
        _ = EmbeddingIndex.open(file).projection
