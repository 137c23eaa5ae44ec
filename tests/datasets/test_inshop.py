"""In-shop: a tiny tree of its layout, and the full list without pictures."""

import shutil

import pytest
from layouts import inshop, write

from cgdcli.datasets.inshop import INSHOP, read_inshop
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box


def test_query_and_gallery_are_told_apart(tmp_path):
    splits = read_inshop(inshop(tmp_path), False)
    assert len(splits.train) == 5 and splits.train.is_query == ()
    test = splits.test
    assert test.classes == ("id_00000007", "id_00000008")
    assert [test.paths[i].name[:5] for i in test.queries] == ["query"] * 3
    assert [test.paths[i].name[:7] for i in test.gallery] == ["gallery"] * 3
    assert all(path.is_file() for path in (*splits.train.paths, *test.paths))


def test_boxes_on_wish(tmp_path):
    splits = read_inshop(inshop(tmp_path), True)
    assert set(splits.train.boxes + splits.test.boxes) == {Box(4, 3, 30, 25)}


def test_the_published_counts_are_recognised(tmp_path):
    def spread(status, first, items, pictures):
        sizes = [pictures // items + (i < pictures % items) for i in range(items)]
        return [(status, first + i, size) for i, size in enumerate(sizes)]

    rows = spread("train", 0, 3_997, 25_882)
    rows += spread("query", 5_000, 3_985, 14_218) + spread("gallery", 5_000, 3_985, 12_612)
    (note,) = read_inshop(inshop(tmp_path, rows, pictures=False), False).notes
    assert "query 14218 pictures of 3985 classes" in note and "the published counts" in note


def test_an_older_copy_keeps_list_and_pictures_in_one_folder(tmp_path):
    home = inshop(tmp_path)
    shutil.move(home / "Eval" / "list_eval_partition.txt", home)
    shutil.move(home / "Img" / "img", home)
    shutil.rmtree(home / "Img")
    assert INSHOP.home(home) == home
    assert all(path.is_file() for path in read_inshop(home, False).test.paths)


def test_unknown_status_and_missing_box_are_named(tmp_path):
    home = inshop(tmp_path)
    write(home / "Anno" / "list_bbox_inshop.txt", "0", "names")
    with pytest.raises(DatasetError, match="lacks `img/WOMEN"):
        read_inshop(home, True)
    write(home / "Eval" / "list_eval_partition.txt", "1", "names", "img/a.jpg id_1 tset")
    with pytest.raises(DatasetError, match="`tset`"):
        read_inshop(home, False)
