import time

import pytest

from cgdcli.errors import DatasetError
from cgdcli.images.finding import FoundImage, find_images, list_images
from cgdcli.images.mirror import fetched, list_remote
from cgdcli.remote import place_of


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """fsspec's file system in memory, with nothing in it."""
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)
    yield fs
    fs.rm("/", recursive=True)


def put(fs, path, data):
    fs.pipe_file(path, data)


def test_a_listing_is_that_of_a_folder(memory):
    for name in ("b/1.jpg", "a/2.png", "a/.x.jpg", ".h/3.jpg", "a/notes.txt", "top.gif"):
        put(memory, f"/in/{name}", b"x")
    place = place_of("memory://in")
    found = find_images([place])
    assert [image.path for image in found.images] == ["a/2.png", "b/1.jpg", "top.gif"]
    assert found.passed_over == 1 and found.folders == {place: {"a", "b", ""}}
    assert all(image.facts and image.facts[0] == 1 for image in found.images)
    kept = find_images([place], ["b"], keep=lambda path: path == "top.gif")
    assert [image.path for image in kept.images] == ["top.gif"]
    assert (kept.found, kept.excluded) == (2, 1)


def test_copies_come_in_order_and_only_where_none_is(memory, tmp_path):
    for i in range(100):
        put(memory, f"/in/{i}.png", b"%d" % i)
    (tmp_path / "own.png").write_bytes(b"own")
    files = [place_of(f"memory://in/{i}.png") for i in range(100)] + [tmp_path / "own.png"]
    assert [file.read_bytes() for file in fetched(files)] == [
        *(b"%d" % i for i in range(100)),
        b"own",
    ]
    before = files[7].stat()
    assert list(fetched(files)) == files and files[7].stat() == before
    assert {file.suffix for file in files[0].parent.iterdir()} == {".png"}  # and no halves


def test_a_listing_removes_copies_of_what_is_gone_or_changed(memory):
    for name in ("gone", "changed", "same"):
        put(memory, f"/in/d/{name}.png", b"1")
    place = place_of("memory://in")
    files = {name: place / "d" / f"{name}.png" for name in ("gone", "changed", "same")}
    list(fetched(list(files.values())))
    (place / "d" / "feats.npy").write_bytes(b"an index")
    memory.rm("/in/d/gone.png")
    time.sleep(1.1)  # without an ETag the second of the change is what is compared
    put(memory, "/in/d/changed.png", b"2")
    list_remote(place)
    assert [file.exists() for file in files.values()] == [False, False, True]
    assert (place / "d" / "feats.npy").exists()


def test_what_went_since_the_listing_is_not_there(memory):
    put(memory, "/in/a.png", b"1")
    (image,) = find_images([place_of("memory://in")]).images
    memory.rm("/in/a.png")
    assert list(fetched([image.file])) == [image.file] and not image.file.exists()


def test_nothing_there_and_a_list_of_addresses(memory):
    with pytest.raises(DatasetError, match="nothing is at `memory://in`"):
        find_images([place_of("memory://in")])
    with pytest.raises(DatasetError, match=r"memory://in/a.png"):
        list_images([place_of("memory://in/a.png")])


def test_files_of_a_disk_go_through_untouched(tmp_path):
    files = [tmp_path / "a.png"]
    assert fetched(files) is files
    assert FoundImage(tmp_path, "a.png").facts is None
