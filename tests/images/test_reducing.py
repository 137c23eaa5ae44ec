"""Pictures brought down to what training looks at: little is decoded, little is lost."""

import io

import numpy as np
import pytest
from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images import reducing
from cgdcli.images.cropping import Box, crop
from cgdcli.images.decoding import decode_image, upright_size
from cgdcli.images.reducing import read_reduced, reduce_to, reduced_size


def scene(width, height):
    """Smooth and coloured, brighter to the right and greener below: turning is visible."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = 40 * np.sin(across * 9) * np.cos(down * 7)
    channels = [40 + 150 * across + waves, 40 + 150 * down - waves, 120 + waves]
    return Image.fromarray(np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8))


def saved(folder, size, suffix=".jpg", **options):
    file = folder / f"picture{suffix}"
    scene(*size).save(file, **options)
    return file


def slowly(file, box, side):
    """All of it decoded, then cut, then reduced."""
    image = decode_image(file.read_bytes())
    return reduce_to(image if box is None else crop(image, box), side)


def apart(one, other):
    """Mean difference of two pictures, of 255."""
    assert one.size == other.size
    return np.abs(np.asarray(one).astype(float) - np.asarray(other)).mean()


@pytest.fixture
def decoded(monkeypatch):
    """Sizes that pictures were decoded at."""
    sizes = []

    def spy(*arguments, **options):
        image = decode_image(*arguments, **options)
        sizes.append(image.size)
        return image

    monkeypatch.setattr(reducing, "decode_image", spy)
    return sizes


@pytest.mark.parametrize(
    ("side", "at", "wanted"),
    [
        (100, (150, 125), (120, 100)),
        (126, (300, 250), (151, 126)),
        (500, (600, 500), (600, 500)),
        (999, (1200, 1000), (1199, 999)),
        (2000, (1200, 1000), (1200, 1000)),
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(tmp_path, decoded, side, at, wanted):
    file = saved(tmp_path, (1200, 1000))
    found = read_reduced(file, None, side)
    assert decoded == [at] and found.size == wanted
    assert apart(found, slowly(file, None, side)) < 1.5


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_kinds_are_decoded_whole(tmp_path, decoded, suffix):
    file = saved(tmp_path, (400, 300), suffix)
    assert read_reduced(file, None, 30).tobytes() == slowly(file, None, 30).tobytes()
    assert decoded == [(400, 300)]


@pytest.mark.parametrize(
    ("box", "at"),
    [
        (Box(0, 0, 1200, 1000), (150, 125)),
        (Box(300, 100, 701, 500), (300, 250)),
        (Box(300, 100, 455, 399), (1200, 1000)),
        (Box(700, 600, 5000, 5000), (300, 250)),
    ],
)
def test_a_box_of_a_large_jpeg(tmp_path, decoded, box, at):
    file = saved(tmp_path, (1200, 1000))
    found = read_reduced(file, box, 100)
    assert decoded == [at] and min(found.size) == 100
    assert apart(found, slowly(file, box, 100)) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [None, Box(500, 100, 900, 600)])
def test_turned_pictures_are_upright_first(tmp_path, orientation, box):
    exif = Image.Exif()
    exif[274] = orientation
    file = saved(tmp_path, (1200, 1000), exif=exif)
    upright = decode_image(file.read_bytes()).size
    assert upright_size(file.read_bytes()) == upright
    assert apart(read_reduced(file, box, 100), slowly(file, box, 100)) < 1.5


@pytest.mark.parametrize("size", [(3000, 40), (40, 3000), (1, 1), (64, 64), (65, 64)])
def test_odd_sizes(tmp_path, size):
    file = saved(tmp_path, size)
    found = read_reduced(file, None, 32)
    assert min(found.size) == min(32, *size)
    for other in (reduced_size(*size, 32), slowly(file, None, 32).size):
        assert np.abs(np.subtract(found.size, other)).max() <= 1


def test_a_box_outside_is_an_error_in_the_pictures_own_pixels(tmp_path):
    file = saved(tmp_path, (1200, 1000))
    with pytest.raises(ImageError, match="1200 x 1000") as caught:
        read_reduced(file, Box(1200, 0, 1900, 700), 10)
    assert str(file) in caught.value.what


@pytest.mark.parametrize("box", [None, Box(0, 0, 500, 500)])
def test_what_is_no_picture_is_an_error(tmp_path, box):
    whole = io.BytesIO()
    scene(800, 800).save(whole, "JPEG")
    for data in (b"", b"no picture", whole.getvalue()[:900]):
        (tmp_path / "a.jpg").write_bytes(data)
        with pytest.raises(ImageError, match=r"a\.jpg"):
            read_reduced(tmp_path / "a.jpg", box, 100)
