"""Which files are pictures, in which order, and what is passed over."""

import os
from pathlib import Path

import pytest

from cgdcli.errors import DatasetError
from cgdcli.images.finding import IMAGE_SUFFIXES, find_images, is_excluded, list_images


def make(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return folder


def paths(*sources):
    return [image.path for image in find_images(sources).images]


def test_folders_are_searched_to_the_bottom(tmp_path):
    make(tmp_path, "a.jpg", "b/c.png", "b/d/e/f/g.webp")
    assert paths(tmp_path) == ["a.jpg", "b/c.png", "b/d/e/f/g.webp"]


def test_order_is_that_of_the_bytes_of_the_whole_path(tmp_path):
    names = ["B.jpg", "a.jpg", "a/z.jpg", "a-b/c.jpg", "é.jpg", "10.jpg", "9.jpg", "Z/a.jpg"]
    make(tmp_path, *names)
    assert paths(tmp_path) == sorted(names, key=os.fsencode)


def test_hidden_files_and_folders_are_left_out_uncounted(tmp_path):
    make(tmp_path, "x.jpg", ".x.jpg", "._x.jpg", ".git/y.jpg", "a/._z.jpg", ".DS_Store")
    listing = find_images([tmp_path])
    assert [image.path for image in listing.images] == ["x.jpg"]
    assert listing.passed_over == 0


def test_a_hidden_folder_that_is_named_is_read(tmp_path):
    make(tmp_path, ".photos/a.jpg", ".photos/.b.jpg")
    assert paths(tmp_path / ".photos") == ["a.jpg"]


def test_other_files_are_passed_over_and_counted(tmp_path):
    make(tmp_path, "x.jpg", "Thumbs.db", "a/film.mov", "a/notes.txt", "README", "x.jpg.part")
    listing = find_images([tmp_path])
    assert [image.path for image in listing.images] == ["x.jpg"]
    assert listing.passed_over == 5


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_suffix_counts_in_any_case(tmp_path, suffix):
    make(tmp_path, f"low{suffix}", f"UP{suffix.upper()}")
    assert len(paths(tmp_path)) == 2


def test_link_to_a_folder_elsewhere_is_followed(tmp_path):
    make(tmp_path / "elsewhere", "x.jpg")
    make(tmp_path / "here", "a.jpg")
    (tmp_path / "here/link").symlink_to(tmp_path / "elsewhere")
    assert paths(tmp_path / "here") == ["a.jpg", "link/x.jpg"]


def test_loop_of_links_is_walked_once(tmp_path):
    make(tmp_path, "a/x.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a")
    assert paths(tmp_path) == ["a/x.jpg"]


def test_two_links_to_one_folder_give_each_picture_once(tmp_path):
    make(tmp_path / "real", "x.jpg")
    make(tmp_path / "data", "a.jpg")
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "real")
    found = paths(tmp_path / "data")
    assert found in (["a.jpg", "one/x.jpg"], ["a.jpg", "two/x.jpg"])


