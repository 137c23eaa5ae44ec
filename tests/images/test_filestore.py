"""Pictures in a file: they come back, or they are known to be gone; never wrong ones."""

import multiprocessing
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
from cli_toys import draw
from PIL import Image

from cgdcli.images.cache import PictureCache
from cgdcli.images.filestore import FileStore, remove_stores, stored_bytes
from cgdcli.images.reducing import read_reduced

SIDE = 16


def fill(folder, files, rank=0):
    """A store with all of them."""
    store = FileStore(folder, SIDE, rank)
    for file in files:
        store.put(file, None, read_reduced(file, None, SIDE))
    return store


def good(store, files):
    """How many of them it has; each that it has is right."""
    found = [(store.get(file, None), read_reduced(file, None, SIDE)) for file in files]
    assert all(kept is None or kept.tobytes() == right.tobytes() for kept, right in found)
    return sum(kept is not None for kept, _ in found)


@pytest.fixture
def files(tmp_path):
    return [draw(tmp_path / f"{i}.png", "red", i) for i in range(4)]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_next_process_finds_them(run, files):
    fill(run, files[:3]).close()
    store = FileStore(run, SIDE)
    assert good(store, files) == 3
    store.put(files[3], None, read_reduced(files[3], None, SIDE))
    store.close()
    assert good(FileStore(run, SIDE), files) == 4
    assert [file.name for file in run.iterdir()] == ["pictures.cache"]


def test_relative_names_are_found_as_absolute_ones(run, files, monkeypatch, tmp_path):
    fill(run, files).close()
    monkeypatch.chdir(tmp_path)
    assert FileStore(run, SIDE).get(files[0].relative_to(tmp_path), None) is not None


def test_a_picture_that_changed_since_is_read_anew(run, files):
    fill(run, files).close()
    status = files[0].stat()
    draw(files[0], "blue", 7)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    store = FileStore(run, SIDE)
    assert good(store, files) == 3
    cache = PictureCache(SIDE, store)
    assert cache.picture(files[0]).tobytes() == read_reduced(files[0], None, SIDE).tobytes()
    store.close()
    assert good(FileStore(run, SIDE), files) == 4  # the later of two records holds


def test_pictures_of_another_side_are_forgotten(run, files):
    fill(run, files).close()
    other = FileStore(run, SIDE + 1)
    assert other.get(files[0], None) is None and stored_bytes(run) < 100


def test_cut_short_anywhere_it_keeps_what_is_whole(run, files):
    fill(run, files).close()
    path = run / "pictures.cache"
    whole = path.read_bytes()
    counts = []
    for length in (*range(0, len(whole), 97), len(whole) - 1, len(whole)):
        path.write_bytes(whole[:length])
        store = FileStore(run, SIDE)
        counts.append(good(store, files))
        for file in files:
            PictureCache(SIDE, store).picture(file)
        store.close()
        again = FileStore(run, SIDE)
        assert good(again, files) == 4
        again.close()
    assert counts == sorted(counts) and set(counts) == {0, 1, 2, 3, 4}


def test_flipped_bytes_are_never_shown(run, files):
    fill(run, files).close()
    path = run / "pictures.cache"
    whole = path.read_bytes()
    draw_at = random.Random(0)
    for place in draw_at.sample(range(len(whole)), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        store = FileStore(run, SIDE)
        assert good(store, files) < 4
        store.close()


def test_a_file_that_goes_away_from_under_it_is_read_anew(run, files):
    store = fill(run, files)
    os.truncate(run / "pictures.cache", 0)
    assert good(store, files) == 0


def test_a_second_process_has_its_own_file_and_both_go(run, files):
    first, second = fill(run, files), fill(run, files[:2], rank=1)
    with pytest.raises(OSError, match=r"another process has `pictures1\.cache`"):
        FileStore(run, SIDE, rank=1)
    assert {first.path.name, second.path.name} == {"pictures.cache", "pictures1.cache"}
    assert good(first, files) == 4 and good(second, files) == 2
    remove_stores(run)
    assert list(run.iterdir()) == []


def test_a_full_disk_gives_the_room_back_and_goes_on_reading(run, files, caplog):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500, before[1]))
    try:
        store = FileStore(run, SIDE)
        cache = PictureCache(SIDE, store)
        for _ in range(2):
            for file in files:
                right = read_reduced(file, None, SIDE)
                assert cache.picture(file).tobytes() == right.tobytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(run.iterdir()) == [] and os.fstat(store._descriptor).st_size == 0
    assert caplog.text.count("File too large") == 1


def write_for_ever(folder, files):
    store = FileStore(folder, SIDE)
    pictures = [(file, read_reduced(file, None, SIDE)) for file in files]
    while True:
        for file, picture in pictures:
            store.put(file, None, picture)


@pytest.mark.parametrize("attempt", range(5))
def test_a_kill_leaves_whole_pictures(run, files, attempt):
    child = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(run, files))
    child.start()
    while not (run / "pictures.cache").exists() or stored_bytes(run) < 5_000:
        time.sleep(0.001)
    time.sleep(random.Random(attempt).uniform(0, 0.01))
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert good(FileStore(run, SIDE), files) == 4


def test_pictures_larger_than_a_write_takes_at_once(run, tmp_path, monkeypatch):
    """A write may take a part: `os.pwrite` says how much."""
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8))
    large.save(tmp_path / "large.png")
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda d, data, at: whole(d, data[:1000], at))
    store = FileStore(run, 200)
    store.put(tmp_path / "large.png", None, large)
    assert store.get(tmp_path / "large.png", None).tobytes() == large.tobytes()
