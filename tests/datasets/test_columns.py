"""Columns of a table, by picture: which paths are found, and what is refused."""

import json

import pytest

from cgdcli.datasets.columns import PictureColumns
from cgdcli.errors import DatasetError


@pytest.fixture
def table(tmp_path):
    lines = ["path,camera,is_query", "imgs/a.jpg,1,yes", f"{tmp_path}/b.jpg,,no", "./c.jpg,x y,1"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    return PictureColumns.read(tmp_path / "t.csv")


def test_a_path_is_as_written_or_from_the_tables_folder(table, tmp_path):
    pictures = [[f"{tmp_path}/imgs/a.jpg"], [f"{tmp_path}/b.jpg"], ["c.jpg"], ["gone.jpg"]]
    assert table.text("camera", pictures) == ["1", None, "x y", None]
    assert table.flags("is_query", pictures) == [True, False, True, False]


def test_the_first_path_that_is_there_counts(table):
    assert table.text("camera", [["gone.jpg", "imgs/a.jpg", "c.jpg"]]) == ["1"]


def test_json_lines_too(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"path": "a.jpg", "camera": 3.0}) + "\n")
    assert PictureColumns.read(tmp_path / "t.jsonl").text("camera", [["a.jpg"]]) == ["3"]


def test_two_boxes_of_a_picture_may_agree_but_not_differ(tmp_path):
    (tmp_path / "t.csv").write_text("path,camera,scene\na.jpg,1,x\na.jpg,1,y\n")
    table = PictureColumns.read(tmp_path / "t.csv")
    assert table.text("camera", [["a.jpg"]]) == ["1"]
    with pytest.raises(DatasetError, match=r"row 3 .* says another `scene`"):
        table.text("scene", [["a.jpg"]])


def test_what_is_refused(table, tmp_path):
    with pytest.raises(DatasetError, match="no column `scene`; there are camera"):
        table.text("scene", [["c.jpg"]])
    with pytest.raises(DatasetError, match="not one of the pictures"):
        table.text("camera", [["gone.jpg"]])
    (tmp_path / "bad.csv").write_text("name\nx\n")
    with pytest.raises(DatasetError, match="`path` is wanted"):
        PictureColumns.read(tmp_path / "bad.csv")
    with pytest.raises(DatasetError, match=r"gone\.csv"):
        PictureColumns.read(tmp_path / "gone.csv")
