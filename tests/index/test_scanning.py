"""Blocks of rows, and float16 made float32."""

import numpy as np
import pytest

from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.scanning import PickedRows, RowReader, is_buffered, widen


def test_every_float16_becomes_the_same_number():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 32)
    odd = np.frombuffer(b"-" + every.tobytes(), "<f2", offset=1).reshape(every.shape)
    assert not odd.flags.aligned
    every.flags.writeable = False  # as a map's
    for half in (every, odd):
        wide = np.empty(every.shape, np.float32)
        widen(half, wide)
        expected = every.astype(np.float32)
        assert np.array_equal(wide, expected, equal_nan=True)
        assert np.array_equal(np.signbit(wide), np.signbit(expected))  # of the zeros too


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_blocks_over_the_ends_of_parts(dtype):
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(dtype)
    parted = PartedRows([rows[:7], rows[7:7], rows[7:30], rows[30:]])
    for gallery in (rows, parted, PickedRows(parted, np.arange(50))):
        with RowReader(gallery, 20) as reader:
            for start in (0, 3, 7, 25, 30, 49):
                block = reader.read(start, min(start + 20, 50))
                assert block.dtype == np.float32 and block.flags.c_contiguous
                assert np.array_equal(block, rows[start : start + 20].astype(np.float32))


def test_only_what_must_be_is_copied():
    rows = np.zeros((10, 4), np.float32)
    assert not is_buffered(rows) and not is_buffered(PartedRows([rows, rows]))
    assert is_buffered(rows.astype(np.float16)) and is_buffered(PickedRows(rows, np.arange(3)))
    with RowReader(rows, 5) as reader:
        assert np.shares_memory(reader.read(2, 7), rows)
