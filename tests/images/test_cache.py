"""Pictures kept in memory: the same as read anew, once each, no more than fit."""

import pytest
from cli_toys import draw, draw_classes

from cgdcli.errors import ImageError
from cgdcli.images.cache import (
    PictureCache,
    free_memory,
    reduce_to,
    reduced_bytes,
    side_that_fits,
)
from cgdcli.images.cropping import Box
from cgdcli.images.decoding import read_image


def read(path, box=None):
    return read_image(path, box)[0]


def counting(calls):
    def counted(path, box):
        calls.append(path)
        return read(path, box)

    return counted


def test_each_picture_is_read_once_and_reduced(tmp_path):
    calls = []
    file = draw(
        tmp_path / "a.png",
        "red",
        0,
    )
    cache = PictureCache(counting(calls), 20)
    first, second = cache.picture(file), cache.picture(file)
    assert len(calls) == 1 and first.size == (24, 20)  # of 44 x 36
    assert first.tobytes() == second.tobytes() == reduce_to(read(file), 20).tobytes()


def test_a_box_is_another_picture(tmp_path):
    file, calls = draw(tmp_path / "a.png", "red", 0), []
    cache = PictureCache(counting(calls), 100)
    whole, part = cache.picture(file), cache.picture(file, Box(0, 0, 10, 12))
    assert whole.size == (44, 36) and part.size == (10, 12) and len(calls) == 2


def test_without_a_side_nothing_is_kept_nor_changed(tmp_path):
    file, calls = draw(tmp_path / "a.png", "red", 0), []
    cache = PictureCache(counting(calls), None)
    assert cache.picture(file).size == cache.picture(file).size == (44, 36)
    assert len(calls) == 2


def test_a_broken_picture_is_an_error_each_time(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    cache = PictureCache(read, 20)
    for _ in range(2):
        with pytest.raises(ImageError):
            cache.picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("free", "side"),
    [
        (10**9, 64),
        # Of 44 x 36 px, six of them: 24 and 20 px as shorter side take 14 080 and 9 778 B.
        (4 * 30_000, None),
        (4 * 40_000, 64),
        (0, None),
    ],
)
def test_as_large_as_fits_a_quarter(tmp_path, free, side):
    draw_classes(tmp_path, "red blue", 3)
    pictures = [(file, None) for file in sorted(tmp_path.rglob("*.png"))]
    assert side_that_fits(pictures, read, 32, free) == side


def test_smaller_where_large_ones_do_not_fit(tmp_path):
    pictures = [(draw(tmp_path / f"{i}.png", "red", i), None) for i in range(4)]
    sizes = {side: 4 * reduced_bytes(44, 36, side) for side in (32, 24, 20)}
    assert sizes[32] > sizes[24] > sizes[20]
    for side, wanted in ((32, 32), (24, 24), (20, 20)):
        assert side_that_fits(pictures, read, 16, int(4 * sizes[side]) + 1) == wanted


def test_free_memory_is_some():
    assert 10**7 < free_memory() < 10**14


def test_processes_of_one_machine_share_its_memory(tmp_path, monkeypatch):
    from cgdcli.images import cache

    pictures = [(file, None) for file in draw_classes(tmp_path, "red", 3).rglob("*.png")]
    enough = int(4 * sum(reduced_bytes(44, 36, 36) for _ in pictures)) + 4  # a quarter is taken
    monkeypatch.setattr(cache, "free_memory", lambda: enough)
    assert side_that_fits(pictures, read, 32) == 64
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert side_that_fits(pictures, read, 32) is None
