"""Boxes: whole pixels outwards, cut off at the picture's edge, refused outside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images.cropping import Box, crop
from cgdcli.images.decoding import read_image

VALUES = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)
PICTURE = Image.fromarray(VALUES)
sides = st.floats(0, 60, allow_nan=False)


@given(left=sides, top=sides, width=st.floats(0.1, 60), height=st.floats(0.1, 60))
def test_a_box_is_the_smallest_of_whole_pixels_around(left, top, width, height):
    box = Box.around(left, top, left + width, top + height)
    assert box.left <= left < box.left + 1 and box.top <= top < box.top + 1
    assert box.right - 1 < left + width <= box.right
    assert box.bottom - 1 < top + height <= box.bottom


@given(
    left=st.integers(0, 35),
    top=st.integers(0, 25),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
)
def test_a_crop_is_the_slice_of_the_array(left, top, width, height):
    box = Box(left, top, left + width, top + height)
    wanted = VALUES[top : top + height, left : left + width]
    if wanted.size == 0:
        with pytest.raises(ImageError, match="lies outside"):
            crop(PICTURE, box)
    else:
        assert np.array_equal(np.asarray(crop(PICTURE, box)), wanted)
        assert box.within(30, 20) == (wanted.shape[:2] == (height, width))


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ((float("nan"), 0, 1, 1), "not finite"),
        ((0, 0, float("inf"), 1), "not finite"),
        ((-0.5, 0, 1, 1), "outside"),
        ((0, -1, 1, 1), "outside"),
        ((2, 0, 2, 1), "no area"),
        ((0, 3, 1, 2), "no area"),
    ],
)
def test_what_is_no_box(corners, words):
    with pytest.raises(ValueError, match=words):
        Box.around(*corners)


def test_a_box_counts_in_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: 30 x 20 stands as 20 x 30
    PICTURE.save(tmp_path / "p.png", exif=exif)
    whole, digest = read_image(tmp_path / "p.png")
    part, same = read_image(tmp_path / "p.png", Box(2, 15, 12, 28))
    assert whole.size == (20, 30) and digest == same
    assert np.array_equal(np.asarray(part), np.asarray(whole)[15:28, 2:12])


def test_the_file_is_named_where_its_box_lies_outside(tmp_path):
    PICTURE.save(tmp_path / "p.png")
    with pytest.raises(ImageError, match=r"p\.png.* is 30 x 20") as caught:
        read_image(tmp_path / "p.png", Box(30, 0, 40, 10))
    assert "pixels" in caught.value.hint
