"""Labels and splits from where pictures lie; empty files do, for none is opened."""

import os

import pytest

from cgdcli.datasets.folders import folder_labels, read_class_folders, read_label_table
from cgdcli.datasets.reading import hold_out_classes, read_evaluation_data, read_training_data
from cgdcli.errors import DatasetError
from cgdcli.images.finding import find_images


def make(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return folder


def classes(folder, count, each=2):
    return make(folder, *(f"c{c:02d}/{i}.jpg" for c in range(count) for i in range(each)))


def training(folder, fraction=0.2, seed=0):
    return read_training_data(folder, val_fraction=fraction, seed=seed)


def said(data, *words):
    return any(all(str(word) in note for word in words) for note in data.notes)


# Class folders


def test_label_is_the_first_folder(tmp_path):
    make(tmp_path, "cat/a.jpg", "cat/indoor/b.jpg", "dog/x/y/z.png")
    table = read_class_folders(tmp_path)
    assert table.labels == ("cat", "cat", "dog")
    assert all(path.is_file() and path.is_absolute() for path in table.paths)


def test_pictures_beside_the_class_folders_are_left_out_and_counted(tmp_path):
    make(tmp_path, "cat/a.jpg", "loose.jpg", "loose.png", "notes.txt")
    table = read_class_folders(tmp_path)
    assert table.labels == ("cat",) and table.left_out == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ("is empty",)),
        (("a.jpg", "b.jpg"), ("2 pictures", "no class folders")),
        (("cat/a.txt", "b.mov", "dog/c.txt"), ("no picture in 3 files",)),
    ],
)
def test_folder_without_classes_is_refused(tmp_path, names, words):
    make(tmp_path, *names)
    with pytest.raises(DatasetError) as caught:
        read_class_folders(tmp_path)
    for word in (*words, tmp_path):
        assert str(word) in caught.value.what
    assert "<class>" in caught.value.hint


@pytest.mark.parametrize(("name", "words"), [("gone", "does not exist"), ("f.jpg", "is a file")])
def test_what_is_no_folder_is_refused(tmp_path, name, words):
    make(tmp_path, "f.jpg")
    with pytest.raises(DatasetError, match=words) as caught:
        read_class_folders(tmp_path / name)
    assert str(tmp_path / name) in caught.value.what


# Training data: one folder of classes


def test_one_in_five_classes_is_held_out_whole(tmp_path):
    data = training(classes(tmp_path, 20))
    assert data.judged_on == "held-out classes"
    assert len(data.held_out) == 4
    assert data.val.classes == data.held_out
    assert not set(data.train.classes) & set(data.val.classes)
    assert len(data.train) == 32 and len(data.val) == 8
    assert not set(data.train.paths) & set(data.val.paths)
    assert data.test is None and said(data, "4 of 20 classes")


def test_held_out_classes_depend_on_the_seed_alone(tmp_path):
    classes(tmp_path, 20)
    drawn = [training(tmp_path, seed=seed).held_out for seed in range(8)]
    assert drawn == [training(tmp_path, seed=seed).held_out for seed in range(8)]
    assert len(set(drawn)) > 4


def test_drawing_does_not_depend_on_the_order_of_the_classes():
    names = tuple(f"c{i}" for i in range(30))
    assert hold_out_classes(names, 0.2, 3) == hold_out_classes(names[::-1], 0.2, 3)


@pytest.mark.parametrize(
    ("count", "fraction", "held"), [(10, 0.01, 2), (12, 0.25, 3), (10, 0.9, 8)]
)
def test_fraction_of_the_classes_but_two_at_least_on_both_sides(count, fraction, held):
    names = tuple(map(str, range(count)))
    drawn = hold_out_classes(names, fraction, 0)
    assert len(set(drawn)) == held and set(drawn) <= set(names)


def test_below_ten_classes_none_is_held_out_and_that_is_said(tmp_path):
    data = training(classes(tmp_path, 9))
    assert data.judged_on == "train" and data.held_out == ()
    assert data.train.paths == data.val.paths
    assert said(data, "9 classes", "best")
    assert training(classes(tmp_path / "ten", 10)).judged_on == "held-out classes"


def test_val_fraction_0_holds_nothing_out(tmp_path):
    data = training(classes(tmp_path, 20), fraction=0)
    assert data.judged_on == "train" and len(data.train.classes) == 20
    assert said(data, "--val-fraction 0")


