"""Stanford Online Products: a tiny tree of its layout, and the full lists without pictures."""

import pytest
from layouts import sop, write

from cgdcli.datasets.sop import read_sop
from cgdcli.errors import DatasetError


def test_its_lists_are_its_splits_and_the_class_is_the_label(tmp_path):
    splits = read_sop(sop(tmp_path), False)
    assert splits.train.classes == ("1", "2") and splits.test.classes == ("11319", "11320")
    assert (len(splits.train), len(splits.test)) == (5, 4)
    assert all(path.is_file() for path in (*splits.train.paths, *splits.test.paths))


def test_the_published_counts_are_recognised(tmp_path):
    train = dict.fromkeys(range(1, 11_319), 5) | {1: 5 + 59_551 - 5 * 11_318}
    test = dict.fromkeys(range(11_319, 22_635), 5) | {11_319: 5 + 60_502 - 5 * 11_316}
    (note,) = read_sop(sop(tmp_path, train, test, pictures=False), False).notes
    assert "59551" in note and "60502" in note and "the published counts" in note
    notes = read_sop(sop(tmp_path, train | {1: 2}, test, pictures=False), False).notes
    assert len(notes) == 1 and "published are 59551" in notes[0]


def test_it_has_no_boxes(tmp_path):
    with pytest.raises(DatasetError, match="without boxes"):
        read_sop(sop(tmp_path), True)


def test_a_cut_list_is_named(tmp_path):
    home = sop(tmp_path)
    write(home / "Ebay_test.txt", "image_id class_id super_class_id path", "1 2")
    with pytest.raises(DatasetError, match=r"line 2 of .*Ebay_test"):
        read_sop(home, False)
