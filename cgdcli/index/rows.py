"""The `.npy` half of an index: a plain NumPy array of unit rows, written row by row."""

import ast
import contextlib
import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError
from cgdcli.index.mapped_rows import MappedRows

Rows = NDArray[Any]

# NumPy's format 1.0 pads the header to a multiple of 64; 192 leaves room for any row count, so
# that the count can be written when it is known, after the rows.
HEADER_BYTES = 192
_FLOAT32 = np.dtype("<f4")
UNIT_TOLERANCE = {"float32": 1e-5, "float16": 1e-3}
# Up to this many values every row is checked at opening (0.1 s); beyond it, a sample of rows.
CHECK_ALL_VALUES = 50_000_000
CHECK_SAMPLE_ROWS = 4_096
CHECKSUM_ROWS = 64


class RowWriter:
    """Appends rows to a file that is a valid `.npy` once `finish` has run.

    Args:
        dtype: float32 or float16, of the file.
        rows: rows that the file holds already and that stay; what follows them is cut off. 0: the
            file begins anew.
    """

    def __init__(self, path: Path, dim: int, rows: int = 0, dtype: str = "float32") -> None:
        self.path, self.dim, self.rows = path, dim, rows
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._file: BinaryIO = path.open("r+b" if rows else "wb")
        if rows:
            self._file.truncate(HEADER_BYTES + rows * dim * self.dtype.itemsize)
            self._file.seek(0, os.SEEK_END)
        else:
            self._file.write(npy_header(0, dim, self.dtype))

    def append(self, rows: Rows) -> None:
        """Add (B, dim) rows, float32 or the file's dtype."""
        assert rows.shape[1] == self.dim and rows.dtype in (np.float32, self.dtype)
        self._file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
        self.rows += len(rows)

    def sync(self) -> None:
        """Force what was added to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the final row count, force it to the disk, and close."""
        self._file.seek(0)
        self._file.write(npy_header(self.rows, self.dim, self.dtype))
        self.sync()
        self._file.close()

    def abandon(self) -> None:
        """Close, as it is; the caller removes the file."""
        with contextlib.suppress(OSError):  # a full disk, which what was raised has said
            self._file.close()


def copy_rows(source: Path, target: Path) -> None:
    """Copy a file that `RowWriter` made; the system may share the blocks instead."""
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new, 16 * 1024 * 1024)


def npy_header(rows: int, dim: int, dtype: np.dtype[Any] = _FLOAT32) -> bytes:
    """A format-1.0 header of fixed length for little-endian (rows, dim)."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    padded = text.ljust(HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode("latin1")


def is_our_array(path: Path) -> bool:
    """Whether `RowWriter` made the file: NumPy itself gives no (rows, dim) a header this long."""
    with path.open("rb") as handle:
        return handle.read(10) == npy_header(0, 1)[:10]


def open_rows(path: Path) -> Rows:
    """Map an `.npy` of rows; never unpickles, never reads the whole.

    Raises:
        IndexFileError: not an `.npy`, cut short, an object array, another dtype than float32 or
            float16, not two-dimensional, or without columns.
    """
    try:
        with path.open("rb") as handle:
            shape, dtype = _read_npy_header(path, handle)
            _check_layout(path, shape, dtype, os.fstat(handle.fileno()).st_size - handle.tell())
            if shape[0] == 0:
                return np.empty(shape, dtype)
            return MappedRows.of_file(path, handle, shape, dtype)
    except OSError as error:
        raise IndexFileError(
            f"cannot read the index `{path}`: {error.strerror or error}",
            hint="name the .npy of an index; one is made with `cgd embed IMAGES -o feats.npy`",
        ) from error


def _check_layout(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    """Whether these are rows of an index, and `size` bytes are all of them."""
    if dtype not in (np.dtype("<f4"), np.dtype("<f2")):
        raise IndexFileError(
            f"`{path}` holds {dtype.name} ({dtype.str}); an index holds little-endian float32 or "
            "float16",
            hint="embed again, or save it as numpy.float32",
        )
    if len(shape) != 2 or shape[1] < 1:
        raise IndexFileError(
            f"`{path}` has the shape {shape}; an index has two dimensions, (rows, embedding_dim)",
            hint="save one row per picture",
        )
    row_bytes = shape[1] * dtype.itemsize
    if size < shape[0] * row_bytes:
        raise IndexFileError(
            f"`{path}` is cut short: {shape[0]} rows are announced, {max(0, size) // row_bytes} "
            "are there",
            hint="copy it again, or remove it and embed again",
        )


def _read_npy_header(path: Path, handle: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; an own reader, since NumPy's maps fortran-ordered and object arrays too."""
    magic = handle.read(8)
    wide = magic[6:7] in (b"\x02", b"\x03")
    length = int.from_bytes(handle.read(4 if wide else 2), "little")
    try:
        if magic[:6] != b"\x93NUMPY" or length > 65_536:
            raise ValueError("no NumPy header")
        facts = ast.literal_eval(handle.read(length).decode("latin1"))
        dtype, shape = np.dtype(facts["descr"]), tuple(facts["shape"])
        if not all(isinstance(n, int) for n in shape):
            raise ValueError("a shape that is no whole number")
        if facts["fortran_order"] and len(shape) > 1:
            raise ValueError("columns are stored first (fortran order)")
        if min(shape, default=0) < 0:
            raise ValueError("a negative shape")
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise IndexFileError(
            f"`{path}` is not an array that can be read as an index: {error}",
            hint="an index is made with `cgd embed IMAGES -o feats.npy`",
        ) from error
    return shape, dtype


def check_unit_rows(path: Path, rows: Rows, share: int = 1) -> None:
    """Check that rows are finite and of unit length: all of them, or of a large index a sample.

    Args:
        share: of so many arrays that are checked together: each by so much less.

    Raises:
        IndexFileError: it names the first bad row.
    """
    tolerance = UNIT_TOLERANCE[rows.dtype.name]
    numbers = np.arange(len(rows))
    if rows.size * share > CHECK_ALL_VALUES:
        sample = min(len(rows), max(1, CHECK_SAMPLE_ROWS // share))
        numbers = np.linspace(0, len(rows) - 1, sample).astype(np.int64)
    every = len(numbers) == len(rows)
    for start in range(0, len(numbers), 8_192):
        part = numbers[start : start + 8_192]
        block = rows[start : start + 8_192] if every else rows[part]
        block = block.astype(np.float32, copy=False)
        norms = np.sqrt(np.vecdot(block, block))
        bad = ~(np.abs(norms - 1) <= tolerance)  # NaN compares false: bad
        if bad.any():
            row = int(part[np.argmax(bad)])
            norm = float(norms[np.argmax(bad)])
            found = f"has length {norm:.6g}" if np.isfinite(norm) else "is not finite (NaN or inf)"
            raise IndexFileError(
                f"row {row} of `{path}` {found}; an index has unit rows (to {tolerance:g})",
                hint="divide each row by its L2 norm, or embed again",
            )


def sampled_checksum(rows: Rows) -> str:
    """SHA-256 over the bytes of up to 64 rows, evenly spread: tells two indexes apart at once."""
    if len(rows) == 0:
        return hashlib.sha256(b"").hexdigest()
    count = min(CHECKSUM_ROWS, len(rows))
    numbers = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    return hashlib.sha256(np.ascontiguousarray(rows[numbers]).tobytes()).hexdigest()
