"""The quick check: what paths, labels and roles tell without opening a picture."""

import pytest
from layouts import draw, inshop

from cgdcli.datasets.findings import (
    finding,
    held_out_findings,
    quick_findings,
    ready_to_train,
)
from cgdcli.datasets.reading import read_splits, read_training_data
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError


def table(folder, labels, roles=(), name="t"):
    """`roles`: a text of q, g, b (both) and - for each label."""
    paths = [folder / f"{name}{i}.jpg" for i in range(len(labels))]
    for path in paths:
        path.write_bytes(b"not opened")
    flags = {
        "is_query": tuple(r in "qb" for r in roles),
        "is_gallery": tuple(r in "gb" for r in roles),
    }
    return ImageTable(tuple(paths), tuple(labels), **flags)


def found(**tables):
    return {one.kind: one for one in quick_findings(tables)}


def test_sound_data_has_no_finding(tmp_path):
    train, test = table(tmp_path, "aabb"), table(tmp_path, "ccdd", name="s")
    assert found(train=train, test=test) == {}
    assert found(test=table(tmp_path, "ccdd", "qggq")) == {}


def test_missing_and_empty_files(tmp_path):
    train = table(tmp_path, "aabb")
    train.paths[1].unlink()
    train.paths[3].write_bytes(b"")
    kinds = found(train=train)
    assert kinds["missing"].examples == (str(train.paths[1]),)
    assert kinds["empty"].examples == (str(train.paths[3]),)
    assert {one.severity for one in kinds.values()} == {"error"}


def test_a_name_that_no_file_can_have_is_missing(tmp_path):
    train = ImageTable((tmp_path / "a\0.jpg",), ("a",))
    assert found(train=train)["missing"].count == 1


@pytest.mark.parametrize(
    ("test", "severity", "count"), [("aabb", "warning", 2), ("aacc", "error", 1)]
)
def test_a_mix_of_seen_and_new_classes_is_an_error_all_seen_a_warning(
    tmp_path, test, severity, count
):
    tables = {"train": table(tmp_path, "aabb"), "test": table(tmp_path, test, name="s")}
    (one,) = quick_findings(tables)
    assert (one.kind, one.severity, one.count) == ("class-overlap", severity, count)
    assert one.examples == tuple("ab"[:count]) and "train" in one.what


def test_classes_with_one_picture_are_counted_by_split(tmp_path):
    kinds = quick_findings(
        {"train": table(tmp_path, "aab"), "test": table(tmp_path, "ccde", name="s")}
    )
    assert [(one.kind, one.count) for one in kinds] == [("single", 1), ("single", 2)]
    assert kinds[0].what.startswith("1 class of train:")
    assert kinds[1].what.startswith("2 classes of test:") and "miss" in kinds[1].what


@pytest.mark.parametrize(
    ("name", "severity"), [("test", "error"), ("val", "error"), ("train", "warning")]
)
def test_a_split_in_which_nothing_matches_measures_nothing(tmp_path, name, severity):
    (one,) = quick_findings({name: table(tmp_path, "abc")})
    assert (one.severity, one.count) == (severity, 3)
    assert (one.kind == "no-partner") == (severity == "error")


@pytest.mark.parametrize(
    ("labels", "roles", "kind", "examples"),
    [
        ("aabb", "qgqg", None, ()),
        ("aabc", "qgqg", "query-without-gallery", ("b",)),
        ("aabb", "qgb-", "query-without-gallery", ("b",)),  # its own row is no answer
        ("aabb", "bbbb", None, ()),
        ("abcd", "qgqg", "no-roles", ("a", "c")),
        ("aabb", "qqqq", "no-roles", ("test",)),
        ("aabb", "gggg", "no-roles", ("test",)),
    ],
)
def test_queries_want_their_label_in_the_gallery(tmp_path, labels, roles, kind, examples):
    kinds = found(test=table(tmp_path, labels, roles))
    errors = {name: one for name, one in kinds.items() if one.severity == "error"}
    assert list(errors) == ([kind] if kind else [])
    assert not kind or errors[kind].examples == examples


def test_a_picture_without_a_role_is_said(tmp_path):
    one = found(test=table(tmp_path, "aaa", "qg-"))["no-role"]
    assert (one.severity, one.count) == ("warning", 1) and one.examples[0].endswith("t2.jpg")


def test_a_finding_keeps_a_thousand_examples_and_counts_all():
    (one,) = finding("k", "error", range(1_500), ("thing", "things"), "odd", "mend it")
    assert one.count == 1_500 and len(one.examples) == 1_000
    assert one.what == "1500 things: odd"
    assert finding("k", "error", [], ("thing", "things"), "odd", "mend it") == []


