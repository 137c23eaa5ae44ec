"""`cgd index`: what it says, in words and as JSON, and what search makes of it."""

import json

import numpy as np
import pytest
from cli_toys import check_failure


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """4 000 rows without a table."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((40, 32)), 100, axis=0)
    values += 0.4 * rng.standard_normal(values.shape)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    np.save("feats.npy", values.astype(np.float32))


def test_it_says_what_it_made_and_what_is_there_already(cgd, rows):
    ran = cgd("index", "feats.npy", "--type", "rabitq", "--recall", "0.9")
    assert ran.code == 0, ran.err
    assert "feats.faiss made in" in ran.out and "recall@10" in ran.out and "queries/s" in ran.out
    again = cgd("index", "feats.npy", "--type", "rabitq", "--recall", "0.9", "--json")
    told = json.loads(again.out)
    assert told["new"] is False and told["recall"] >= 0.9 and told["rows"] == 4_000
    found = cgd("search", "row:7", "--index", "feats.npy", "-k", "3")
    assert "feats.faiss` proposes" in found.err and "--exact" in found.err
    exact = cgd("search", "row:7", "--index", "feats.npy", "-k", "3", "--exact")
    assert exact.out == found.out and "proposes" not in exact.err


def test_few_rows_want_none(cgd, rows):
    ran = cgd("index", "feats.npy")
    assert ran.code == 0 and "none is made of 4000 rows" in ran.out


def test_what_is_no_index_or_cannot_be_asked(cgd, rows):
    check_failure(cgd("index", "gone.npy"), 1, "gone.npy")
    check_failure(cgd("index", "feats.npy", "--recall", "2"), 2, "--recall")
    ran = cgd("index", "feats.npy", "--type", "tree")
    assert ran.code == 2 and "tree" in ran.err
