"""The transform: an RGB picture becomes the network's uint8 input.

The reference's (leftthomas/CGD utils.py): a bilinear resize by Pillow that does not keep the
aspect; for training to 9/8 of the size (252 for 224), a random crop, a random flip. Scaling and
mean/std are done by the model, on its device (`model.cgd.normalize_pixels`).
"""

import numpy as np
from PIL import Image

from cgdcli.images.decoding import Pixels


def eval_pixels(image: Image.Image, image_size: int) -> Pixels:
    """RGB picture to uint8 (image_size, image_size, 3)."""
    size = (image_size, image_size)
    return np.array(image.resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)


def train_pixels(image: Image.Image, image_size: int, rng: np.random.Generator) -> Pixels:
    """RGB picture to uint8 (image_size, image_size, 3), randomly cropped and flipped."""
    larger = image_size * 9 // 8
    pixels = eval_pixels(image, larger)
    top, left = (int(rng.integers(0, larger - image_size + 1)) for _ in range(2))
    crop = pixels[top : top + image_size, left : left + image_size]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)
