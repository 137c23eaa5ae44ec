"""Draw a small data set of emblems, so that everything can be tried without a download.

A class is an emblem: a shape, its colours and its number of copies. Its pictures differ in
background, place, size, turn and light, so that a network has something to learn to look past.
"""

import colorsys
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

SIDE = 160
SHAPES = ("star", "ring", "cross", "bar", "triangle", "square", "drop")


def draw_classes(
    folder: Path, *, train_classes: int = 32, test_classes: int = 12, pictures: int = 16
) -> None:
    """Write `folder/train/<class>/*.jpg` and `folder/test/<class>/*.jpg`; the classes differ."""
    rng = random.Random(1)
    emblems = [
        (shape, copies, hue / 8)
        for shape in SHAPES
        for copies in (1, 2)
        for hue in rng.sample(range(8), 4)
    ]
    rng.shuffle(emblems)
    for number, emblem in enumerate(emblems[: train_classes + test_classes]):
        split = "train" if number < train_classes else "test"
        place = folder / split / f"{emblem[0]}-{emblem[1]}-{int(emblem[2] * 8)}"
        place.mkdir(parents=True, exist_ok=True)
        for i in range(pictures):
            draw_emblem(emblem, rng).save(place / f"{i:02d}.jpg", quality=90)


def draw_emblem(emblem: tuple[str, int, float], rng: random.Random) -> Image.Image:
    """One picture of an emblem."""
    shape, copies, hue = emblem
    image = _background(rng)
    for _ in range(copies):
        size = rng.randint(60, 88)
        layer = Image.new("RGBA", (size * 2, size * 2))
        _draw_shape(ImageDraw.Draw(layer), shape, size, _colour(hue), _colour(hue + 0.5))
        layer = layer.rotate(rng.uniform(-30, 30), resample=Image.Resampling.BICUBIC)
        layer = layer.resize((size, size), Image.Resampling.LANCZOS)
        image.paste(layer, (rng.randint(0, SIDE - size), rng.randint(0, SIDE - size)), layer)
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.2))


def _background(rng: random.Random) -> Image.Image:
    """Soft clouds of any colours: they say nothing about the class."""
    patches = Image.new("RGB", (4, 4))
    for x in range(4):
        for y in range(4):
            patches.putpixel((x, y), tuple(rng.randint(40, 230) for _ in range(3)))
    return patches.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, r: int, fill: tuple[int, ...], line: tuple[int, ...]
) -> None:
    c, w = r, max(3, r // 4)
    if shape == "star":
        radii = [r * (0.95 if k % 2 == 0 else 0.4) for k in range(10)]
        points = [
            (c + q * math.sin(k * math.pi / 5), c - q * math.cos(k * math.pi / 5))
            for k, q in enumerate(radii)
        ]
        draw.polygon(points, fill, line, w // 2)
    elif shape == "ring":
        draw.ellipse((w, w, 2 * r - w, 2 * r - w), None, fill, 2 * w)
        draw.ellipse((c - w, c - w, c + w, c + w), line)
    elif shape == "cross":
        draw.rectangle((c - w, w, c + w, 2 * r - w), fill)
        draw.rectangle((w, c - w, 2 * r - w, c + w), line)
    elif shape == "bar":
        draw.rectangle((w, c - 2 * w, 2 * r - w, c - w // 2), fill)
        draw.rectangle((w, c + w // 2, 2 * r - w, c + 2 * w), line)
    elif shape == "triangle":
        draw.polygon([(c, w), (2 * r - w, 2 * r - w), (w, 2 * r - w)], fill, line, w // 2)
    elif shape == "square":
        draw.rectangle((w, w, 2 * r - w, 2 * r - w), fill, line, w)
    else:
        draw.pieslice((w, w, 2 * r - w, 2 * r - w), 30, 330, fill, line, w // 2)


def _colour(hue: float) -> tuple[int, ...]:
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, 0.9, 0.95))


if __name__ == "__main__":
    draw_classes(Path("emblems"))
    print("drew emblems/train and emblems/test; next: cgd train emblems --image-size 64")
