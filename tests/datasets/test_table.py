"""A table of labelled pictures."""

from pathlib import Path

import pytest

from cgdcli.datasets.table import ImageTable

LABELS = ("b", "a", "b", "c", "a", "10", "9")
TABLE = ImageTable(tuple(Path(f"{i}.jpg") for i in range(7)), LABELS)


def test_classes_are_sorted_as_text_and_indexed_by_place():
    assert TABLE.classes == ("10", "9", "a", "b", "c")
    assert tuple(TABLE.classes[i] for i in TABLE.class_indices) == LABELS


def test_single_classes_have_one_picture():
    assert TABLE.single_classes == ("10", "9", "c")


def test_split_by_class_keeps_every_picture_once_in_order():
    rest, off = TABLE.split_off(frozenset({"a", "c"}))
    assert off.labels == ("a", "c", "a") and rest.labels == ("b", "b", "10", "9")
    assert [p.name for p in off.paths] == ["1.jpg", "3.jpg", "4.jpg"]
    assert sorted(off.paths + rest.paths) == sorted(TABLE.paths)


def test_paths_and_labels_must_be_as_many():
    with pytest.raises(AssertionError):
        ImageTable((Path("a"),), ())
