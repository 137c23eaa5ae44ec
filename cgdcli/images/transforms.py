"""The transform: an RGB picture becomes the network's uint8 input.

For embedding it is the reference's (leftthomas/CGD utils.py): a bilinear resize by Pillow that does
not keep the aspect. For training the reference resizes to 9/8 of the size (252 for 224), crops and
flips; the default recipe takes random-resized crops. Scaling and mean/std are done by the model, on
its device (`model.cgd.normalize_pixels`).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cgdcli.images.decoding import Pixels

if TYPE_CHECKING:
    from numpy.random import Generator  # 10 ms, which nobody who embeds need pay

# Twice the size suffices to be resized from: the cosine to an embedding from the whole picture is
# at least .9998 (1600 x 1200, a ResNet-18 at 224), and decoding it takes half the time.
ENOUGH = 2
_STRETCH = math.log(4 / 3)


def enough_to_resize(image_size: int) -> tuple[int, int]:
    """The width and height that a JPEG may be decoded at, by its own DCT scaling, before
    `eval_pixels`."""
    return ENOUGH * image_size, ENOUGH * image_size


def eval_pixels(image: Image.Image, image_size: int) -> Pixels:
    """RGB picture to uint8 (image_size, image_size, 3)."""
    size = (image_size, image_size)
    return np.array(image.resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)


def train_pixels(
    image: Image.Image, image_size: int, rng: "Generator", scale: float = 1.0
) -> Pixels:
    """RGB picture to uint8 (image_size, image_size, 3), randomly cropped and flipped.

    Args:
        scale: least share of the picture's area that the crop shows; 1 for the reference's crop.
    """
    if scale >= 1:
        larger = image_size * 9 // 8
        pixels = eval_pixels(image, larger)
        top, left = (int(rng.integers(0, larger - image_size + 1)) for _ in range(2))
        crop = pixels[top : top + image_size, left : left + image_size]
    else:
        box = crop_box(image.width, image.height, scale, rng)
        size = (image_size, image_size)
        crop = np.array(image.resize(size, Image.Resampling.BILINEAR, box=box), dtype=np.uint8)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def crop_box(
    width: int, height: int, scale: float, rng: "Generator"
) -> tuple[float, float, float, float]:
    """A random-resized crop (Szegedy et al. 2015) as (left, top, right, bottom), in pixels.

    Its area is `scale` to 1 of the picture's; its aspect is 3/4 to 4/3 of the PICTURE's, not of a
    square: embedding squeezes whole pictures to squares, and crops should look alike.
    """
    share = rng.uniform(scale, 1)
    stretch = math.exp(rng.uniform(-_STRETCH, _STRETCH))
    across = min(1.0, math.sqrt(share * stretch))
    down = min(1.0, math.sqrt(share / stretch))
    left, top = rng.uniform(0, 1 - across), rng.uniform(0, 1 - down)
    return left * width, top * height, (left + across) * width, (top + down) * height


def erase(pixels: Pixels, rng: "Generator") -> None:
    """Fill a rectangle of 2 to 25 % of the area with noise, in place (Zhong et al. 2020)."""
    height, width = pixels.shape[:2]
    area = rng.uniform(0.02, 0.25) * height * width
    stretch = math.exp(rng.uniform(-1, 1))
    h = max(1, min(height, round(math.sqrt(area * stretch))))
    w = max(1, min(width, round(math.sqrt(area / stretch))))
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    pixels[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