def test_broken_link_is_listed_so_that_reading_reports_it(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert paths(tmp_path) == ["gone.jpg"]


def test_folder_named_like_a_picture_is_walked(tmp_path):
    make(tmp_path, "album.jpg/x.png")
    assert paths(tmp_path) == ["album.jpg/x.png"]


def test_root_of_a_file_is_its_folder_and_absolute(tmp_path, monkeypatch):
    make(tmp_path, "a/x.jpg")
    monkeypatch.chdir(tmp_path)
    (found,) = find_images([Path("a/x.jpg")]).images
    assert (found.root, found.path) == (tmp_path / "a", "x.jpg")
    assert found.file == tmp_path / "a/x.jpg"


def test_root_of_a_folder_is_that_folder_as_it_was_named(tmp_path, monkeypatch):
    make(tmp_path, "real/b/x.jpg")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    (found,) = find_images([Path("link")]).images
    assert (found.root, found.path) == (tmp_path / "link", "b/x.jpg")


def test_same_picture_by_two_sources_comes_once(tmp_path, monkeypatch):
    make(tmp_path, "a/x.jpg", "a/y.jpg")
    monkeypatch.chdir(tmp_path)
    sources = [Path("a/y.jpg"), Path("a"), tmp_path, tmp_path / "a", Path("a/../a")]
    listing = find_images(sources)
    assert [image.file.name for image in listing.images] == ["x.jpg", "y.jpg"]


def test_order_of_the_sources_does_not_matter(tmp_path):
    make(tmp_path, "b/1.jpg", "a/2.jpg", "c.jpg")
    sources = [tmp_path / "c.jpg", tmp_path / "b", tmp_path / "a"]
    assert paths(*sources) == paths(*reversed(sources)) == ["2.jpg", "1.jpg", "c.jpg"]


def test_file_passed_over_by_two_sources_counts_once(tmp_path):
    make(tmp_path, "a/x.jpg", "a/film.mov")
    assert find_images([tmp_path, tmp_path / "a", tmp_path / "a/film.mov"]).passed_over == 1


def test_names_that_are_not_utf8_come_back_as_they_are(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    make(tmp_path, name)
    (found,) = find_images([tmp_path]).images
    assert os.fsencode(found.path) == b"caf\xe9.jpg"
    assert found.file.exists()


def test_file_without_a_pictures_suffix_is_passed_over(tmp_path):
    make(tmp_path, "film.mov")
    listing = find_images([tmp_path / "film.mov"])
    assert listing.images == () and listing.passed_over == 1


def test_empty_folder_gives_nothing(tmp_path):
    listing = find_images([tmp_path])
    assert listing.images == () and listing.passed_over == 0


def test_missing_source_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere") as caught:
        find_images([tmp_path / "nowhere"])
    assert "does not exist" in caught.value.what


def test_no_picture_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    assert paths(tmp_path) == ["pipe.jpg"]


@pytest.mark.parametrize(
    ("path", "pattern", "left_out"),
    [
        ("a/b.jpg", "b.jpg", True),
        ("a/b.jpg", "a", True),
        ("a/b.jpg", "a/", True),
        ("a/b.jpg", "*.jpg", True),
        ("a/b.jpg", "b", False),
        ("a/b.jpg", "a/b*", True),
        ("a/b.jpg", "x/b*", False),
        ("x/a/b.jpg", "a/b*", False),
        ("x/a/b.jpg", "*/a/b*", True),
        ("A/b.jpg", "a", False),
    ],
)
def test_patterns_of_what_to_leave_out(path, pattern, left_out):
    assert is_excluded(path, [pattern]) is left_out


def test_what_is_left_out_is_counted_once(tmp_path):
    make(tmp_path, "a.jpg", "old/b.jpg", "old/c.jpg", "old/notes.txt")
    listing = find_images([tmp_path, tmp_path / "old"], ["old"])
    assert [i.path for i in listing.images] == ["a.jpg", "b.jpg", "c.jpg"]  # of old/ itself: not
    listing = find_images([tmp_path], ["old", "b.*"])
    assert ([i.path for i in listing.images], listing.excluded) == (["a.jpg"], 2)
    assert listing.passed_over == 1


def test_a_pattern_finds_files_and_folders_below_what_comes_before_it(tmp_path):
    make(tmp_path, "x/1.jpg", "x/2.png", "y/3.jpg", "y/deep/4.jpg", "z.jpg", "z.txt")
    found = find_images([tmp_path / "*/*.jpg"]).images
    assert [(i.root, i.path) for i in found] == [(tmp_path, "x/1.jpg"), (tmp_path, "y/3.jpg")]
    assert paths(tmp_path / "**/*.jpg") == ["x/1.jpg", "y/3.jpg", "y/deep/4.jpg", "z.jpg"]
    assert paths(tmp_path / "[xy]") == ["x/1.jpg", "x/2.png", "y/3.jpg", "y/deep/4.jpg"]


def test_a_name_with_brackets_is_a_name_first(tmp_path):
    make(tmp_path, "[1].jpg", "1.jpg")
    assert paths(tmp_path / "[1].jpg") == ["[1].jpg"]


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(DatasetError, match="matches nothing"):
        find_images([tmp_path / "*.jpg"])


def test_a_list_of_files_takes_them_as_they_are(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    make(here, "b/1", "a.jpg")
    make(there, "c.jpg")
    monkeypatch.chdir(here)
    listed = [Path("b/1"), Path("a.jpg"), Path("./a.jpg"), there / "c.jpg", Path("gone.png")]
    listing = list_images(listed)
    assert [(i.root, i.path) for i in listing.images] == [
        *((here, name) for name in ("a.jpg", "b/1", "gone.png")),
        (there, "c.jpg"),
    ]
    assert list_images(listed, ["b", "*.png"]).excluded == 2


def test_an_unreadable_folder_is_noted_or_refused(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    real = os.scandir

    def scandir(place):
        if str(place).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = find_images([tmp_path], tolerant=True)
    assert [i.path for i in listing.images] == ["a/1.jpg"]
    assert listing.unreadable == {str(tmp_path / "b"): "Permission denied"}
    for sources, tolerant in (([tmp_path], False), ([tmp_path / "b"], True)):
        with pytest.raises(DatasetError, match=r"cannot read the folder .*b`: Permission denied"):
            find_images(sources, tolerant=tolerant)


def test_a_hundred_thousand_files_in_one_folder(tmp_path):
    for number in range(100_000):
        (tmp_path / f"{number}.jpg").touch()
    assert len(find_images([tmp_path]).images) == 100_000


def test_names_with_newlines(tmp_path):
    make(tmp_path, "two\nlines.jpg")
    assert paths(tmp_path) == ["two\nlines.jpg"]
