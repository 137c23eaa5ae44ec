"""The `.npy` half: any tool reads ours, and only what is safe and sound is read."""

import io
import pickle

import numpy as np
import pytest

from cgdcli.errors import IndexFileError
from cgdcli.index.rows import RowWriter, check_unit_rows, npy_header, open_rows, sampled_checksum


def unit(rows, dim=8, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "feats.npy"


def write(file, *blocks, dim=8):
    writer = RowWriter(file, dim)
    for block in blocks:
        writer.append(block)
    writer.finish()
    return file


def refused(file, *words):
    with pytest.raises(IndexFileError) as caught:
        open_rows(file)
    for word in (file.name, *words):
        assert str(word) in caught.value.what, caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("sizes", [(0,), (1,), (3, 4, 5), (0, 2)])
def test_numpy_reads_what_was_written(file, sizes):
    rows = unit(sum(sizes))
    cuts = np.cumsum(sizes)[:-1]
    write(file, *np.split(rows, cuts))
    loaded = np.load(file, allow_pickle=False)
    assert loaded.dtype == np.float32 and np.array_equal(loaded, rows)
    assert np.array_equal(open_rows(file), rows) and open_rows(file).shape == rows.shape


@pytest.mark.parametrize(("rows", "dim"), [(0, 1), (1, 1), (10**12, 2048), (2**62, 10**6)])
def test_header_has_one_length_whatever_it_says(rows, dim):
    header = npy_header(rows, dim)
    assert len(header) == 192 and header.endswith(b"\n")
    stream = io.BytesIO(header)
    assert np.lib.format.read_magic(stream) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == ((rows, dim), False, np.dtype("<f4"))


def test_rows_are_mapped_and_cannot_be_written(file):
    rows = open_rows(write(file, unit(4)))
    assert isinstance(rows, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_any_of_numpys_own_files_is_read(file, dtype, version):
    rows = unit(5, dtype=dtype)
    with file.open("wb") as handle:
        np.lib.format.write_array(handle, rows, version=version)
    assert np.array_equal(open_rows(file), rows) and open_rows(file).dtype == dtype


@pytest.mark.parametrize("dtype", ["f8", "i4", "u1", "c8", ">f4", ">f2", "?", "S4", "M8[s]"])
def test_other_dtypes_are_refused(file, dtype):
    np.save(file, np.zeros((2, 3), dtype=dtype))
    refused(file, "float32 or float16")


def test_records_are_refused(file):
    np.save(file, np.zeros((2, 3), dtype=[("a", "f4")]))
    refused(file)


class Evil:
    ran = False

    def __reduce__(self):
        return setattr, (Evil, "ran", True)


@pytest.mark.parametrize("shape", [(2,), (2, 2)])
def test_objects_are_refused_and_never_unpickled(file, shape):
    np.save(file, np.full(shape, Evil(), dtype=object), allow_pickle=True)
    refused(file, "object")
    check = file.read_bytes()
    assert b"setattr" in check and Evil.ran is False
    pickle.loads(pickle.dumps(Evil()))
    assert Evil.ran  # so it would have been noticed
    Evil.ran = False


@pytest.mark.parametrize("shape", [(6,), (2, 3, 1), (), (3, 0)])
def test_other_shapes_are_refused(file, shape):
    np.save(file, np.zeros(shape, np.float32))
    refused(file, "two dimensions")


def test_columns_first_is_refused(file):
    np.save(file, np.asfortranarray(unit(5)))
    refused(file, "fortran")


def test_any_cut_is_noticed(file):
    whole = write(file, unit(20)).read_bytes()
    for length in [*range(0, 200, 7), 200, len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:length])
        refused(file)
    refused(file, "cut short", "20 rows are announced, 19 are there")


def test_more_than_announced_is_no_damage(file):
    rows = unit(4)
    write(file, rows)
    with file.open("ab") as handle:
        handle.write(b"an append under way")
    assert np.array_equal(open_rows(file), rows)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"text, not an array\n" * 20,
        b"\x93NUMPY\x01\x00\x10\x00__import__('os')",
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
        b"\x93NUMPY\x01\x00\x02\x00[]",
        b"\x93NUMPY\x01\x00\x02\x00{}",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    ],
    ids=lambda data: str(data[:24]),
)
def test_what_is_no_array_is_refused(file, data):
    file.write_bytes(data)
    refused(file, "not an array")


@pytest.mark.parametrize("shape", ["(-1, 4)", "('a', 4)", "5", "None", "(1e400, 4)", "(2.5, 4)"])
def test_nonsense_shape_is_refused(file, shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 64)
    refused(file)


def test_absurd_row_count_is_refused_not_allocated(file):
    file.write_bytes(npy_header(10**15, 512) + b"\0" * 64)
    refused(file, "cut short", 10**15)


def test_missing_file_and_folder_are_refused(tmp_path):
    refused(tmp_path / "gone.npy", "cannot read")
    (tmp_path / "folder.npy").mkdir()
    refused(tmp_path / "folder.npy", "cannot read")


# Unit rows


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_unit_rows_pass(file, dtype):
    check_unit_rows(file, unit(100, 512, dtype))


@pytest.mark.parametrize("bad", [0.0, 0.5, 1.01, 2.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_first_row_that_is_not_unit_is_named(file, dtype, bad):
    rows = unit(20_000, 2, dtype)
    rows[[9_007, 11_000]] *= dtype(bad)
    with pytest.raises(IndexFileError, match=r"row 9007 .*has length") as caught:
        check_unit_rows(file, rows)
    assert "unit rows" in caught.value.what


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_row_that_is_not_finite_is_named(file, dtype, bad):
    rows = unit(9, dtype=dtype)
    rows[4, 2] = bad
    with pytest.raises(IndexFileError, match=r"row 4 .*not finite"):
        check_unit_rows(file, rows)


def test_tolerance_is_that_of_the_design(file):
    for dtype, tolerance in ((np.float32, 1e-5), (np.float16, 1e-3)):
        rows = np.zeros((2, 1), dtype)
        rows[:] = 1 + tolerance / 2
        check_unit_rows(file, rows)
        rows[1] = 1 + tolerance * 2.1
        with pytest.raises(IndexFileError, match="row 1 "):
            check_unit_rows(file, rows)


def test_checksum_tells_indexes_apart():
    rows = unit(1000)
    assert sampled_checksum(rows) == sampled_checksum(rows.copy())
    others = [unit(1000, seed=1), rows[:-1], rows[::-1], rows[:0], rows.astype(np.float16)]
    assert len({sampled_checksum(r) for r in [rows, *others]}) == 6
    for row in (0, 999):
        changed = rows.copy()
        changed[row, 0] += 1
        assert sampled_checksum(changed) != sampled_checksum(rows)
