"""`cgd duplicates`: what is printed, what xargs gets, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_toys import check_failure, process

sys.path.insert(0, str(Path(__file__).parents[1] / "auditing"))
from made_index import draw, index_of, turned


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A copy, a pair across splits, and a picture alone."""
    monkeypatch.chdir(tmp_path)
    names = ["train/a/1.png", "train/a/odd name\n.png", "test/a/2.png", "train/b/3.png"]
    for i, name in enumerate(names):
        draw(tmp_path / "data" / name, (40 * i, 9, 9), (30 + 10 * i, 30))
    shutil.copy("data/train/b/3.png", "data/train/b/copy.png")
    names.append("train/b/copy.png")
    return index_of(tmp_path / "f.npy", turned(0, 60, 10, 90, 90), names, tmp_path / "data")


def test_the_groups_in_words(cgd, index):
    ran = cgd("duplicates", index, "--threshold", "0.95")
    assert ran.code == 0 and ran.err == ""
    assert "5 rows, 2 groups of 4 pictures at a similarity of 0.95 or above, 1 of them" in ran.out
    assert "1 group across splits (test 1, train 4, by folders)" in ran.out
    assert "1  2 pictures, similarity 0.9848, across test and train" in ran.out
    assert "2  2 pictures, exact copies" in ran.out
    lines = [line.split() for line in ran.out.splitlines() if "data/" in line]
    assert [(line[0], line[3]) for line in lines] == [
        ("kept", "data/test/a/2.png"),
        ("0.9848", "data/train/a/1.png"),
        ("kept", "data/train/b/3.png"),
        ("1.0000", "data/train/b/copy.png"),
    ]


def test_where_there_are_none_nothing_could_go(cgd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["train/a/1.png", "test/a/2.png"]
    for i, name in enumerate(names):
        draw(tmp_path / "data" / name, (40 * i, 9, 9), (30, 30))
    alone = index_of(tmp_path / "f.npy", turned(0, 60), names, tmp_path / "data")
    ran = cgd("duplicates", alone)
    assert ran.code == 0 and "no two of 2 rows at a similarity of 0.96 or above" in ran.out
    assert "no group across splits" in ran.out and "could go" not in ran.out


def test_json(cgd, index):
    ran = cgd("duplicates", index, "--threshold", "0.95", "--json")
    report = json.loads(ran.out)
    assert report["threshold"] == 0.95 and report["split_by"] == "folders"
    first = report["groups"][0]
    assert first["splits"] == ["test", "train"] and first["images"][1]["spare"]
    assert "2 groups" in ran.err


def test_paths_are_what_could_go(cgd, index):
    ran = cgd("duplicates", index, "--threshold", "0.95", "--paths-only", "-q")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["data/train/a/1.png", "data/train/b/copy.png"]


def test_odd_names_reach_xargs_whole(cgd, index, tmp_path):
    """All are joined by others between them; rm takes what is printed, and no more."""
    assert r"odd name\n.png" in cgd("duplicates", index, "--threshold", "0.64").out
    options = ("--threshold", "0.64", "--paths-only", "-0", "-q")
    ran = process("duplicates", index, *options, cwd=tmp_path)
    assert ran.out.endswith("\0") and "odd name\n.png" in ran.out
    subprocess.run(["xargs", "-0", "rm", "--"], input=ran.out.encode(), check=True)
    left = sorted(p.name for p in (tmp_path / "data").rglob("*.png"))
    assert "2.png" in left and not (tmp_path / "data/train/a/odd name\n.png").exists()
    again = cgd("duplicates", index, "--threshold", "0.64", "--paths-only", "-q")
    assert again.code == 0 and again.out == ""  # who is gone is kept for nobody


def test_a_page(cgd, index, tmp_path):
    ran = cgd("duplicates", index, "--html", tmp_path / "d.html")
    assert ran.code == 0 and "page:" in ran.err
    assert "<h2>Across splits</h2>" in (tmp_path / "d.html").read_text()
    check_failure(cgd("duplicates", index, "--html", tmp_path / "d.html"), 1, "exists")
    assert cgd("duplicates", index, "--html", tmp_path / "d.html", "--force").code == 0


def test_in_parts_and_alone(cgd, index, tmp_path):
    """The same pictures in parts have the same groups; an array alone has rows."""
    rows = np.load(index)
    names = [json.loads(x)["path"] for x in cgd("inspect", index, "--rows").out.splitlines()]
    for number, part in enumerate(([0, 1, 3], [2, 4])):
        path = tmp_path / f"p.0000{number}-of-00002.npy"
        files = [Path(names[i]).relative_to(tmp_path / "data") for i in part]
        index_of(path, rows[part], map(str, files), tmp_path / "data", part=[number, 2])
    whole = cgd("duplicates", index, "--threshold", "0.95", "--paths-only", "-q")
    parts = cgd("duplicates", tmp_path / "p.npy", "--threshold", "0.95", "--paths-only", "-q")
    assert parts.code == 0 and parts.out == whole.out != ""
    np.save(tmp_path / "bare.npy", rows)
    ran = cgd("duplicates", tmp_path / "bare.npy", "--threshold", "0.95")
    assert "row:0" in ran.out and "row:2" in ran.out and "no split is known" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--paths-only", "--json"), "--paths-only"),
        (("-0",), "--null"),
        (("--force",), "--force"),
        (("--dataset", "table"), "--dataset"),
        (("--threshold", "1.5"), "1.5"),
    ],
)
def test_what_would_do_nothing_is_refused(cgd, index, arguments, words):
    check_failure(cgd("duplicates", index, *arguments), 2, words)


def test_no_index(cgd, index, tmp_path):
    check_failure(cgd("duplicates", tmp_path / "gone.npy"), 1, "gone.npy")
    check_failure(cgd("duplicates", index, "--splits", tmp_path / "gone.csv"), 1, "gone.csv")
