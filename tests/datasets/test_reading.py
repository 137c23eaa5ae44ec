"""Any layout: recognised or named; what is missing is said before anything is read."""

import pytest
from layouts import cars, cub, draw, inshop, sop, write

from cgdcli.config import Dataset
from cgdcli.datasets.reading import (
    read_evaluation_data,
    read_splits,
    read_training_data,
    recognise,
)
from cgdcli.errors import DatasetError


def training(data, **options):
    return read_training_data(data, val_fraction=0.2, seed=0, **options)


def table(folder, *lines, pictures=6):
    for number in range(pictures):
        draw(folder / f"{number}.png", number)
    return write(folder / "t.csv", *lines)


def test_each_benchmark_is_recognised_where_it_unpacks(tmp_path):
    cub(tmp_path / "1")
    sop(tmp_path / "2")
    inshop(tmp_path / "3")
    assert recognise(tmp_path / "1") == (Dataset.cub, tmp_path / "1" / "CUB_200_2011")
    assert recognise(tmp_path / "2") == (Dataset.sop, tmp_path / "2" / "Stanford_Online_Products")
    assert recognise(tmp_path / "3") == (Dataset.inshop, tmp_path / "3")
    assert any("CUB-200-2011" in note for note in read_splits(tmp_path / "1").notes)


def test_cars_are_recognised(tmp_path):
    pytest.importorskip("scipy", reason="the extra `cars` is not installed")
    assert recognise(cars(tmp_path)) == (Dataset.cars, tmp_path)


def test_a_name_overrules_what_is_recognised(tmp_path):
    home = cub(tmp_path)
    splits = read_splits(home / "images", Dataset.folders)
    assert splits.kind is Dataset.folders and len(splits.train.classes) == 4


@pytest.mark.parametrize("kind", [Dataset.cub, Dataset.cars, Dataset.sop, Dataset.inshop])
def test_a_benchmark_that_is_not_there_is_refused_with_what_is_wanted(tmp_path, kind):
    with pytest.raises(DatasetError, match="as it unpacks") as caught:
        read_splits(tmp_path, kind)
    assert str(tmp_path) in caught.value.what and "--dataset" in caught.value.hint


def test_two_benchmarks_in_one_folder_want_a_name(tmp_path):
    cub(tmp_path)
    sop(tmp_path)
    with pytest.raises(DatasetError, match="one is wanted") as caught:
        read_splits(tmp_path)
    assert "--dataset cub or --dataset sop" in caught.value.hint
    assert read_splits(tmp_path, Dataset.sop).kind is Dataset.sop


def test_boxes_are_asked_of_data_that_has_them(tmp_path):
    draw(tmp_path / "a" / "1.png")
    with pytest.raises(DatasetError, match="no boxes"):
        read_splits(tmp_path, crop_box=True)
    with pytest.raises(DatasetError, match="no boxes"):
        read_evaluation_data(tmp_path, crop_box=True)


def test_pictures_that_a_table_names_must_be_there(tmp_path):
    file = table(tmp_path, "path,label", "0.png,a", "1.png,a", "9.png,b", "8.png,b")
    for read in (training, read_evaluation_data):
        with pytest.raises(DatasetError, match=r"9\.png") as caught:
            read(file)
        assert "2 of 4 pictures" in caught.value.what and "cgd check" in caught.value.hint


def test_pictures_of_a_benchmark_must_be_there(tmp_path):
    home = cub(tmp_path)
    next(home.rglob("*.jpg")).unlink()
    with pytest.raises(DatasetError, match="1 of 10 pictures"):
        training(tmp_path)


def test_evaluation_takes_test_then_val_then_all(tmp_path):
    lines = ["path,label,split", "0.png,a,train", "1.png,b,val", "2.png,c,test"]
    for count, wanted in ((4, "c"), (3, "b"), (2, "a")):
        found, what = read_evaluation_data(table(tmp_path, *lines[:count]))
        assert found.classes == (wanted,) and "t.csv (" in what
    found, what = read_evaluation_data(table(tmp_path, "path,label", "0.png,a"))
    assert what.endswith("t.csv")


def test_a_table_to_train_on_wants_rows_of_train(tmp_path):
    file = table(tmp_path, "path,label,split", "0.png,a,test", "1.png,b,test")
    with pytest.raises(DatasetError, match="has test but no train") as caught:
        training(file)
    assert "train" in caught.value.hint


def test_held_out_classes_keep_their_boxes(tmp_path):
    sizes = dict.fromkeys(range(1, 11), 2) | {150: 2}
    data = training(cub(tmp_path, sizes), crop_box=True)
    assert data.judged_on == "held-out classes" and len(data.val) == 4
    assert len(data.val.boxes) == 4 and len(data.train.boxes) == 16
    assert data.test.classes == ("150.Bird_150",)


def test_in_shop_is_tested_as_query_and_gallery(tmp_path):
    data = training(inshop(tmp_path))
    assert sum(data.test.is_query) == 3 and data.train.is_query == ()
    assert read_evaluation_data(tmp_path)[0].is_query == data.test.is_query
