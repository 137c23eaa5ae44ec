"""Pictures in a page: each once, upright, never enlarged, and no more than there is room for."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cgdcli.views.embedded import LARGE_SIDE, SMALL_SIDE, embed_pictures


def noise(file, size, **options):
    """Noise, the worst that JPEG can get."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
        file, **options
    )
    return str(file)


def opened(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_sides(tmp_path):
    wide, whole = noise(tmp_path / "a.png", (900, 300)), noise(tmp_path / "b.png", (120, 90))
    middle = noise(tmp_path / "c.png", (300, 260))
    found = embed_pictures([wide, whole, middle])
    assert opened(found[wide].small).size == (SMALL_SIDE, 67)
    assert opened(found[wide].large).size == (LARGE_SIDE, 213)
    assert opened(found[whole].small).size == (120, 90)  # never enlarged
    assert found[whole].large is None and found[whole].is_whole
    assert opened(found[middle].large).size == (300, 260) and not found[middle].is_whole


def test_each_once_in_order(tmp_path):
    a, b = noise(tmp_path / "a.png", (9, 9)), noise(tmp_path / "b.png", (9, 9))
    said = []
    embed_pictures([b, a, "gone", a], on_progress=lambda *numbers: said.append(numbers))
    assert said == [(1, 3, 0), (2, 3, 0), (3, 3, 1)]
    found = embed_pictures([b, a, b, a])
    assert list(found) == [b, a] and [p.number for p in found.values()] == [0, 1]


def test_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = noise(tmp_path / "a.jpg", (40, 20), exif=exif)
    assert opened(embed_pictures([file])[file].small).size == (20, 40)


@pytest.mark.parametrize("name", ["gone.png", "row:3", "broken.png", "folder"])
def test_what_cannot_be_read_is_not_found(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "folder").mkdir()
    picture = embed_pictures([name])[name]
    assert (picture.small, picture.large, picture.found) == (None, None, False)


def test_room_is_kept_and_the_first_come_first(tmp_path):
    files = [noise(tmp_path / f"{i}.png", (700, 700)) for i in range(6)]
    whole = next(iter(embed_pictures(files[:1]).values()))
    small, large = len(whole.small), len(whole.large)
    found = list(embed_pictures(files, small_bytes=5 * small, large_bytes=2 * large).values())
    assert [p.small is not None for p in found] == [True] * 5 + [False]
    assert [p.large is not None for p in found] == [True] * 2 + [False] * 4
    assert all(p.found for p in found)
    assert sum(len(p.small or "") for p in found) <= 5 * small
    assert sum(len(p.large or "") for p in found) <= 2 * large


def test_no_gap_where_a_smaller_one_would_still_fit(tmp_path):
    big, tiny = noise(tmp_path / "a.png", (200, 200)), noise(tmp_path / "b.png", (8, 8))
    found = embed_pictures([big, tiny], small_bytes=2_000)
    assert found[big].small is None and found[tiny].small is None
