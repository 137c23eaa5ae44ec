"""CUB-200-2011: a tiny tree of its layout, and the full lists without pictures."""

import pytest
from layouts import cub, write

from cgdcli.datasets.cub import CUB, read_cub
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box


def test_classes_to_100_train_and_the_others_are_tested(tmp_path):
    splits = read_cub(cub(tmp_path), False)
    assert splits.train.classes == ("001.Bird_1", "100.Bird_100")
    assert splits.test.classes == ("101.Bird_101", "200.Bird_200")
    assert (len(splits.train), len(splits.test)) == (5, 5)
    assert all(path.is_file() for path in (*splits.train.paths, *splits.test.paths))
    assert splits.train.boxes == () and splits.val is None


def test_boxes_are_x_y_width_height_in_whole_pixels_outwards(tmp_path):
    splits = read_cub(cub(tmp_path), True)
    assert set(splits.train.boxes + splits.test.boxes) == {Box(10, 5, 30, 21)}


def test_other_counts_than_the_published_are_said(tmp_path):
    notes = read_cub(cub(tmp_path), False).notes
    assert any("train has 5 pictures of 2 classes" in n and "5864" in n for n in notes)
    assert any("test has 5 pictures of 2 classes" in n and "5924" in n for n in notes)


def test_the_published_counts_are_recognised(tmp_path):
    sizes = dict.fromkeys(range(1, 201), 59) | {1: 59 - 36, 101: 59 + 24}
    splits = read_cub(cub(tmp_path, sizes, pictures=False), False)
    assert (len(splits.train), len(splits.test)) == (5864, 5924)
    (note,) = splits.notes
    assert "train 5864 pictures of 100 classes" in note and "the published counts" in note


def test_without_the_names_classes_are_numbers(tmp_path):
    home = cub(tmp_path)
    (home / "classes.txt").unlink()
    assert read_cub(home, False).train.classes == ("001", "100")


@pytest.mark.parametrize(
    ("file", "lines", "words"),
    [
        ("image_class_labels.txt", ["1 1"], "lacks picture"),
        ("image_class_labels.txt", ["1 one"], "`one`"),
        ("images.txt", ["1"], "line 1"),
        ("bounding_boxes.txt", ["1 1 1 0 5"], "no area"),
        ("bounding_boxes.txt", ["1 1 1 5 5"], "lacks picture"),
        ("bounding_boxes.txt", ["1 a 1 5 5"], "bounding_boxes.txt"),
    ],
)
def test_damaged_lists_are_named(tmp_path, file, lines, words):
    home = cub(tmp_path)
    write(home / file, *lines)
    with pytest.raises(DatasetError, match=words) as caught:
        read_cub(home, True)
    assert file in caught.value.what and caught.value.hint


def test_it_is_found_in_the_folder_it_unpacks_to_or_given_as_such(tmp_path):
    home = cub(tmp_path)
    assert CUB.home(tmp_path) == CUB.home(home) == home
    assert CUB.home(tmp_path / "CUB_200_2011" / "images") is None
