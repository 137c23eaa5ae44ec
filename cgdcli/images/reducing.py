"""Pictures no larger than training looks at: a shorter side of at most so many pixels.

A JPEG that is much larger is decoded at a half, a quarter or an eighth of its size (its own
DCT scaling), which costs a fraction of the time; then, as every other picture, brought to the side
exactly. What comes back depends on the file, the box and the side alone: kept or read anew, it is
the same.
"""

from math import ceil
from pathlib import Path

from PIL import Image

from cgdcli.images.cropping import Box, crop, inside
from cgdcli.images.decoding import decode_image, read_bytes, upright_size


def read_reduced(path: Path, box: Box | None, side: int) -> Image.Image:
    """Read a picture, or what lies in `box`, with its shorter side at most `side` pixels; RGB.

    Raises:
        ImageError: it cannot be read or decoded, or the box lies outside it.
    """
    data = read_bytes(path)
    if box is None:
        return reduce_to(decode_image(data, path, at_least=(side, side)), side)
    width, height = upright_size(data, path)
    left, top, right, bottom = inside(box, width, height, path)
    larger = min(right - left, bottom - top) / side
    if larger < 2:  # no scale of a JPEG is small enough to help
        return reduce_to(crop(decode_image(data, path), box, path), side)
    enough = max(1, ceil(min(width, height) / larger))
    image = decode_image(data, path, at_least=(enough, enough))
    across, down = image.width / width, image.height / height
    scaled = (left * across, top * down, right * across, bottom * down)
    size = reduced_size(right - left, bottom - top, side)
    return image.resize(size, Image.Resampling.BILINEAR, box=scaled, reducing_gap=2.0)


def reduce_to(image: Image.Image, side: int) -> Image.Image:
    """The picture with its shorter side brought down to `side` pixels, its aspect kept."""
    if min(image.size) <= side:
        return image
    size = reduced_size(image.width, image.height, side)
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def reduced_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a picture of that size once it is reduced."""
    scale = min(1.0, side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
