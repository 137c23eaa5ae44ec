"""Tables of pictures: three formats, one meaning; each rule that a row can break."""

import csv
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.config import Dataset
from cgdcli.datasets.table_file import read_table
from cgdcli.datasets.table_rows import read_rows
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box

ROWS = [
    {"path": "a/1.jpg", "label": "x", "split": "train", "x1": 1, "y1": 2, "x2": 30.5, "y2": 20},
    {"path": "a/2.jpg", "label": "7", "split": "train"},
    {"path": "b/3.jpg", "label": "z", "split": "test", "is_query": True, "is_gallery": False},
    {"path": "b/4.jpg", "label": "z", "split": "test", "is_query": False, "is_gallery": True},
    {"path": "b/5.jpg", "label": "z", "split": "test", "is_query": True, "is_gallery": True},
    {"path": "c/6.jpg", "label": "x", "split": "validation"},
]
COLUMNS = ("path", "label", "split", "is_query", "is_gallery", "x1", "y1", "x2", "y2")


def save_csv(file, rows, columns=COLUMNS, **options):
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore", **options)
        writer.writeheader()
        writer.writerows(rows)
    return file


def save_jsonl(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return file


def save_parquet(file, rows):
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    parquet.write_table(arrow.table(columns), file, row_group_size=2)
    return file


SAVERS = {
    "t.csv": save_csv,
    "t.tsv": lambda file, rows: save_csv(file, rows, delimiter="\t"),
    "t.jsonl": save_jsonl,
    "t.parquet": save_parquet,
}


@pytest.mark.parametrize("name", SAVERS)
def test_each_format_means_the_same(tmp_path, name):
    splits = read_table(SAVERS[name](tmp_path / name, ROWS))
    train, val, test = splits.train, splits.val, splits.test
    assert splits.kind is Dataset.table and not splits.undivided
    assert train.paths == (tmp_path / "a/1.jpg", tmp_path / "a/2.jpg")
    assert train.labels == ("x", "7")
    assert train.boxes == (Box(1, 2, 31, 20), None) and train.is_query == ()
    assert val.labels == ("x",) and val.is_query == () and val.boxes == ()
    assert test.is_query == (True, False, True) and test.is_gallery == (False, True, True)
    assert any("1 picture of 6" in note for note in splits.notes)


def test_without_splits_nothing_is_divided(tmp_path):
    rows = [{"path": "1.jpg", "label": "a"}, {"path": "2.jpg", "label": "b"}]
    splits = read_table(save_csv(tmp_path / "t.csv", rows, ("path", "label")))
    assert splits.undivided and list(splits.tables) == ["all"] and len(splits.train) == 2


def test_queries_and_gallery_without_splits_are_to_be_tested_on(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "split"} for row in ROWS[2:5]]
    splits = read_table(save_jsonl(tmp_path / "t.jsonl", rows))
    assert list(splits.tables) == ["test"] and splits.test.is_query == (True, False, True)


@pytest.mark.parametrize(
    ("columns", "box"),
    [(("x", "y", "w", "h"), (1, 2, 5, 6)), (("x_1", "y_1", "x_2", "y_2"), (1, 2, 6, 8))],
)
def test_boxes_by_size_and_in_the_spelling_of_oml(tmp_path, columns, box):
    row = {"path": "1.jpg", "label": "a"} | dict(zip(columns, box, strict=True))
    (found,) = read_table(save_jsonl(tmp_path / "t.jsonl", [row])).train.boxes
    assert found == (1, 2, 6, 8)


def test_a_column_x_that_is_no_box_is_not_read(tmp_path):
    rows = [{"path": "1.jpg", "label": "a", "x": "anything", "y": "more"}]
    assert read_table(save_jsonl(tmp_path / "t.jsonl", rows)).train.boxes == ()


def test_numbers_as_a_spreadsheet_writes_them(tmp_path):
    rows = [{"path": "1.jpg", "label": 3.0, "split": "test", "is_query": 1.0, "is_gallery": None}]
    splits = read_table(save_jsonl(tmp_path / "t.jsonl", rows))
    assert splits.test.labels == ("3",) and splits.test.is_query == (True,)


def test_a_path_that_is_not_utf8_is_a_path(tmp_path):
    """As `cgd inspect --rows` and Python write it in JSON."""
    name = os.fsdecode(b"caf\xe9.jpg")
    splits = read_table(save_jsonl(tmp_path / "t.jsonl", [{"path": name, "label": "a"}]))
    assert splits.train.paths == (tmp_path / name,)


