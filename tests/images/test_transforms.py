"""The transform: size, determinism, and how far crop and flip reach."""

import numpy as np
import pytest
from PIL import Image

from cgdcli.images.transforms import eval_pixels, train_pixels

SIZE = 32  # training resizes to 36 first, so that a crop begins at 0 to 4


def ramps():
    """Column number in red, row number in green, at the size before the crop: no resize blur."""
    values = np.zeros((36, 36, 3), np.uint8)
    values[..., 0] = np.arange(36)
    values[..., 1] = np.arange(36)[:, None]
    return Image.fromarray(values)


def place(pixels):
    """Top, left and flipped, read off the ramps; checks that the crop is one whole window."""
    columns, rows = pixels[0, :, 0].astype(int), pixels[:, 0, 1].astype(int)
    flipped = columns[0] > columns[-1]
    left, top = columns.min(), rows[0]
    expected = np.asarray(ramps())[top : top + SIZE, left : left + SIZE]
    assert np.array_equal(pixels, expected[:, ::-1] if flipped else expected)
    return int(top), int(left), bool(flipped)


def drawn(seed):
    return place(train_pixels(ramps(), SIZE, np.random.default_rng(seed)))


@pytest.mark.parametrize("size", [(1, 1), (300, 20), (20, 300), (32, 32)])
def test_both_transforms_give_the_size_whatever_the_aspect(size):
    image = Image.new("RGB", size, (10, 20, 30))
    rng = np.random.default_rng(0)
    for pixels in (eval_pixels(image, SIZE), train_pixels(image, SIZE, rng)):
        assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous and pixels.flags.writeable
        assert (pixels == (10, 20, 30)).all()


def test_eval_is_pillows_bilinear_resize():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    expected = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    assert np.array_equal(eval_pixels(image, SIZE), np.asarray(expected))


def test_same_seed_same_crop():
    assert [drawn(seed) for seed in range(20)] == [drawn(seed) for seed in range(20)]


def test_crops_reach_every_place_and_both_sides():
    places = [drawn(seed) for seed in range(400)]
    assert {top for top, _, _ in places} == {0, 1, 2, 3, 4}
    assert {left for _, left, _ in places} == {0, 1, 2, 3, 4}
    flipped = sum(flip for *_, flip in places)
    assert 140 < flipped < 260  # half of 400, to 6 sigma


def test_training_resizes_to_nine_eighths():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8))
    larger = np.asarray(image.resize((252, 252), Image.Resampling.BILINEAR))
    pixels = train_pixels(image, 224, np.random.default_rng(3))
    windows = [
        crop
        for top in range(29)
        for left in range(29)
        for crop in (larger[top : top + 224, left : left + 224],)
        if np.array_equal(crop, pixels) or np.array_equal(crop[:, ::-1], pixels)
    ]
    assert len(windows) == 1