# Training data: train, val, test


def test_val_is_judged_on_where_there_is_one(tmp_path):
    for split in ("train", "val", "test"):
        classes(tmp_path / split, 12, each=3 if split == "train" else 2)
    data = training(tmp_path)
    assert data.judged_on == "val" and data.held_out == ()
    assert (len(data.train), len(data.val), len(data.test)) == (36, 24, 24)
    assert said(data, "12 of 12 val classes are also in train")


def test_val_with_other_classes_is_no_matter(tmp_path):
    make(tmp_path, *(f"train/a{i}/{j}.jpg" for i in range(3) for j in range(2)), "val/z/0.jpg")
    data = training(tmp_path)
    assert data.judged_on == "val" and data.val.classes == ("z",)
    assert not said(data, "also in train")


def test_test_is_never_judged_on(tmp_path):
    classes(tmp_path / "train", 10)
    classes(tmp_path / "test", 10)
    data = training(tmp_path)
    assert data.judged_on == "held-out classes"
    assert not set(data.val.paths) & set(data.test.paths)
    few = tmp_path / "few"
    classes(few / "train", 4)
    classes(few / "test", 4)
    assert training(few).judged_on == "train"


def test_folders_beside_the_splits_are_said_not_read(tmp_path):
    classes(tmp_path / "train", 3)
    make(tmp_path, "extra/x.jpg", ".cache/y.jpg")
    data = training(tmp_path)
    assert said(data, "`extra`", "not read") and not said(data, ".cache")


def test_an_empty_val_is_refused_not_ignored(tmp_path):
    classes(tmp_path / "train", 3)
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match="val"):
        training(tmp_path)


def test_loose_pictures_are_said(tmp_path):
    make(classes(tmp_path, 3), "loose.jpg")
    assert said(training(tmp_path), "1 picture")


# What cannot be trained on


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="1 class") as caught:
        training(classes(tmp_path, 1))
    assert "at least 2" in caught.value.what


def test_one_picture_classes_are_used_and_said(tmp_path):
    make(classes(tmp_path, 3), "single/0.jpg", "other/0.jpg")
    data = training(tmp_path)
    assert data.train.single_classes == ("other", "single")
    assert said(data, "2 classes have one picture", "other", "single")


def test_only_one_picture_classes_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="single picture"):
        training(classes(tmp_path, 5, each=1))


@pytest.mark.parametrize("count", [10, 11, 20])
def test_holding_out_leaves_two_classes_to_train_on(tmp_path, count):
    data = training(classes(tmp_path, count), fraction=0.9)
    assert len(data.train.classes) >= 2


# Evaluation data


def test_evaluation_takes_test_else_val_else_the_folder(tmp_path):
    for split in ("train", "val", "test"):
        make(tmp_path / "all", f"{split}/{split}-class/0.jpg")
    make(tmp_path / "val", "train/a/0.jpg", "val/b/0.jpg")
    make(tmp_path / "plain", "c/0.jpg")
    for name, wanted in (("all", "test-class"), ("val", "b"), ("plain", "c")):
        table, what = read_evaluation_data(tmp_path / name)
        assert table.classes == (wanted,)
        assert what.startswith(str(tmp_path / name))


# Labels of pictures to embed


def labels(*sources):
    return folder_labels(find_images(sources).images)


def test_folder_of_class_folders_gives_labels(tmp_path):
    make(tmp_path, "a/1.jpg", "b/2.jpg", "b/deep/3.jpg", "loose.jpg")
    assert labels(tmp_path) == ["a", "b", "deep", None]  # the parent folder


def test_flat_folder_or_a_single_subfolder_gives_none(tmp_path):
    make(tmp_path / "flat", "1.jpg", "2.jpg")
    make(tmp_path / "one", "holiday/1.jpg", "holiday/2.jpg")
    assert labels(tmp_path / "flat", tmp_path / "one") == [None] * 4


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("train", "val", "test")])
def test_of_a_split_layout_the_folder_below_the_split(tmp_path, splits):
    make(tmp_path, *(f"{split}/{c}/{split}.jpg" for split in splits for c in "ab"))
    found = find_images([tmp_path]).images
    assert folder_labels(found) == [image.path.split("/")[1] for image in found]