def test_one_picture_with_two_boxes_is_two_rows(tmp_path):
    rows = [{"path": "1.jpg", "label": "a", "x": 0, "y": 0, "w": w, "h": 5} for w in (5, 6)]
    assert len(read_table(save_jsonl(tmp_path / "t.jsonl", rows)).train) == 2


@pytest.mark.parametrize(
    ("rows", "words", "hint"),
    [
        ([{"file": "1.jpg", "label": "a"}], ("`path` and `label`", "file", "`path` is"), "path"),
        ([{"path": "1.jpg"}], ("`label` is missing",), "path,label"),
        ([{"path": "1.jpg", "label": "a", "split": "dev"}], ("row 1", "`dev`", "val"), "three"),
        ([{"path": "1.jpg", "label": "a", "split": ""}], ("row 1", "unknown"), "three"),
        ([{"path": "1.jpg", "label": ""}], ("row 1", "`label` is empty"), "fill"),
        ([{"path": None, "label": "a"}], ("row 1", "`path` is empty"), "fill"),
        ([{"path": "1.jpg", "label": "a", "is_query": True}], ("`is_query` alone",), "other"),
        (
            [{"path": "1.jpg", "label": "a", "is_query": "maybe", "is_gallery": ""}],
            ("row 1", "`maybe`"),
            "true",
        ),
        ([{"path": "1.jpg", "label": "a", "x1": 1, "y1": 2}], ("x1, y1", "x2"), "add"),
        ([{"path": "1.jpg", "label": "a", "x": 1, "w": 2}], ("x, w", "x, y, w, h"), "add"),
        (
            [{"path": "1.jpg", "label": "a", "x1": -3, "y1": 2, "x2": 9, "y2": 9}],
            ("row 1", "-3", "outside the picture"),
            "pixels",
        ),
        (
            [{"path": "1.jpg", "label": "a", "x1": 9, "y1": 2, "x2": 9, "y2": 9}],
            ("row 1", "no area"),
            "pixels",
        ),
        (
            [{"path": "1.jpg", "label": "a", "x1": 1, "y1": 2, "x2": "wide", "y2": 9}],
            ("row 1", "wide", "four numbers"),
            "empty",
        ),
        (
            [{"path": "1.jpg", "label": "a", "x1": 1, "y1": 2, "x2": "inf", "y2": 9}],
            ("row 1", "not finite"),
            "pixels",
        ),
        (
            [{"path": "1.jpg", "label": "a"}, {"path": "./1.jpg", "label": "b"}],
            ("row 2", "repeats row 1"),
            "keep one",
        ),
        (
            [{"path": "pl\0x.jpg", "label": "a"}],
            ("row 1", "`path`", r"'pl\x00x.jpg'", "U+0000"),
            "correct",
        ),
        ([{"path": "1.jpg", "label": "a\0b"}], ("row 1", "`label`", "U+0000"), "correct"),
        ([{"path": "\ud83d.jpg", "label": "a"}], ("row 1", "`path`", "U+D83D, half"), "correct"),
        ([], ("no rows",), "path,label"),
    ],
)
def test_each_broken_rule_names_row_value_and_remedy(tmp_path, rows, words, hint):
    file = save_jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(DatasetError) as caught:
        read_table(file)
    for word in (*words, "t.jsonl"):
        assert word in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b'{"path": "a"}\n[1]\n', "line 2"),
        ("t.jsonl", b"{broken\n", "line 1"),
        ("t.csv", b"path,label\na.jpg,x,more\n", "line 2"),
        ("t.csv", b"path,label\ncaf\xe9.jpg,x\n", "cannot read the table"),
        ("t.csv", b"", "no rows"),
        ("t.txt", b"path,label\n", "is no table"),
        ("gone/t.csv", None, "cannot read the table"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        read_table(tmp_path / name)
    assert name in caught.value.what


def test_damaged_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DatasetError, match="Parquet"):
        read_table(tmp_path / "t.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DatasetError, match="pyarrow") as caught:
        read_table(tmp_path / "t.parquet")
    assert "cgdcli[parquet]" in caught.value.hint


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1
)


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(names, names), min_size=1, max_size=8))
def test_csv_and_json_lines_give_the_same_rows(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    made = [{"path": path, "label": label} for path, label in rows]
    one = read_rows(save_csv(folder / "t.csv", made, ("path", "label")))
    other = read_rows(save_jsonl(folder / "t.jsonl", made))
    wanted = [(path, label) for path, label in rows]
    for found in (one, other):
        assert [(row.text("path"), row.text("label")) for row in found] == wanted
