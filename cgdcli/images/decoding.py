"""Decoding: a file becomes an upright RGB picture, whatever its mode; or a reason why not."""

import contextlib
import functools
import hashlib
import importlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cgdcli.errors import ImageError
from cgdcli.images.cropping import Box, crop

Pixels = NDArray[np.uint8]
_ON_ITS_SIDE = {5, 6, 7, 8}  # orientations of EXIF that exchange width and height
# Kinds that Pillow reads by a package of its own: its name, and what registers it.
_PLUGINS = {
    ".heic": ("pillow-heif", "pillow_heif", "register_heif_opener"),
    ".heif": ("pillow-heif", "pillow_heif", "register_heif_opener"),
    ".jxl": ("pillow-jxl-plugin", "pillow_jxl", ""),
}

# What Pillow hands to Ghostscript: programs, which a stranger's file is not to run.
_PROGRAMS = {"EPS"}

# A bomb is refused by Pillow at twice MAX_IMAGE_PIXELS (179 megapixels); its warning from half of
# that on is for programs that would rather stop earlier.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextlib.contextmanager
def pixel_limit(megapixels: float) -> Iterator[None]:
    """Refuse pictures that claim more, as bombs do; of the whole process, for the time being."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, int(megapixels * 1e6) // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_image(
    data: bytes, name: str | Path = "picture", *, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode a picture to RGB, turned as its EXIF orientation says.

    Grey, palette, CMYK, 16-bit and float pictures are converted, transparency is laid on white,
    of an animation the first frame is taken.

    Args:
        at_least: width and height (as stored, before turning) that suffice: a JPEG is decoded at
            the smallest of its scales 1, 1/2, 1/4, 1/8 that gives both; others are as they are.

    Raises:
        ImageError: the bytes are no picture, are cut short, or claim too many pixels.
    """
    with _opened(data, name) as image:
        if at_least is not None:
            image.draft(None, at_least)
        image.load()
        upright = ImageOps.exif_transpose(image)
        return to_rgb(upright)


def upright_size(data: bytes, name: str | Path = "picture") -> tuple[int, int]:
    """Width and height as `decode_image` would give them, by the header alone.

    Raises:
        ImageError: as there.
    """
    with _opened(data, name) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
        return (image.height, image.width) if turned else image.size


def pixel_count(data: bytes, name: str | Path = "picture") -> int:
    """How many pixels a picture claims; nothing is decoded.

    Raises:
        ImageError: as `decode_image`.
    """
    with _opened(data, name) as image:
        return image.width * image.height


@contextlib.contextmanager
def _opened(data: bytes, name: str | Path) -> Iterator[Image.Image]:
    """The picture, not yet decoded; whatever is wrong with its bytes is an `ImageError`."""
    if not data:
        raise ImageError(f"`{name}` is an empty file (0 bytes)")
    suffix = Path(name).suffix.lower()
    missing = _register(suffix) if suffix in _PLUGINS else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata it can read around
            with Image.open(io.BytesIO(data)) as image:
                if image.format in _PROGRAMS:
                    raise UnidentifiedImageError
                yield image
    except UnidentifiedImageError:
        if missing:
            raise ImageError(
                f"`{name}` is of a kind that wants another package: pip install {missing}"
            ) from None
        raise ImageError(f"`{name}` is not a picture, or of a kind that cannot be read") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"`{name}` {_too_large(error)}") from None
    except Exception as error:
        # Pillow's decoders raise nearly everything on damaged bytes (OSError, SyntaxError,
        # ValueError, struct.error, IndexError ...): any of them means this file, not this program.
        raise ImageError(f"`{name}` cannot be decoded: {error}") from error


@functools.cache
def _register(suffix: str) -> str:
    """Make Pillow read a kind of picture; the package that is missing for it, if one is."""
    package, module, register = _PLUGINS[suffix]
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        return package
    if register:
        getattr(plugin, register)()
    return ""


def _too_large(error: Image.DecompressionBombError) -> str:
    """Pillow's words are of attacks; who has a large scan wants to know what to do."""
    claimed, limit = (int(number) / 1e6 for number in re.findall(r"\d+", str(error))[:2])
    return (
        f"has {_megapixels(claimed)} megapixels, more than {_megapixels(limit)}: a bomb, or a "
        "large picture, which --max-megapixels of cgd embed lets in"
    )


def _megapixels(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.3g}"


def read_bytes(path: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"`{path}` cannot be read: {error.strerror or error}") from error


def read_image(
    path: Path, box: Box | None = None, *, at_least: tuple[int, int] | None = None
) -> tuple[Image.Image, str]:
    """Read and decode a file: the picture, or what lies in `box`; and the SHA-256 of the file's
    bytes, in hex.

    Args:
        at_least: as for `decode_image`; a box is cut from the whole picture all the same.

    Raises:
        ImageError: it cannot be read or decoded, or the box lies outside it.
    """
    data = read_bytes(path)
    image = decode_image(data, path, at_least=at_least if box is None else None)
    cut = image if box is None else crop(image, box, path)
    return cut, hashlib.sha256(data).hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB; transparency is laid on white.

    Pillow's own `convert` clips 16-bit and float pictures to white; here they are scaled.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: NDArray[Any]) -> Pixels:
    """Integers by their range (8 or 16 bits), floats in [0, 1] or [0, 255]; else stretched."""
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        scaled = numbers * 255
    elif low >= 0 and high <= 255 and values.dtype != np.uint16:
        scaled = numbers
    elif low >= 0 and high <= 65535:
        scaled = numbers / 257
    else:
        scaled = (numbers - low) / max(high - low, 1e-12) * 255
    return np.rint(scaled).astype(np.uint8)
