"""Boxes: the part of a picture that counts, in pixels of the upright picture."""

from math import ceil, floor, isfinite
from typing import NamedTuple, Self

from PIL import Image

from cgdcli.errors import ImageError


class Box(NamedTuple):
    """A rectangle in whole pixels; `right` and `bottom` are the first column and row outside."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, left: float, top: float, right: float, bottom: float) -> Self:
        """The smallest box of whole pixels that holds the rectangle.

        Raises:
            ValueError: a number is not finite, below 0, or the rectangle has no area; the text
                says which.
        """
        numbers = (left, top, right, bottom)
        words = ", ".join(f"{number:g}" for number in numbers)
        if not all(map(isfinite, numbers)):
            raise ValueError(f"the box ({words}) has a number that is not finite")
        if left < 0 or top < 0:
            raise ValueError(f"the box ({words}) begins outside the picture, left of or above 0")
        if right <= left or bottom <= top:
            raise ValueError(f"the box ({words}) has no area: x1 < x2 and y1 < y2 are wanted")
        return cls(floor(left), floor(top), ceil(right), ceil(bottom))

    def within(self, width: int, height: int) -> bool:
        """Whether no part of it lies outside a picture of that size."""
        return self.right <= width and self.bottom <= height


def crop(image: Image.Image, box: Box, name: object = "picture") -> Image.Image:
    """The part of an upright picture inside `box`; what reaches outside the picture is cut off.

    Raises:
        ImageError: no pixel of the picture lies in the box.
    """
    return image.crop(inside(box, image.width, image.height, name))


def inside(box: Box, width: int, height: int, name: object = "picture") -> Box:
    """What of `box` lies in an upright picture of that size.

    Raises:
        ImageError: not a pixel.
    """
    right, bottom = min(box.right, width), min(box.bottom, height)
    if right <= box.left or bottom <= box.top:
        raise ImageError(
            f"`{name}` is {width} x {height} and its box {tuple(box)} lies outside it",
            hint="correct the box: pixels from the upper left corner of the upright picture",
        )
    return Box(box.left, box.top, right, bottom)
