"""Cars196: tiny trees of both its layouts, and the full annotations without pictures."""

import sys

import pytest
from layouts import cars, cars_halves

from cgdcli.datasets.cars import CARS, read_cars
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box

pytest.importorskip("scipy", reason="the extra `cars` is not installed")


def test_classes_to_98_train_and_the_others_are_tested(tmp_path):
    splits = read_cars(cars(tmp_path), False)
    assert splits.train.classes == ("001 Make Model 1 2012", "098 Make Model 98 2012")
    assert splits.test.classes == ("099 Make Model 99 2012", "196 Make Model 196 2012")
    assert (len(splits.train), len(splits.test)) == (4, 5)
    assert all(path.is_file() for path in (*splits.train.paths, *splits.test.paths))


def test_boxes_count_from_one_and_hold_their_last_pixel(tmp_path):
    splits = read_cars(cars(tmp_path), True)
    assert set(splits.train.boxes + splits.test.boxes) == {Box(4, 2, 30, 20)}


@pytest.mark.parametrize("place", ["", "devkit/"])
def test_the_official_halves_are_divided_anew_by_class(tmp_path, place):
    home = cars_halves(tmp_path, f"{place}cars_test_annos_withlabels.mat")
    assert CARS.home(home) == home
    splits = read_cars(home, True)
    assert (len(splits.train), len(splits.test)) == (4, 4)
    assert splits.test.classes == ("099 Make Model 99 2012",)
    assert {path.parent.name for path in splits.train.paths} == {"cars_train", "cars_test"}
    assert all(path.is_file() for path in splits.train.paths)


def test_the_published_counts_are_recognised(tmp_path):
    sizes = dict.fromkeys(range(1, 197), 82)
    sizes |= {1: 82 + 8_054 - 82 * 98, 99: 82 + 8_131 - 82 * 98}
    (note,) = read_cars(cars(tmp_path, sizes, pictures=False), False).notes
    assert "8054" in note and "8131" in note and "the published counts" in note
    notes = read_cars(cars(tmp_path, {1: 1, 99: 2}, pictures=False), False).notes
    assert len(notes) == 2 and "published are 8054" in notes[0] and "8131" in notes[1]


def test_one_picture_alone_is_read_too(tmp_path):
    assert len(read_cars(cars(tmp_path, {1: 1}), False).train) == 1  # squeezed to no dimension


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    home = cars(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DatasetError, match="scipy") as caught:
        read_cars(home, False)
    assert "cgdcli[cars]" in caught.value.hint


def test_what_is_no_annotation_is_refused(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "cars_annos.mat", {"annotations": 3})
    with pytest.raises(DatasetError, match="relative_im_path"):
        read_cars(tmp_path, False)
    (tmp_path / "cars_annos.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DatasetError, match="cannot read"):
        read_cars(tmp_path, False)
