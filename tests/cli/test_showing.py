"""What `cgd search` prints and writes: one form on stdout, files beside it."""

import csv
import io
import json
import shutil

import pytest
from cli_toys import check_failure, draw
from PIL import Image

RED, BLUE = "imgs/red/10.png", "imgs/blue/12.png"


def ask(cgd, *arguments, index="feats.npy"):
    return cgd("search", *arguments, "--index", index)


# ---- forms


def test_json_lines_say_what_json_says(cgd, in_toy):
    ran = ask(cgd, RED, BLUE, "-k", "3", "--jsonl", "--explain")
    assert ran.code == 0
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["query"] for line in lines] == [RED, BLUE]
    assert lines == json.loads(ask(cgd, RED, BLUE, "-k", "3", "--json", "--explain").out)


def test_csv_says_what_json_says(cgd, in_toy):
    rows = list(csv.DictReader(io.StringIO(ask(cgd, RED, "row:0", "--csv", "--explain").out)))
    answers = json.loads(ask(cgd, RED, "row:0", "--json", "--explain").out)
    wanted = [(a["query"], hit) for a in answers for hit in a["hits"]]
    assert len(rows) == len(wanted) == 18
    for row, (query, hit) in zip(rows, wanted, strict=True):
        assert (row["query"], row["path"], row["label"]) == (query, hit["path"], hit["label"])
        assert (int(row["rank"]), int(row["row"])) == (hit["rank"], hit["row"])
        assert float(row["similarity"]) == hit["similarity"]
        assert {name: float(row[name]) for name in "SG"} == hit["branches"]


def test_paths_end_with_nul(cgd, in_toy):
    lines = ask(cgd, RED, "--paths-only", "-k", "4").out.splitlines()
    for option in ("-0", "--null"):
        ran = ask(cgd, RED, "--paths-only", option, "-k", "4")
        assert (ran.code, ran.out) == (0, "".join(f"{line}\0" for line in lines))


@pytest.mark.parametrize(
    "two", [("--json", "--jsonl"), ("--jsonl", "--csv"), ("--csv", "--paths-only")], ids=" ".join
)
def test_stdout_has_one_form(cgd, in_toy, two):
    check_failure(ask(cgd, RED, *two), 2, *two)


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=str)
def test_null_without_paths_is_refused(cgd, in_toy, form):
    ran = ask(cgd, RED, "-0", *form)
    check_failure(ran, 2, "--null")
    assert "--paths-only" in ran.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--force",), ("--force", "--sheet, --html and --copy-to")),
        (("--force", "--json"), ("--force", "no file")),
        (("--thumbnails", "kitty", "--json"), ("--thumbnails kitty", "--json")),
        (("--thumbnails", "auto", "--paths-only"), ("--thumbnails auto", "--paths-only")),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_refused(cgd, in_toy, given, words):
    check_failure(ask(cgd, RED, *given), 2, *words)


def test_a_habit_of_the_machine_is_no_mistake(cgd, in_toy, monkeypatch):
    monkeypatch.setenv("CGD_SEARCH_FORCE", "1")
    monkeypatch.setenv("CGD_SEARCH_THUMBNAILS", "kitty")
    assert ask(cgd, RED, "--json").code == 0
    assert ask(cgd, RED, "--json", "--thumbnails", "off").code == 0  # and there are none


def test_a_broken_query_among_several_is_left_out(cgd, in_toy, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    ran = ask(cgd, tmp_path / "broken.jpg", RED, "--jsonl", "-k", "1")
    assert ran.code == 3 and "broken.jpg" in ran.err
    assert [json.loads(line)["query"] for line in ran.out.splitlines()] == [RED]


# ---- copies


def test_copies_beside_any_form(cgd, in_toy, tmp_path):
    ran = ask(cgd, RED, "-k", "3", "--json", "--copy-to", tmp_path / "out")
    assert ran.code == 0 and "3 pictures" in ran.err
    (answer,) = json.loads(ran.out)
    wanted = [
        f"{h['rank']:02d}_{h['similarity']:.4f}_{h['path'].split('/')[-1]}" for h in answer["hits"]
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == wanted
    for name, hit in zip(wanted, answer["hits"], strict=True):
        with Image.open(tmp_path / "out" / name) as copy, Image.open(hit["path"]) as original:
            assert copy.tobytes() == original.tobytes()


def test_copies_of_several_queries(cgd, in_toy, tmp_path):
    ran = ask(cgd, RED, "row:0", "-k", "2", "--copy-to", tmp_path / "out", "-q")
    assert (ran.code, ran.err) == (0, "")
    folders = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert folders == ["1_10", "2_row_0"]
    assert all(len(list((tmp_path / "out" / name).iterdir())) == 2 for name in folders)


def test_the_layout_of_copies_is_of_the_queries_asked(cgd, in_toy, tmp_path):
    """One of two is broken: the other still has a folder of its own."""
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    ran = ask(cgd, tmp_path / "broken.jpg", RED, "-k", "1", "--copy-to", tmp_path / "out")
    assert ran.code == 3 and [p.name for p in (tmp_path / "out").iterdir()] == ["1_10"]


def test_a_picture_that_is_gone_is_3(cgd, toy, tmp_path, monkeypatch):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    monkeypatch.chdir(tmp_path)
    assert cgd("embed", "imgs", "-o", "feats.npy", "--model", toy.model, "-q").code == 0
    (tmp_path / RED).unlink()
    ran = ask(cgd, "row:0", "--copy-to", "out", "--json")
    assert ran.code == 3 and RED in ran.err and len(json.loads(ran.out)[0]["hits"]) == 9
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_copies_replace_nothing_unasked(cgd, in_toy, tmp_path):
    draw(tmp_path / "out/mine.png", "red", 1)
    ran = ask(cgd, RED, "--copy-to", tmp_path / "out")
    check_failure(ran, 1, tmp_path / "out")
    assert "--force" in ran.err and [p.name for p in (tmp_path / "out").iterdir()] == ["mine.png"]
    assert ask(cgd, RED, "--copy-to", tmp_path / "out", "--force").code == 0
    assert (tmp_path / "out/mine.png").exists() and len(list((tmp_path / "out").iterdir())) == 10


# ---- the page


def test_a_page_beside_the_table(cgd, in_toy, tmp_path):
    target = tmp_path / "hits.html"
    ran = ask(cgd, RED, BLUE, "-k", "4", "--html", target)
    assert ran.code == 0 and f"page: {target}" in ran.err and "imgs/red/10.png" in ran.out
    text = target.read_text(encoding="utf-8")
    assert text.count("<section") == 2 and text.count('class="hit item') == 8
    assert "8 hits in feats.npy" in text


def test_the_page_replaces_nothing_unasked(cgd, in_toy, tmp_path):
    target = tmp_path / "hits.html"
    target.write_text("mine")
    check_failure(ask(cgd, RED, "--html", target), 1, target)
    assert target.read_text() == "mine"
    assert ask(cgd, RED, "--html", target, "--force").code == 0
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    check_failure(ask(cgd, RED, "--html", tmp_path / "hits.pdf"), 2, "hits.pdf", ".html")


def test_open_without_a_page_is_refused(cgd, in_toy):
    ran = ask(cgd, RED, "--open")
    check_failure(ran, 2, "--open")
    assert "--html" in ran.err


def test_open_without_a_display_is_said(cgd, in_toy, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    ran = ask(cgd, RED, "--html", tmp_path / "hits.html", "--open", "--json")
    assert ran.code == 0 and "no display" in ran.err and json.loads(ran.out)
