"""The labelled rows of an index, in the roles that a table gives them."""

import numpy as np
import pytest
from made_index import draw, index_of
from test_scoring import naive, unit

from cgdcli.errors import ConfigError, DatasetError
from cgdcli.evaluation import Details, evaluate
from cgdcli.evaluation.of_index import labelled_rows
from cgdcli.evaluation.scoring import summary
from cgdcli.evaluation.tables import Roles, judge_rows
from cgdcli.index.scanning import PickedRows
from cgdcli.index.store import EmbeddingIndex

COUNT = 12
LABELS = list("aaaabbbbcccc")
CAMERAS = ["1", "1", "2", "2", "1", "2", "1", "2", "", "1", "1", "2"]
ASKS = [i % 3 == 0 for i in range(COUNT)]
STORED = [i % 3 != 1 for i in range(COUNT)]
ROWS = unit(np.random.default_rng(4).standard_normal((COUNT, 8)))


@pytest.fixture
def index(tmp_path):
    names = [f"imgs/{label}/{i}.png" for i, label in enumerate(LABELS)]
    for i, name in enumerate(names):
        draw(tmp_path / name, (20 * i, 3, 3))
    table = "path,camera,is_query,is_gallery\n" + "".join(
        f"{name},{camera},{int(asks)},{int(stored)}\n"
        for name, camera, asks, stored in zip(names, CAMERAS, ASKS, STORED, strict=True)
    )
    (tmp_path / "t.csv").write_text(table)
    cameras = [line.rsplit(",", 2)[0] for line in table.splitlines()]
    (tmp_path / "cameras.csv").write_text("\n".join(cameras) + "\n")
    below = [name.removeprefix("imgs/") for name in names]
    return index_of(tmp_path / "f.npy", ROWS, below, tmp_path / "imgs", LABELS)


def groups():
    return [camera or None for camera in CAMERAS]


def check(report, *roles):
    recall, map_at_r = naive(ROWS, LABELS, *roles, (1, 2, 4, 8))
    assert report.recall == pytest.approx(recall)
    assert report.map_at_r == pytest.approx(map_at_r)


def test_all_against_all_with_and_without_cameras(index, tmp_path):
    every = [True] * COUNT
    check(evaluate(index=index), [None] * COUNT, every, every)
    report = evaluate(index=index, table=tmp_path / "cameras.csv", ignore_same="camera")
    check(report, groups(), every, every)
    assert report.ignore_same == "camera" and report.gallery == COUNT


def test_queries_in_a_gallery_by_a_table(index, tmp_path):
    report = evaluate(index=index, table=tmp_path / "t.csv")
    check(report, [None] * COUNT, ASKS, STORED)
    assert (report.queries, report.gallery) == (sum(ASKS), sum(STORED))
    check(evaluate(index=index, table=tmp_path / "t.csv", ignore_same="camera"), groups(), ASKS,
          STORED)  # fmt: skip


def test_confusions_name_the_files(index, tmp_path):
    report = evaluate(index=index, table=tmp_path / "t.csv", details=Details(True, 10))
    assert report.confused and sum(c.queries for c in report.classes) == sum(ASKS)
    for pair in report.confused:
        number = int(pair.query.rsplit("/", 1)[1].split(".")[0])
        assert ASKS[number] and pair.query == str(tmp_path / f"imgs/{LABELS[number]}/{number}.png")


def test_paths_may_be_below_the_folder_embedded_and_rows_may_be_missing(index, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    table = tmp_path / "elsewhere/t.csv"
    table.write_text("path,is_query,is_gallery\na/0.png,yes,no\na/1.png,no,yes\nb/4.png,no,yes\n")
    report = evaluate(index=index, table=table)
    assert (report.queries, report.gallery) == (1, 2)


def test_a_row_without_label_is_left_out(index, tmp_path):
    names = [f"{label}/{i}.png" for i, label in enumerate(LABELS)]
    some = [None if i % 4 == 3 else label for i, label in enumerate(LABELS)]
    index_of(tmp_path / "g.npy", ROWS, names, tmp_path / "imgs", some)
    report = evaluate(index=tmp_path / "g.npy", table=tmp_path / "t.csv")
    assert (report.queries, report.left_out) == (
        sum(ASKS[i] for i in range(COUNT) if i % 4 != 3),
        3,
    )
    assert "3 rows without label" in report.what


def test_rows_are_looked_at_where_they_are(index, tmp_path):
    """Those with a label, and of them those of a role: never a copy of half of an index."""
    names = [f"{label}/{i}.png" for i, label in enumerate(LABELS)]
    some = [None if i % 4 == 3 else label for i, label in enumerate(LABELS)]
    opened = EmbeddingIndex.open(index_of(tmp_path / "g.npy", ROWS, names, tmp_path / "imgs", some))
    labelled = labelled_rows(opened)
    assert isinstance(labelled.rows, PickedRows) and labelled.rows.rows is opened.rows
    kept = [i for i, label in enumerate(some) if label is not None]
    roles = Roles(*(np.array([flags[i] for i in kept]) for flags in (ASKS, STORED)))
    asked, stored, scores = judge_rows(labelled.rows, labelled.labels, (1, 2), roles)
    copied = judge_rows(ROWS[kept], labelled.labels, (1, 2), roles)
    assert (asked == copied[0]).all() and (stored == copied[1]).all()
    names = [labelled.labels[i] for i in asked]
    assert summary(scores, names) == summary(copied[2], names)
    assert (scores.neighbours == copied[2].neighbours).all()


@pytest.mark.parametrize(
    ("text", "options", "kind", "words"),
    [
        ("path,camera\na/0.png,1\n", {}, ConfigError, "nothing of"),
        ("path,camera\na/0.png,1\n", {"ignore_same": "scene"}, DatasetError, "no column `scene`"),
        ("path,camera\nx/9.png,1\n", {"ignore_same": "camera"}, DatasetError, "not one of"),
        ("name,camera\na/0.png,1\n", {"ignore_same": "camera"}, DatasetError, "`path`"),
        ("path,is_query\na/0.png,1\n", {}, DatasetError, "alone"),
        ("path,is_query,is_gallery\na/0.png,1,0\n", {}, DatasetError, "a picture of the gallery"),
        ("path,is_query,is_gallery\na/0.png,si,0\n", {}, DatasetError, "`is_query` is `si`"),
        ("path,camera\na/0.png,1\na/0.png,2\n", {"ignore_same": "camera"}, DatasetError, "row 3"),
    ],
)
def test_tables_that_do_not_fit(index, tmp_path, text, options, kind, words):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(kind, match=words):
        evaluate(index=index, table=tmp_path / "bad.csv", **options)


def test_a_column_wants_a_table(index, tmp_path):
    for options in ({"index": index}, {"query": tmp_path, "gallery": tmp_path}):
        with pytest.raises(ConfigError, match="there is no table"):
            evaluate(**options, ignore_same="camera")
    with pytest.raises(ConfigError, match="would ignore"):
        evaluate(index=index, table=tmp_path / "t.csv", ignore_same="label")
    with pytest.raises(ConfigError, match="there is none"):
        evaluate(tmp_path, table=tmp_path / "t.csv")


def test_files_are_looked_up_when_asked_for(index):
    from cgdcli.evaluation.of_index import IndexFiles

    opened = EmbeddingIndex.open(index)
    files = IndexFiles(opened, np.array([5, 2]))
    assert len(files) == 2 and files[0].name == "5.png" and [f.name for f in files[:1]] == ["5.png"]
