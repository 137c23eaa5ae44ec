"""What a folder has that its index has not."""

import hashlib
import os
from dataclasses import replace

import pytest

from cgdcli.embedding.changes import find_changes
from cgdcli.images.finding import find_images
from cgdcli.index.records import Picture


@pytest.fixture
def folder(tmp_path):
    """Files with a picture's name: nothing here opens one."""
    for name in ("a.jpg", "b.jpg", "c/d.jpg", "c/e.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{name} is it")
    return tmp_path


def as_known(folder):
    known = []
    for row, image in enumerate(find_images([folder]).images):
        status = image.file.stat()
        content = hashlib.sha256(image.file.read_bytes()).hexdigest()
        known.append(
            (
                row,
                Picture(image.root, image.path, None, status.st_size, status.st_mtime_ns, content),
            )
        )
    return known


def changes(known, folder, labels=None, **options):
    listing = find_images([folder], tolerant=True)
    labels = labels or [None] * len(listing.images)
    return find_changes(known, listing, labels, **options), [i.path for i in listing.images]


def test_nothing_changed_is_no_change(folder):
    found, _ = changes(as_known(folder), folder)
    assert not found


def test_without_an_index_everything_is_new(folder):
    found, paths = changes([], folder)
    assert [paths[i] for i in found.todo] == ["a.jpg", "b.jpg", "c/d.jpg", "c/e.jpg"]
    assert (found.gone, found.described) == (set(), {})


def test_new_and_gone(folder):
    known = as_known(folder)
    (folder / "b.jpg").unlink()
    (folder / "aa.jpg").write_text("new, longer than all of the others")
    found, paths = changes(known, folder)
    assert [paths[i] for i in found.todo] == ["aa.jpg"]
    assert (found.gone, found.renamed, found.changed) == ({1}, 0, 0)


@pytest.mark.parametrize("content", ["a.jpg is IT", "a.jpg is another"])
def test_another_content_is_embedded_again(folder, content):
    known = as_known(folder)
    (folder / "a.jpg").write_text(content)
    os.utime(folder / "a.jpg", ns=(1, 1))
    found, paths = changes(known, folder)
    assert [paths[i] for i in found.todo] == ["a.jpg"]
    assert (found.gone, found.changed, found.described) == ({0}, 1, {})


def test_a_touched_picture_keeps_its_row(folder):
    known = as_known(folder)
    os.utime(folder / "b.jpg", ns=(5, 5))
    found, _ = changes(known, folder)
    assert (found.todo, found.gone) == ([], set())
    assert found.described == {1: replace(known[1][1], mtime_ns=5)}


def test_the_same_size_and_time_is_the_same_unless_verified(folder):
    known = as_known(folder)
    before = (folder / "a.jpg").stat().st_mtime_ns
    (folder / "a.jpg").write_text("a.jpg is IT")
    os.utime(folder / "a.jpg", ns=(before, before))
    assert not changes(known, folder)[0]
    found, _ = changes(known, folder, verify=True)
    assert (found.todo, found.gone) == ([0], {0})


def test_a_renamed_picture_keeps_its_row_and_gets_its_label(folder):
    known = as_known(folder)
    (folder / "c/d.jpg").rename(folder / "0.jpg")
    found, paths = changes(known, folder, labels=["zero", "x", "x", "x"])
    assert paths[0] == "0.jpg"
    assert (found.todo, found.gone, found.renamed) == ([], set(), 1)
    assert (found.described[2].path, found.described[2].label) == ("0.jpg", "zero")
    assert found.described[2].sha256 == known[2][1].sha256


def test_of_two_lost_pictures_with_one_content_each_is_found_once(folder):
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes())
    known = as_known(folder)
    (folder / "a.jpg").rename(folder / "x.jpg")
    (folder / "b.jpg").rename(folder / "y.jpg")
    found, _ = changes(known, folder)
    assert (found.renamed, found.todo, found.gone) == (2, [], set())
    assert {picture.path for picture in found.described.values()} == {"x.jpg", "y.jpg"}


def test_a_copy_of_a_picture_that_stays_is_a_new_one(folder):
    known = as_known(folder)
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    found, paths = changes(known, folder)
    assert [paths[i] for i in found.todo] == ["copy.jpg"]


def test_another_label_is_said_anew(folder):
    found, _ = changes(as_known(folder), folder, labels=["x", None, None, None])
    assert (list(found.described), found.described[0].label) == ([0], "x")


def test_what_was_found_unreadable_is_not_tried_again(folder):
    known = [entry for entry in as_known(folder) if entry[0] != 1]
    found, _ = changes(known, folder, done={str(folder / "b.jpg")})
    assert not found


def test_rows_below_a_folder_that_cannot_be_read_stay(folder):
    known = as_known(folder)
    listing = find_images([folder / "a.jpg", folder / "b.jpg"])
    listing = replace(listing, unreadable={str(folder / "c"): "Permission denied"})
    assert not find_changes(known, listing, [None, None])
    listing = replace(listing, unreadable={str(folder / "cc"): "Permission denied"})
    assert find_changes(known, listing, [None, None]).gone == {2, 3}


def test_an_index_that_says_no_size_is_compared_by_content(folder):
    known = [(row, replace(picture, size=None, mtime_ns=None)) for row, picture in as_known(folder)]
    found, _ = changes(known, folder)
    assert (found.todo, found.gone) == ([], set())
    assert dict(as_known(folder)) == found.described
