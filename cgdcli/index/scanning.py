"""Blocks of a gallery's rows as float32, from wherever they are read fastest.

Shape letters: N rows of the gallery, B rows of one block, D dimensions.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError
from cgdcli.index.mapped_rows import MappedRows
from cgdcli.index.parted_rows import PartedRows

Rows = NDArray[Any] | PartedRows

_ROWS_CHECKED = 512


class PickedRows:
    """Some rows of a gallery, in the order of `numbers`, gathered when they are wanted.

    Args:
        numbers: int64 (N,), rows of `rows`.
    """

    def __init__(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        self.rows, self.numbers = rows, numbers
        self.dtype, self.shape = rows.dtype, (len(numbers), rows.shape[1])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        found: NDArray[Any] = self.rows[self.numbers[key]]
        return found


def picked(rows: Rows | PickedRows, numbers: NDArray[np.int64]) -> PickedRows:
    """Some of them, not copied."""
    if isinstance(rows, PickedRows):
        return PickedRows(rows.rows, rows.numbers[numbers])
    return PickedRows(rows, numbers)


def parts_of(gallery: Rows | PickedRows) -> Sequence[NDArray[Any]]:
    """The arrays that it is made of."""
    if isinstance(gallery, PickedRows):
        return parts_of(gallery.rows)
    return gallery.parts if isinstance(gallery, PartedRows) else (gallery,)


def check_files(gallery: Rows | PickedRows) -> None:
    """To touch a map beyond the end of its file would end the process.

    Raises:
        IndexFileError: the file has become shorter.
    """
    for part in parts_of(gallery):
        if isinstance(part, MappedRows):
            with part.opened():
                pass


def check_finite(gallery: Rows | PickedRows, numbers: NDArray[np.int64]) -> None:
    """Whether these rows are finite; of a gallery in memory they may be what they are.

    Raises:
        IndexFileError: it names the first that is not.
    """
    if not any(isinstance(part, MappedRows) for part in parts_of(gallery)):
        return
    for first in range(0, len(numbers), _ROWS_CHECKED):
        some = numbers[first : first + _ROWS_CHECKED]
        bad = some[~np.isfinite(gallery[some]).all(axis=1)]
        if len(bad):
            row = gallery.numbers[bad[0]] if isinstance(gallery, PickedRows) else bad[0]
            raise IndexFileError(
                f"row {row} of the index is not finite (NaN or inf); an index has unit rows",
                hint="embed again with --rebuild",
            )


def is_buffered(gallery: Rows | PickedRows) -> bool:
    """Whether its blocks go through memory of ours, or are looked at where they are."""
    first = parts_of(gallery)[0]
    unread = any(isinstance(part, MappedRows) and not part.scanned for part in parts_of(gallery))
    return unread or first.dtype != np.float32 or isinstance(gallery, PickedRows)


class RowReader:
    """Reads blocks, each into the memory of the one before; one for each thread.

    Args:
        gallery: (N, D), float32 or float16; may be mapped, in parts, or picked.
        most: rows of the longest block.
    """

    def __init__(self, gallery: Rows | PickedRows, most: int) -> None:
        self.gallery, self.most = gallery, most
        self._wide: NDArray[np.float32] | None = None
        self._raw: NDArray[Any] | None = None
        self._source: tuple[MappedRows, tuple[int, int] | None] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, float32 (B, D), contiguous, until the next call.

        Raises:
            IndexFileError: the file has become shorter.
        """
        rows = self._stored(start, stop)
        if rows.dtype == np.float32:
            return np.ascontiguousarray(rows)
        if self._wide is None:
            self._wide = np.empty((self.most, self.gallery.shape[1]), np.float32)
        wide = self._wide[: len(rows)]
        if rows.dtype == np.float16:
            widen(rows, wide)
        else:
            wide[:] = rows
        return wide

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        if isinstance(self.gallery, PickedRows):
            return self.gallery[start:stop]
        array, first = self.gallery, 0
        if isinstance(array, PartedRows):
            part, number = array.place(start)
            first = start - number
            if stop - first > len(array.parts[part]):  # over the end of a part
                return array[start:stop]
            array = array.parts[part]
        if isinstance(array, MappedRows) and not array.scanned:
            read = self._read(array, start - first, stop - first)
            if read is not None:
                return read
        found: NDArray[Any] = array[start - first : stop - first]
        return found

    def _read(self, rows: MappedRows, start: int, stop: int) -> NDArray[Any] | None:
        """Without the map; None where there is no file to read."""
        if self._source is None or self._source[0] is not rows:
            self._open.close()
            self._source = rows, self._open.enter_context(rows.opened())
        opened = self._source[1]
        if opened is None or not hasattr(os, "preadv"):
            return None
        if self._raw is None:
            self._raw = np.empty((self.most, rows.shape[1]), rows.dtype)
        descriptor, offset = opened
        wanted = self._raw[: stop - start]
        view, row_bytes = wanted.data.cast("B"), wanted.itemsize * wanted.shape[1]
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], offset + start * row_bytes + done)
            if count == 0:
                raise IndexFileError(
                    f"the index became shorter while it was read: row {start} is not there",
                    hint="copy it again, or embed again",
                )
            done += count
        return wanted


def widen(half: NDArray[np.float16], wide: NDArray[np.float32]) -> None:
    """Write float16 (B, D) as float32, the same numbers, by the processor's own instruction.

    NumPy's cast takes four times as long (1.0 against .24 ms a million), and PyTorch, which has it
    too, 1.5 s to load.
    """
    import numkong  # 4 ms, which only float16 costs

    if not half.flags.aligned:  # a header of odd length: no type of NumKong's
        half = half.copy()
    numkong.astype(half, "float32", out=wide)
