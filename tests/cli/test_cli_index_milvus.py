"""`cgd index --to`, and what the other commands make of such an address."""

import json
import shutil

import pytest
from cli_toys import check_failure

RED, BLUE = "imgs/red/10.png", "imgs/blue/12.png"


@pytest.fixture(scope="module")
def gallery(toy, tmp_path_factory):
    """The toy's index in the embedded form, sent once."""
    from cgdcli.index.milvus.sending import send_to_milvus

    folder = tmp_path_factory.mktemp("milvus") / "gallery.db"
    send_to_milvus(toy.index, folder)
    return folder


def test_sent_and_searched(cgd, in_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"{tmp_path}/gallery.db/toys"
    ran = cgd("index", "feats.npy", "--to", address, "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert (report["rows"], report["sent"], report["recall"], report["address"]) == (
        9, 9, 1.0, address,
    )  # fmt: skip
    ran = cgd("index", "feats.npy", "--to", address)
    assert ran.code == 0 and "nothing was sent" in ran.out
    assert f"cgd search QUERY --index {address}" in ran.out
    check_failure(cgd("search", RED, "--index", f"{tmp_path}/gallery.db"), 1, "no index is at")


@pytest.mark.parametrize(
    "line",
    [(RED,), (RED, "--exclude-self", "-k", "3"), ("row:4", "--explain"), ("query.jpg",),
     (RED, "row:2", "-k", "5000"),
     (RED, "--where", 'label == "green" or label is null'),
     (RED, "--where", 'path like "red/%" and row != 7', "-k", "2", "--exact"),
     (RED, "--branch", "S=1,G=2", "--explain"),
     ("row:1", "--plus", BLUE, "--rerank", "k-reciprocal", "--rerank-top", "8", "-k", "4")],
    ids=" ".join,
)  # fmt: skip
def test_answers_are_those_of_the_files(cgd, in_toy, gallery, line):
    there = cgd("search", *line, "--index", gallery, "--json")
    here = cgd("search", *line, "--index", "feats.npy", "--json")
    assert there.code == here.code == 0, there.err
    assert json.loads(there.out) == json.loads(here.out)


def test_the_model_is_checked_as_with_files(cgd, in_toy, gallery):
    for index in (gallery, "feats.npy"):
        ran = cgd("search", "query.jpg", "--index", index, "--model", "old.safetensors")
        check_failure(ran, 4, "old.safetensors", f"did not make `{index}`")


def test_the_other_commands(cgd, in_toy, gallery):
    there, here = (
        json.loads(cgd("evaluate", "--index", index, "--json").out)
        for index in (gallery, "feats.npy")
    )
    assert {**there, "what": ""} == {**here, "what": ""}
    rows = [cgd("inspect", index, "--rows").out for index in (gallery, "feats.npy")]
    assert rows[0] == rows[1] and rows[0].count("\n") == 9
    check_failure(cgd("inspect", gallery), 1, "is an index in Milvus")


def test_options_that_would_do_nothing(cgd, in_toy, tmp_path):
    to = ("--to", tmp_path / "gallery.db")
    check_failure(cgd("index", "feats.npy", *to, "--type", "sq8"), 2, "--type does nothing")
    check_failure(cgd("index", "feats.npy", *to, "--max-memory", "64"), 2, "--max-memory does")
    check_failure(cgd("index", "feats.npy", "--timeout", "3"), 2, "--timeout does nothing")
    check_failure(cgd("index", "feats.npy", *to, "--timeout", "0"), 2, "--timeout 0.0")
    assert not (tmp_path / "gallery.db").exists()


def test_what_is_wrong_is_said(cgd, in_toy, gallery, tmp_path):
    check_failure(cgd("index", "feats.npy", "--to", "elsewhere"), 2, "`elsewhere` is no address")
    check_failure(cgd("index", gallery), 2, f"`{gallery}` is in Milvus")
    check_failure(cgd("index", "none.npy", "--to", tmp_path / "a.db"), 1, "none.npy")
    away = "http://127.0.0.1:1/gallery"
    check_failure(
        cgd("index", "feats.npy", "--to", away), 1, f"no Milvus server answers at `{away}`"
    )
    check_failure(cgd("search", RED, "--index", away), 1, f"no Milvus server answers at `{away}`")
    check_failure(cgd("embed", "imgs", "-o", away), 2, f"`{away}` is a Milvus collection")
    shutil.copy("feats.npy", tmp_path / "alone.npy")
    ran = cgd("index", tmp_path / "alone.npy", "--to", tmp_path / "a.db")
    check_failure(ran, 4, "has no table beside it")
