"""Hits as a table, whatever is in a name; and the contact sheet of such names."""

import io
import os

import pytest
from PIL import Image
from rich.console import Console

from cgdcli.reports import Hit, QueryHits
from cgdcli.views.formatting import shown_name
from cgdcli.views.sheet import draw_sheet
from cgdcli.views.tables import hits_table

ODD = [
    ("two\nlines.png", "two\\nlines.png"),
    (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
    ("red\x1b[31m.png", "red\\x1b[31m.png"),
    ("csi\x9b31m.png", "csi\\x9b31m.png"),
    ("del\x7f.png", "del\\x7f.png"),
    ("é日本.png", "é日本.png"),
    ("[bold]x[red].png", "[bold]x[red].png"),
    ("lone\ud800.png", "lone\\ud800.png"),
]


@pytest.mark.parametrize(("name", "wanted"), ODD)
def test_names_are_shown_on_one_line(name, wanted):
    assert shown_name(name) == wanted


def answer(score=None):
    hits = tuple(Hit(i, 0.5, name, name, i, None, score) for i, (name, _) in enumerate(ODD, 1))
    return QueryHits(ODD[2][0], hits, ODD[0][0], ODD[2][0])


def lines(result):
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=False).print(hits_table(result))
    out.getvalue().encode("utf-8")  # strict: what a terminal takes
    return out.getvalue().splitlines()


def test_a_line_a_hit_and_nothing_that_a_terminal_obeys():
    found = lines(answer())
    assert found[0] == "red\\x1b[31m.png (label two\\nlines.png)"
    assert len([line for line in found if "0.5000" in line]) == len(ODD)
    assert "\x1b" not in "".join(found)


def test_a_score_has_a_column_where_there_is_one():
    assert lines(answer(0.25))[2].split() == ["rank", "similarity", "score", "label", "path"]
    assert "score" not in lines(answer())[2]
    assert " 0.0000 " in lines(answer(-1e-9))[4] and "-0.0000" not in lines(answer(-1e-9))[4]


def test_the_sheet_takes_such_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, _ in ODD[:-1]:
        Image.new("RGB", (40, 30), (200, 30, 30)).save(name)
    hits = answer().hits[:-1]
    no_labels = tuple(Hit(hit.rank, 0.5, hit.path, None, 0) for hit in hits)
    for result in (QueryHits("q", hits, "red"), QueryHits("q", no_labels)):
        assert draw_sheet([result]).getpixel((0, 0)) == (255, 255, 255)