def test_training_goes_on_with_what_was_found_in_its_notes(tmp_path):
    for label in "ab":
        for number in range(2):
            draw(tmp_path / "train" / label / f"{number}.png", number)
            draw(tmp_path / "test" / ("a" if label == "a" else "z") / f"{number}.png", number)
    (tmp_path / "train" / "a" / "empty.png").write_bytes(b"")
    data = read_training_data(tmp_path, val_fraction=0.2, seed=0)
    notes = ready_to_train(data).notes
    assert notes[: len(data.notes)] == data.notes
    new = " ".join(notes[len(data.notes) :])
    assert "1 file: empty" in new and "1 class of test: also in train" in new


def class_folders(folder, **splits):
    """`train="aab"`: train/a with two pictures and train/b with one; none is opened."""
    for split, labels in splits.items():
        for number, label in enumerate(labels):
            file = folder / split / label / f"{split}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"not opened")
    return folder


def ready(folder):
    data = read_training_data(folder, val_fraction=0.2, seed=0)
    return " ".join(ready_to_train(data).notes)


def test_what_spoils_a_figure_is_said_though_reading_said_like_of_train(tmp_path):
    """Single classes of train, and classes in train and val, have been said; these have not."""
    splits = {"train": "aabbc", "val": "aax", "test": "xxddy"}
    said = ready(class_folders(tmp_path, **splits))
    assert "1 class has one picture (c)" in said and "of train: with one" not in said
    assert "1 of 2 val classes are also in train" in said and "also in train, out" not in said
    assert "1 class of val: with one picture, out of 2" in said
    assert "1 class of test: with one picture, out of 3" in said
    assert "1 class of test: also in val, out of 3" in said


def test_held_out_classes_are_not_called_val(tmp_path):
    labels = "".join(label * (1 + (label > "d")) for label in "abcdefghijkl")
    data = read_training_data(
        class_folders(tmp_path, train=labels, test="zz"),
        val_fraction=0.5,
        seed=0,
        held_out="aefghi",
    )
    said = " ".join(ready_to_train(data).notes)
    assert "1 class of the held-out classes: with one picture, out of 6" in said


@pytest.mark.parametrize("split", ["val", "test"])
def test_training_refuses_to_be_judged_where_nothing_matches(tmp_path, split):
    with pytest.raises(DatasetError, match=f"2 classes of {split}: .* Recall is 0") as caught:
        ready(class_folders(tmp_path, **{"train": "aabb", split: "xy"}))
    assert "add pictures" in caught.value.hint


def test_held_out_classes_in_which_nothing_matches_are_drawn_otherwise(tmp_path):
    folder = class_folders(tmp_path, train="abcdefghijkl" * 2, test="xx")
    for label in "ab":
        next((folder / "train" / label).iterdir()).unlink()
    data = read_training_data(folder, val_fraction=0.2, seed=0, held_out="ab")
    with pytest.raises(DatasetError, match="of the held-out classes") as caught:
        ready_to_train(data)
    assert "--seed" in caught.value.hint and "--val-fraction" in caught.value.hint


def checked(folder):
    """What `cgd check` says of the classes that `cgd train` would hold out."""
    return held_out_findings(read_splits(folder))


@pytest.mark.parametrize(
    ("with_two", "kind", "count"),
    [("abcdefghijkl", None, 0), ("a", "no-partner", 2), ("g", "no-pair", 10), ("ag", None, 0)],
)
def test_a_check_foresees_what_training_refuses(tmp_path, with_two, kind, count):
    """Of twelve classes training holds out `g` and `l`."""
    labels = "".join(label * (1 + (label in with_two)) for label in "abcdefghijkl")
    folder = class_folders(tmp_path, train=labels, test="zz")
    if kind is None:
        assert not checked(folder) and ready(folder)
        return
    (one,) = checked(folder)
    assert (one.kind, one.severity, one.count) == (kind, "error", count)
    assert "`cgd train` holds out by default (--val-fraction 0.2 --seed 0)" in one.what
    assert "--val-fraction" in one.hint
    with pytest.raises(DatasetError):
        ready(folder)


@pytest.mark.parametrize(
    "splits", [{"train": "abc", "val": "xx"}, {"train": "abc"}, {"val": "abc"}]
)
def test_a_check_foresees_nothing_where_no_class_is_held_out(tmp_path, splits):
    assert checked(class_folders(tmp_path, **splits)) == []


def test_training_refuses_a_test_in_which_no_query_can_be_found(tmp_path):
    rows = [("train", 1, 2), ("train", 2, 2), ("query", 7, 2), ("gallery", 8, 2)]
    data = read_training_data(inshop(tmp_path, rows), val_fraction=0, seed=0)
    with pytest.raises(DatasetError, match="missing from the gallery; 2 of 2 queries"):
        ready_to_train(data)
