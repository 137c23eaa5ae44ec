"""Rows in a file: mapped, and readable without the map."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np

from cgdcli.errors import IndexFileError


class MappedRows(np.memmap[Any, Any]):
    """The rows of a file: mapped, and readable block by block without the map.

    A process that scans a file once reads it faster than it maps it, and into little memory: each
    page of a map costs a fault. From the second scan on the map is there.

    Attributes:
        scanned: whether this process has been over all of them.
    """

    _file: "tuple[Path, int, tuple[int, int]] | None"  # a view's place in it is not known
    scanned: bool

    def __array_finalize__(self, array: Any) -> None:
        super().__array_finalize__(array)
        self._file, self.scanned = None, False

    @classmethod
    def of_file(cls, path: Path, handle: BinaryIO, shape: tuple[int, ...], dtype: Any) -> Self:
        """Map what follows in an opened file."""
        start, facts = handle.tell(), os.fstat(handle.fileno())
        rows = cls(handle, dtype=dtype, mode="r", offset=start, shape=shape)
        rows._file = path, start, (facts.st_dev, facts.st_ino)
        return rows

    def first(self, rows: int) -> "MappedRows":
        """So many of them, which can still be read without the map."""
        part = cast(MappedRows, self[:rows])
        part._file = self._file
        return part

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[int, int] | None]:
        """A descriptor of the file that is mapped, and where the rows begin in it; None where
        another file has its name now, or is there none.

        Raises:
            IndexFileError: it has been cut short: to touch the map would end the process.
        """
        if self._file is None:
            yield None
            return
        path, start, identity = self._file
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError:
            yield None
            return
        try:
            facts = os.fstat(descriptor)
            if (facts.st_dev, facts.st_ino) != identity:
                yield None
            elif facts.st_size < start + self.nbytes:
                raise IndexFileError(
                    f"`{path}` has become shorter while it was read: {facts.st_size} bytes, "
                    f"{start + self.nbytes} are wanted",
                    hint="copy it again, or embed again",
                )
            else:
                yield descriptor, start
        finally:
            os.close(descriptor)
