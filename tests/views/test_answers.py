"""What programs read comes back as it was, whatever is in a name."""

import csv
import json
import os
import shlex
import subprocess

import pytest

from cgdcli.reports import Hit, QueryHits
from cgdcli.views.answers import answer_dict, csv_lines, json_lines, path_lines

ODD = [
    "plain.jpg",
    "a b, c;d.jpg",
    'say "hi".jpg',
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    "tab\there.jpg",
    "-rf",
    "日本語 فارسی é.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "=1+1.jpg",
]


def answer(names=ODD, query="q.jpg", label="x,y", branches=None):
    hits = tuple(
        Hit(rank, 1 - rank / 30, name, None if rank == 2 else 'a "b"', 7 * rank, branches)
        for rank, name in enumerate(names, start=1)
    )
    return QueryHits(query, hits, label, query)


def as_written(lines):
    """The bytes, as `Output.lines` writes them."""
    return "".join(lines).encode("utf-8", "surrogateescape")


def test_csv_comes_back_as_it_was(tmp_path):
    file = tmp_path / "hits.csv"
    file.write_bytes(as_written(csv_lines([answer(), answer(ODD[:2], query='r"\n,.jpg')])))
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as table:
        rows = list(csv.DictReader(table, strict=True))
    assert list(rows[0]) == ["query", "rank", "similarity", "row", "label", "path"]
    assert [row["path"] for row in rows] == ODD + ODD[:2]
    assert [row["query"] for row in rows] == ["q.jpg"] * len(ODD) + ['r"\n,.jpg'] * 2
    assert [row["label"] for row in rows[:3]] == ['a "b"', "", 'a "b"']
    assert [int(row["row"]) for row in rows[:3]] == [7, 14, 21]
    for rank, row in enumerate(rows[: len(ODD)], start=1):
        assert int(row["rank"]) == rank and float(row["similarity"]) == 1 - rank / 30


def test_csv_keeps_to_rfc_4180():
    """Every record ends in CR LF; whatever has a comma, a quote or a line's end is quoted."""
    lines = list(csv_lines([answer()]))
    assert all(line.endswith("\r\n") for line in lines)
    for line, name in zip(lines[1:], ODD, strict=True):
        quoted = '"' + name.replace('"', '""') + '"'
        cell = quoted if set(name) & set('",\r\n') else name
        assert line.endswith(f",{cell}\r\n")


def test_csv_has_a_column_a_branch():
    with_branches = answer(ODD[:2], branches={"S": 0.5, "G": 0.25})
    head, first, *_ = csv.reader(csv_lines([QueryHits("none.jpg", ()), with_branches]))
    assert head[-2:] == ["S", "G"] and first[-2:] == ["0.5", "0.25"]


def test_csv_of_no_hits_is_the_header():
    assert len(list(csv_lines([QueryHits("none.jpg", ())]))) == len(list(csv_lines([]))) == 1


def test_json_lines_are_one_object_a_line_and_utf_8():
    answers = [answer(), QueryHits("none.jpg", ())]
    written = as_written(json_lines(answers))
    lines = written.decode("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [answer_dict(a) for a in answers]
    assert [hit["path"] for hit in json.loads(lines[0])["hits"]] == ODD


def test_json_of_plain_names_is_readable():
    (line,) = json_lines([answer(["日本語.jpg"])])
    assert "日本語.jpg" in line


@pytest.mark.parametrize("letters", [None, {"S": 0.5}])
def test_branches_stand_only_where_they_were_asked_for(letters):
    (hit,) = answer_dict(answer(["a.jpg"], branches=letters))["hits"]
    assert hit.get("branches") == letters and ("branches" in hit) == (letters is not None)


def test_paths_with_nul_go_through_xargs(tmp_path):
    """Real xargs, with files of these names."""
    names = [name for name in ODD if not name.startswith("-")]
    for name in names:
        (tmp_path / name).write_text(name, "utf-8", "surrogateescape")
    done = subprocess.run(
        ["xargs", "-0", "cat", "--"],
        input=as_written(path_lines([answer(names)], end="\0")),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout == "".join(names).encode("utf-8", "surrogateescape")


def test_paths_a_line():
    assert list(path_lines([answer(ODD[:2]), answer(["z"])])) == [
        "plain.jpg\n",
        "a b, c;d.jpg\n",
        "z\n",
    ]
    assert shlex.split("".join(path_lines([answer(ODD[:1])]))) == ["plain.jpg"]


def test_a_score_stands_only_where_hits_were_ordered_anew():
    hits = (Hit(1, 0.5, "a", None, 0, {"S": 0.5}, 0.75),)
    (row,) = csv.DictReader(csv_lines([QueryHits("q", hits)]))
    assert list(row)[-3:] == ["path", "score", "S"] and float(row["score"]) == 0.75
    assert answer_dict(QueryHits("q", hits))["hits"][0]["score"] == 0.75
    assert "score" not in answer_dict(answer(["a"]))["hits"][0]
