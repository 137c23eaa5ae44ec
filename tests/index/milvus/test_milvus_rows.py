"""Vectors of a collection read like an array; all of them only where that fits."""

import numpy as np
import pytest
from galleries import build

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index.milvus import rows as milvus_rows
from cgdcli.index.milvus.opened import MilvusIndex
from cgdcli.index.milvus.sending import send_to_milvus
from cgdcli.index.store import EmbeddingIndex


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    file = build(folder / "feats.npy", 50)
    send_to_milvus(file, folder / "gallery.db")
    with EmbeddingIndex.open(folder / "gallery.db") as there:
        assert isinstance(there, MilvusIndex)
        yield np.asarray(EmbeddingIndex.open(file).rows), there


KEYS = [
    3,
    -1,
    slice(2, 9),
    slice(40, 60),
    slice(0, 50, 7),
    [5, 2, 2],
    np.arange(50) % 9 == 1,
    np.arange(0),
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_read_as_numpy_reads(both, key, monkeypatch):
    rows, there = both
    monkeypatch.setattr(milvus_rows, "_BYTES_AT_ONCE", 3 * 4 * 8)  # three rows a page
    assert np.array_equal(there.rows[key], rows[key])


def test_what_is_not_there(both):
    with pytest.raises(IndexError):
        both[1].rows[50]


def test_what_was_read_last_is_kept_and_no_more(both, monkeypatch):
    rows, there = both
    monkeypatch.setattr(milvus_rows, "_KEPT_BYTES", 4 * 4 * 8)
    for row in range(10):
        there.rows.keep(row, rows[row])
    asked = []
    monkeypatch.setattr(
        there.rows.server, "query", lambda name, condition, fields: asked.append(condition) or []
    )
    assert np.array_equal(there.rows[[9, 8]], rows[[9, 8]]) and not asked
    with pytest.raises(IndexFileError, match="lost rows, such as 0"):
        there.rows[[0]]


def test_all_rows_are_fetched_only_where_they_fit(both, monkeypatch):
    rows, there = both
    fresh = milvus_rows.MilvusRows(there.rows.server, there.collection, *rows.shape)
    assert np.array_equal(np.concatenate(fresh.parts), rows)
    assert np.array_equal(np.array(list(fresh)), rows)
    large = milvus_rows.MilvusRows(there.rows.server, there.collection, 10**8, 512)
    with pytest.raises(MismatchError, match=r"100000000 rows of .* they are 204\.8 GB") as caught:
        large.parts  # noqa: B018
    assert caught.value.exit_code == 4
    with pytest.raises(MismatchError, match="1000000 rows of"):
        large.gathered(np.arange(10**6))
