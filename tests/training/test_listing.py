"""The list of a run's pictures, and what a later one has otherwise."""

from dataclasses import replace

import pytest

from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cropping import Box
from cgdcli.training.listing import compare, digest, list_pictures, pack, unpack


def table(folder, *names):
    """Pictures whose label is their folder."""
    return ImageTable(tuple(folder / n for n in names), tuple(n.split("/")[0] for n in names))


def listed(folder, *names, val=(), test=()):
    tables = [table(folder, *part) for part in (names, val, test)]
    return list_pictures(TrainingData(tables[0], tables[1], tables[2], "val"), folder)


def test_only_what_lies_below_the_folder_counts(tmp_path):
    here = digest(listed(tmp_path / "x", "a/1", "b/2"))
    assert here == digest(listed(tmp_path / "y", "a/1", "b/2"))
    others = [("a/1",), ("a/1", "b/3"), ("b/2", "a/1"), ("a/1b", "/2")]
    digests = {digest(listed(tmp_path / "x", *names)) for names in others}
    assert here not in digests and len(digests) == 4


def test_boxes_and_roles_count(tmp_path):
    plain = table(tmp_path, "a/1", "a/2")
    variants = [
        plain,
        replace(plain, boxes=(None, Box(0, 0, 5, 5))),
        replace(plain, boxes=(None, Box(0, 0, 5, 6))),
        replace(plain, is_query=(True, False), is_gallery=(False, True)),
        replace(plain, is_query=(True, True), is_gallery=(False, True)),
    ]
    lists = [list_pictures(TrainingData(plain, plain, t, "val"), tmp_path) for t in variants]
    assert len(set(map(digest, lists))) == len(variants)
    for other in lists[1:]:
        assert compare(lists[0], other).recut == ("a/2",) or compare(lists[0], other).words()
        assert "with another box or role" in compare(lists[0], other).words()


@pytest.mark.parametrize("name", [b"a/caf\xe9", b"a/new\nline", "a/é".encode()])
def test_odd_names_come_back(tmp_path, name):
    made = listed(tmp_path, name.decode(errors="surrogateescape"), "b/2", "")
    assert unpack(pack(made)) == made and digest(unpack(pack(made))) == digest(made)


def test_what_changed_is_named_by_kind(tmp_path):
    before = listed(tmp_path, "a/1", "a/2", "b/1", "b/2", val=("v/1", "v/2"))
    now = listed(tmp_path, "a/1", "b/1", "b/3", "b/4", "b/5", "b/6", "v/1", val=("v/2",))
    changes = compare(before, now)
    assert changes.added == ("b/3", "b/4", "b/5", "b/6") and changes.removed == ("a/2", "b/2")
    assert changes.moved == ("v/1: val -> train",)
    assert (changes.new_classes, changes.gone_classes) == (("v",), ())
    words = "4 pictures added (b/3, b/4, b/5 ...), 2 pictures removed (a/2, b/2)"
    assert changes.words().startswith(words)


def test_another_label_is_told_from_another_split(tmp_path):
    def labelled(label):
        made = ImageTable((tmp_path / "1", tmp_path / "2"), (label, "b"))
        return list_pictures(TrainingData(made, made, None, "train"), tmp_path)

    changes = compare(labelled("a"), labelled("b"))
    assert changes.relabelled == ("1: a -> b",) and not changes.moved
    assert changes.gone_classes == ("a",)
    assert "1 picture with another label (1: a -> b)" in changes.words()


def test_another_order_is_a_change_in_words(tmp_path):
    changes = compare(listed(tmp_path, "a/1", "a/2"), listed(tmp_path, "a/2", "a/1"))
    assert changes.words() == "the same pictures, in another order"
