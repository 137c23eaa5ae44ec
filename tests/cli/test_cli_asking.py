"""`cgd search`: filters, weights, arithmetic, re-ranking, queries from elsewhere, limits."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cli_toys import check_failure, draw, environment

from cgdcli import search_images
from cgdcli.errors import DatasetError
from cgdcli.index.store import EmbeddingIndex

RED, GREEN = "imgs/red/10.png", "imgs/green/11.png"


def hits(ran):
    assert ran.code == 0, ran.err
    (answer,) = json.loads(ran.out)
    return answer["hits"]


@pytest.fixture
def ask(cgd, in_toy):
    return lambda *arguments: cgd("search", *arguments, "--index", "feats.npy", "--json")


def test_where(ask):
    found = hits(ask("row:0", "--where", 'label == "green" or path like "red/%2.png"'))
    assert {hit["path"] for hit in found} == {
        *(f"imgs/green/{n}.png" for n in (10, 11, 12)),
        "imgs/red/12.png",
    }
    assert hits(ask("row:0", "--where", "row > 99")) == []


def test_where_that_is_none(ask):
    check_failure(ask("row:0", "--where", "color = 1"), 2, "--where", "label, path, row, size")


def test_where_of_rows_alone(cgd, in_toy, tmp_path):
    np.save(tmp_path / "bare.npy", np.load("feats.npy"))
    ran = cgd("search", "row:0", "--index", tmp_path / "bare.npy", "--where", "row == 1")
    check_failure(ran, 4, "bare.npy")
    assert "--where" in ran.err


def test_min_similarity(ask):
    every = hits(ask("row:0"))
    least = every[3]["similarity"]
    found = hits(ask("row:0", "--min-similarity", least))
    assert [hit["row"] for hit in found] == [hit["row"] for hit in every[:4]]
    check_failure(ask("row:0", "--min-similarity", "1.5"), 2, "--min-similarity", "1.5")


def test_branch_weighs_the_cosines_that_explain_shows(ask):
    found = hits(ask("row:0", "--branch", "S=1,G=3", "--explain"))
    for hit in found:
        mean = (hit["branches"]["S"] + 3 * hit["branches"]["G"]) / 4
        assert hit["similarity"] == pytest.approx(mean, abs=1e-5)
    similarities = [hit["similarity"] for hit in found]
    assert similarities == sorted(similarities, reverse=True)


@pytest.mark.parametrize(
    ("weights", "code", "words"), [("S=x", 2, ("S=x",)), ("M=1", 4, ("`M`", "S, G"))]
)
def test_branch_that_is_none(ask, weights, code, words):
    check_failure(ask("row:0", "--branch", weights), code, "--branch", *words)


def test_branch_of_rows_alone_is_refused(cgd, in_toy, tmp_path):
    np.save(tmp_path / "bare.npy", np.load("feats.npy"))
    ran = cgd("search", "row:0", "--index", tmp_path / "bare.npy", "--branch", "S=1")
    check_failure(ran, 4, "bare.npy")
    assert "--branch" in ran.err


def test_mean_plus_and_minus(ask, in_toy):
    rows = EmbeddingIndex.open(in_toy.index).rows
    blocks = [rows[i].astype(float).reshape(2, -1) for i in (0, 3, 6)]

    def expected(total):
        total = (total / np.linalg.norm(total, axis=1, keepdims=True)).ravel() / np.sqrt(2)
        return np.sort(rows @ total)[::-1]

    mean = hits(ask("row:0", "row:3", "--mean"))
    assert [h["similarity"] for h in mean] == pytest.approx(expected(sum(blocks[:2])), abs=1e-5)
    both = ask("row:0", "--plus", "row:3", "--minus", "row:6", "--weight", "0.4")
    total = blocks[0] + 0.4 * blocks[1] - 0.4 * blocks[2]
    assert [h["similarity"] for h in hits(both)] == pytest.approx(expected(total), abs=1e-5)
    assert json.loads(both.out)[0]["query"] == "row:0 + 0.4 x row:3 - 0.4 x row:6"
    alone = hits(ask("row:0", "--plus", "row:3", "--exclude-self"))
    assert not {0, 3} & {hit["row"] for hit in alone}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--weight", "2"), "--weight"),
        (("--plus", "row:1", "--weight", "0"), "--weight"),
        (("--mean",), "--mean"),
        (("--rerank-top", "50"), "--rerank-top"),
        (("--rerank", "aqe", "-k", "200"), "200 hits"),
        (("--max-memory", "1"), "--max-memory"),
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(ask, given, words):
    check_failure(ask("row:0", *given), 2, words)


def test_an_operand_that_cannot_be_read(ask, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"x")
    check_failure(ask("row:0", "--plus", tmp_path / "broken.jpg"), 1, "broken.jpg", "--plus")


def test_the_operand_is_named_where_a_query_cannot_be_read_either(ask, tmp_path):
    for name in ("query.jpg", "operand.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    ran = ask(tmp_path / "query.jpg", "--minus", tmp_path / "operand.jpg")
    check_failure(ran, 1, "operand.jpg", "--minus")


def test_a_query_that_can_be_read_only_once(ask, tmp_path):
    data = draw(tmp_path / "q.png", "green", 40).read_bytes()
    reading, writing = os.pipe()
    assert os.write(writing, data) == len(data)  # the system keeps 64 kB
    os.close(writing)
    try:
        found = hits(ask(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
    assert found == hits(ask(tmp_path / "q.png"))


@pytest.mark.parametrize("name", ["row:" + "1" * 5_000, "row:" + "1" * 400, "a" * 300])
def test_a_name_that_is_none(ask, name):
    check_failure(ask(name), 1, name)


def test_no_query_at_all(toy):
    with pytest.raises(DatasetError, match="no query"):
        search_images([], toy.index)


@pytest.mark.parametrize("method", ["k-reciprocal", "aqe", "dba"])
def test_rerank_orders_the_first_hits_anew(ask, method):
    plain, found = hits(ask("row:0")), hits(ask("row:0", "--rerank", method))
    assert {hit["row"] for hit in found} == {hit["row"] for hit in plain}
    scores = [hit["score"] for hit in found]
    assert scores == sorted(scores, reverse=True) and "score" not in plain[0]
    similarity = {hit["row"]: hit["similarity"] for hit in plain}
    assert all(hit["similarity"] == similarity[hit["row"]] for hit in found)
    few = hits(ask("row:0", "--rerank", method, "--rerank-top", "3", "-k", "3"))
    assert {hit["row"] for hit in few} == {hit["row"] for hit in plain[:3]}


def test_a_picture_on_stdin(toy, tmp_path):
    data = draw(tmp_path / "q.png", "green", 40).read_bytes()
    line = [sys.executable, "-m", "cgdcli", "search", "-", "--index", "feats.npy", "--json"]
    sheet = tmp_path / "s.png"
    ran = subprocess.run(
        [*line, "--sheet", sheet], cwd=toy.folder, env=environment(), input=data, check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    (answer,) = json.loads(ran.stdout)
    assert answer["query"] == "-" and answer["hits"][0]["label"] == "green" and sheet.exists()


def test_min_similarity_says_what_it_means_where_that_was_counted(cgd, toy, tmp_path):
    index = toy.copy_index(tmp_path)
    asked = ("search", "row:0", "--index", index, "--min-similarity", "0.5", "--json")
    assert "share a class" not in cgd(*asked).err
    assert cgd("evaluate", "--index", index, "--calibrate").code == 0
    ran = cgd(*asked)
    assert ran.code == 0 and "0.5: " in ran.err and "share a class" in ran.err
