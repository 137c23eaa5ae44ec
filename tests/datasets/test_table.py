"""A table of labelled pictures."""

from pathlib import Path

import pytest

from cgdcli.datasets.table import ImageTable
from cgdcli.images.cropping import Box

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


def test_split_by_class_keeps_boxes_and_roles_with_their_pictures():
    boxes = (None, *(Box(i, 0, i + 5, 9) for i in range(1, 7)))
    asked, stored = (True, False) * 3 + (True,), (False, True, True) * 2 + (True,)
    table = ImageTable(TABLE.paths, LABELS, boxes=boxes, is_query=asked, is_gallery=stored)
    parts = table.split_off(frozenset({"a", "c"}))
    rows = {path: i for i, path in enumerate(TABLE.paths)}
    for part in parts:
        for i, path in enumerate(part.paths):
            row = rows[path]
            found = (part.box(i), part.is_query[i], part.is_gallery[i])
            assert found == (boxes[row], asked[row], stored[row])


def test_without_roles_every_picture_is_asked_and_searched():
    assert TABLE.queries == TABLE.gallery == tuple(range(7)) and TABLE.box(3) is None
    roles = ImageTable(TABLE.paths[:2], LABELS[:2], is_query=(True, False), is_gallery=(True, True))
    assert roles.queries == (0,) and roles.gallery == (0, 1)


@pytest.mark.parametrize("parts", [{"boxes": (None,)}, {"is_query": (True,) * 7}])
def test_parts_of_another_length_are_a_bug(parts):
    with pytest.raises(AssertionError):
        ImageTable(TABLE.paths, LABELS, **parts)
