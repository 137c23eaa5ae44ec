"""Which pictures are the same, or nearly so: a hash of the bytes, and one of what is seen.

The second is a dHash (64 bits: is each of 8 x 8 fields lighter than its left neighbour?). A few
differing bits alone also join pictures that are merely blank in the same places; so two pictures
are near only if their 9 x 8 fields agree in colour as well.

Shape letters: N pictures, A and B rows of two blocks, F = 9 * 8 * 3 fields.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images.cropping import Box, crop
from cgdcli.images.decoding import decode_image, read_bytes
from cgdcli.images.loading import read_ahead

COLUMNS, ROWS = 9, 8
FIELDS = COLUMNS * ROWS * 3
ENOUGH = (8 * COLUMNS, 8 * ROWS)  # a JPEG is decoded no larger than this needs
FEW_BITS = 4  # of 64
NEAR_COLOUR = 6.0  # mean difference of the fields, of 255, the whole picture's brightness removed
BLOCK_A, BLOCK_B = 128, 8_192
PAIRS_AT_ONCE = 8_192

Hashes = NDArray[np.uint64]
Fields = NDArray[np.uint8]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Glance:
    """What is kept of one picture.

    Attributes:
        sha256: of the file's bytes, in hex; empty where it cannot be read.
        fields: uint8 (F,), mean colours.
        overhang: part of its box lies outside the picture.
        reason: why it cannot be read; empty where it can.
    """

    sha256: str
    fields: Fields
    overhang: bool = False
    reason: str = ""


def glance(path: Path, box: Box | None = None) -> Glance:
    """Read a file as cheaply as tells whether it is whole; never raises for a bad picture."""
    try:
        data = read_bytes(path)
        image = decode_image(data, path, at_least=ENOUGH if box is None else None)
        overhang = box is not None and not box.within(*image.size)
        if box is not None:
            image = crop(image, box, path)
    except ImageError as error:
        return Glance("", np.zeros(FIELDS, np.uint8), reason=error.what.replace(f"`{path}` ", ""))
    small = image.resize((COLUMNS, ROWS), Image.Resampling.BOX)
    fields = np.asarray(small, dtype=np.uint8).reshape(FIELDS)
    return Glance(hashlib.sha256(data).hexdigest(), fields, overhang)


def difference_hashes(fields: Fields) -> Hashes:
    """uint64 (N,) from uint8 (N, F): one bit for each field lighter than its left neighbour."""
    grey = fields.reshape(-1, ROWS, COLUMNS, 3).astype(np.int32) @ np.array([299, 587, 114])
    bits = (grey[:, :, 1:] > grey[:, :, :-1]).reshape(-1, ROWS * (COLUMNS - 1))
    packed = np.ascontiguousarray(np.packbits(bits, axis=1))
    hashes: Hashes = packed.view(">u8").reshape(-1).astype(np.uint64)
    return hashes


def near_pairs(
    fields: Fields, group: NDArray[np.integer], *, workers: int = 1
) -> Iterator[tuple[Places, Places]]:
    """Pairs i < j of different groups that look the same, block by block.

    All N * N / 2 pairs of hashes are compared, 3e8 to 4e8 a second on one core; memory does not
    grow with N but for `fields` and the hashes themselves.

    Args:
        fields: uint8 (N, F) of `glance`.
        group: int (N,); pictures of one group are not compared.
        workers: threads, at least 1.

    Yields:
        Equally long arrays of i and of j; never empty.
    """
    hash_N = difference_hashes(fields)
    count = len(hash_N)
    blocks = ((a, b) for a in range(0, count, BLOCK_A) for b in range(a, count, BLOCK_B))

    def pairs_of(block: tuple[int, int]) -> tuple[Places, Places]:
        first_a, first_b = block
        hash_A = hash_N[first_a : first_a + BLOCK_A, None]
        hash_B = hash_N[None, first_b : first_b + BLOCK_B]
        a, b = np.nonzero(np.bitwise_count(hash_A ^ hash_B) <= FEW_BITS)
        i, j = a + first_a, b + first_b
        kept = (i < j) & (group[i] != group[j])
        i, j = i[kept], j[kept]
        alike = _alike(fields, i, j)
        return i[alike], j[alike]

    for i, j in read_ahead(pairs_of, blocks, workers=workers, ahead=2 * workers):
        if len(i):
            yield i, j


def _alike(fields: Fields, i: Places, j: Places) -> NDArray[np.bool_]:
    """Whether pictures agree in colour, the brightness of the whole set aside."""
    near = np.zeros(len(i), dtype=np.bool_)
    for first in range(0, len(i), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        difference = fields[i[part]].astype(np.int16) - fields[j[part]]
        level = difference.mean(axis=1, keepdims=True)
        near[part] = np.abs(difference - level).mean(axis=1) <= NEAR_COLOUR
    return near
