"""Pictures that are kept: the same as read anew, once each, where they fit."""

import pytest
from cli_toys import draw, draw_classes

from cgdcli.config import Cache
from cgdcli.errors import ImageError
from cgdcli.images import cache as module
from cgdcli.images.cache import (
    MemoryStore,
    PictureCache,
    free_memory,
    place_that_fits,
)
from cgdcli.images.cropping import Box
from cgdcli.images.filestore import FileStore
from cgdcli.images.reducing import read_reduced


@pytest.fixture
def calls(monkeypatch):
    """Pictures that were read."""
    seen = []

    def counted(path, box, side):
        seen.append(path)
        return read_reduced(path, box, side)

    monkeypatch.setattr(module, "read_reduced", counted)
    return seen


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    def make(side):
        if request.param == "memory":
            return PictureCache(side, MemoryStore())
        (tmp_path / "run").mkdir(exist_ok=True)
        return PictureCache(side, FileStore(tmp_path / "run", side))

    return make


def test_each_picture_is_read_once_and_comes_as_without(cache, calls, tmp_path):
    file = draw(tmp_path / "a.png", "red", 0)
    kept = cache(20)
    first, second = kept.picture(file), kept.picture(file)
    assert len(calls) == 1 and first.size == (24, 20)  # of 44 x 36
    plain = PictureCache(20).picture(file)
    assert first.tobytes() == second.tobytes() == plain.tobytes()


def test_a_box_is_another_picture(cache, calls, tmp_path):
    file = draw(tmp_path / "a.png", "red", 0)
    kept = cache(100)
    for _ in range(2):
        whole, part = kept.picture(file), kept.picture(file, Box(0, 0, 10, 12))
        assert whole.size == (44, 36) and part.size == (10, 12)
    assert len(calls) == 2


def test_without_a_store_it_is_read_each_time(calls, tmp_path):
    file = draw(tmp_path / "a.png", "red", 0)
    assert PictureCache(20).picture(file).size == PictureCache(20).picture(file).size == (24, 20)
    assert len(calls) == 2


def test_a_broken_picture_is_an_error_each_time(cache, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    kept = cache(20)
    for _ in range(2):
        with pytest.raises(ImageError):
            kept.picture(tmp_path / "a.png")


# Six pictures of 44 x 36 px: at a side of 18, 22 x 18 px, 9 504 B in memory and 7 128 in a file.
@pytest.mark.parametrize(
    ("memory", "disk", "kind", "size"),
    [
        (4 * 9_504, 0, Cache.memory, 9_504),
        (4 * 9_504 - 1, 2 * 7_128, Cache.disk, 7_128),
        (4 * 9_504 - 1, 2 * 7_128 - 1, Cache.none, 9_504),
        (0, 10**9, Cache.disk, 7_128),
    ],
)
def test_auto_takes_the_first_place_that_holds_them(tmp_path, memory, disk, kind, size):
    draw_classes(tmp_path, "red blue", 3)
    pictures = [(file, None) for file in sorted(tmp_path.rglob("*.png"))]
    place = place_that_fits(pictures, 18, Cache.auto, memory=memory, disk=disk)
    assert (place.kind, place.size) == (kind, size)
    for wanted in (Cache.memory, Cache.disk, Cache.none):
        assert place_that_fits(pictures, 18, wanted, memory=0, disk=0).kind is wanted


def test_boxes_are_counted_and_broken_pictures_are_not(tmp_path):
    file = draw(tmp_path / "a.png", "red", 0)
    (tmp_path / "b.png").write_bytes(b"no")
    pictures = [(file, Box(0, 0, 10, 10)), (file, Box(40, 30, 90, 90)), (tmp_path / "b.png", None)]
    place = place_that_fits(pictures, 100, Cache.memory, memory=0, disk=0)
    assert place.size == 4 * 3 * (100 + 4 * 6) / 2
    assert place_that_fits(pictures[2:], 9, Cache.auto, memory=99, disk=99).kind is Cache.none


def test_free_memory_is_some():
    assert 10**7 < free_memory() < 10**14


def test_a_control_group_bounds_free_memory(tmp_path):
    """A container or a job of a cluster; what it holds of files is not in the way."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "slurm/job").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (proc / "self/cgroup").write_text("0::/slurm/job\n")
    assert free_memory(proc, groups) == 8000 * 1024
    (groups / "slurm/memory.max").write_text("5000000\n")
    (groups / "slurm/memory.current").write_text("4000000\n")
    (groups / "slurm/memory.stat").write_text("anon 1\ninactive_file 500000\nfile 7\n")
    (groups / "slurm/job/memory.max").write_text("max\n")
    assert free_memory(proc, groups) == 1_500_000
    (groups / "slurm/job/memory.max").write_text("300\n")
    assert free_memory(proc, groups) == 300
    (groups / "slurm/job/memory.current").write_text("400\n")
    assert free_memory(proc, groups) == 0
    assert free_memory(tmp_path / "gone", groups) > 10**7  # by the system's own call