def test_picture_right_in_a_split_has_no_label(tmp_path):
    make(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/loose.jpg")
    assert labels(tmp_path) == ["a", "b", None]


def test_split_names_among_other_classes_are_classes(tmp_path):
    make(tmp_path, "train/1.jpg", "bus/2.jpg", "plane/3.jpg")
    assert labels(tmp_path) == ["bus", "plane", "train"]


def test_each_source_is_judged_by_itself(tmp_path):
    make(tmp_path, "classes/a/1.jpg", "classes/b/2.jpg", "flat/3.jpg")
    assert labels(tmp_path / "classes", tmp_path / "flat") == ["a", "b", None]


# Label tables


def table(tmp_path, text, **options):
    file = tmp_path / "labels.csv"
    file.write_text(text, **options)
    return file


def test_table_names_pictures_by_three_kinds_of_path(tmp_path):
    make(tmp_path / "imgs", "a.jpg", "b/c.jpg", "d.jpg", "e.jpg")
    file = table(
        tmp_path,
        f"path,label\na.jpg,in the folder\nimgs/b/c.jpg,beside the table\n"
        f"{tmp_path}/imgs/d.jpg,absolute\n",
    )
    found = find_images([tmp_path / "imgs"]).images
    assert read_label_table(file, found) == [
        "in the folder",
        "beside the table",
        "absolute",
        None,
    ]


def test_table_may_have_other_columns_quotes_and_odd_paths(tmp_path):
    make(tmp_path, "a, b.jpg", "é.jpg")
    file = table(tmp_path, 'id,label,path\n1,"x, y","./a, b.jpg"\n2,ü,é.jpg\n', encoding="utf-8")
    assert read_label_table(file, find_images([tmp_path]).images) == ["x, y", "ü"]


def test_table_as_a_spreadsheet_saves_it_has_a_byte_order_mark(tmp_path):
    make(tmp_path, "a.jpg")
    file = table(tmp_path, "path,label\na.jpg,x\n", encoding="utf-8-sig")
    assert read_label_table(file, find_images([tmp_path]).images) == ["x"]


def test_empty_label_is_no_label(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    file = table(tmp_path, "path,label\na.jpg,\nb.jpg\n")
    assert read_label_table(file, find_images([tmp_path]).images) == [None, None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("a.jpg,x\n", "no rows"),
        ("file,class\na.jpg,x\n", "columns class, file; `path` is wanted"),
        ("path,class\na.jpg,x\n", "no column `label`"),
        ("label,path\nx\n", "row 2 of .*: `path` is empty"),
        ("path,label\n,x\n", "row 2 of .*: `path` is empty"),
        ("path,label\na.jpg,x\n./a.jpg,y\n", "row 3 of .* says another `label`"),
        ("path,label\na.jpg,x,y\n", "line 2"),
    ],
)
def test_table_that_does_not_name_pictures_and_labels_is_refused(tmp_path, text, words):
    make(tmp_path, "a.jpg")
    with pytest.raises(DatasetError, match=words) as caught:
        read_label_table(table(tmp_path, text), find_images([tmp_path]).images)
    assert "labels.csv" in caught.value.what and caught.value.hint


def test_a_row_may_end_before_its_label(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    file = table(tmp_path, "path,label\na.jpg\nb.jpg,x\n")
    assert read_label_table(file, find_images([tmp_path]).images) == [None, "x"]


def test_any_table_will_do_and_one_of_another_name_is_csv(tmp_path):
    make(tmp_path, "a.jpg")
    (tmp_path / "t.jsonl").write_text('{"path": "a.jpg", "label": 3.0}')
    (tmp_path / "t.txt").write_text("path,label\na.jpg,3\n")
    for name in ("t.jsonl", "t.txt"):
        assert read_label_table(tmp_path / name, find_images([tmp_path]).images) == ["3"]


def test_table_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"path,label\ncaf\xe9.jpg,x\n")
    for name in ("latin.csv", "."):
        with pytest.raises(DatasetError, match="cannot read the table") as caught:
            read_label_table(tmp_path / name, [])
        assert os.fspath(tmp_path / name) in caught.value.what
    with pytest.raises(DatasetError, match="no label table") as caught:
        read_label_table(tmp_path / "folders", [])
    assert "`folder`, `none`" in caught.value.hint
