"""Small pictures inside a page: data URIs, one by one or as one sheet."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from cgdcli.images.decoding import to_rgb
from cgdcli.images.loading import read_ahead, worker_count

_QUALITY = 72


def thumbnail(path: str | Path, side: int) -> Image.Image | None:
    """A picture that fits into `side` x `side` px, upright, RGB; None where it cannot be read."""
    found = sized_thumbnail(path, side)
    return None if found is None else found[0]


def sized_thumbnail(path: str | Path, side: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """The same, and the width and height in px that the file itself has, upright."""
    try:
        with Image.open(path) as image:
            whole = image.size
            image.draft("RGB", (2 * side, 2 * side))  # JPEG: decoded at a fraction of its size
            drafted = image.size
            upright = ImageOps.exif_transpose(image)
            if upright.size == drafted[::-1] != drafted:
                whole = whole[::-1]
            return ImageOps.contain(to_rgb(upright), (side, side)), whole
    except Exception:  # see images.decoding: damaged bytes raise nearly everything
        return None


def thumbnails(paths: Sequence[str | Path], side: int) -> list[Image.Image | None]:
    """The same for many, read in threads, in order."""
    return list(read_ahead(lambda path: thumbnail(path, side), paths, workers=worker_count(0)))


def data_uri(image: Image.Image) -> str:
    """A JPEG as `data:image/jpeg;base64,...`."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def sprite_sheet(images: Sequence[Image.Image | None], side: int, columns: int) -> Image.Image:
    """All pictures in one, each at the upper left of its cell of `side` px, row by row."""
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (columns * side, rows * side), "#808080")
    for place, image in enumerate(images):
        if image is not None:
            sheet.paste(image, (place % columns * side, place // columns * side))
    return sheet
