"""What is odd about the rows of an index: every row is looked at, in blocks. No torch.

Letters: N rows, B rows of one block, D dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.rows import UNIT_TOLERANCE
from cgdcli.reports.inspection import Anomaly
from cgdcli.words import counted

BLOCK_VALUES = 1 << 22
# Names of so many rows or pictures stand in an anomaly's words; its count says how many there are.
SHOWN = 5
Blocks = Sequence[tuple[str, int, int]]
Rows = NDArray[Any] | PartedRows
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RowScan:
    """Numbers of odd rows.

    Attributes:
        lengths: float32 (N,), the L2 norm of each row.
        broken: rows with NaN or Inf.
        zero: rows that are all zero.
        zero_branch: rows of which one branch, but not all, is zero.
        copies: (row, an earlier row of the same bytes).
    """

    lengths: NDArray[np.float32]
    broken: Numbers
    zero: Numbers
    zero_branch: Numbers
    copies: tuple[tuple[int, int], ...]


def scan_rows(rows: Rows, blocks: Blocks | None = None) -> RowScan:
    """Look at every value once, and at equal rows twice."""
    count = len(rows)
    lengths = np.zeros(count, np.float32)
    broken, zero, branch = (np.zeros(count, bool) for _ in range(3))
    keys = np.zeros(count, np.uint64)
    for part, block in _blocks(rows):
        values = block.astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths[part] = np.sqrt(np.vecdot(values, values))
        broken[part] = ~np.isfinite(values).all(axis=1)
        zero[part] = ~values.any(axis=1)
        for _, start, stop in blocks or ():
            branch[part] |= ~values[:, start:stop].any(axis=1)
        keys[part] = _keys(block)
    return RowScan(
        lengths,
        np.flatnonzero(broken),
        np.flatnonzero(zero),
        np.flatnonzero(branch & ~zero),
        tuple(_copies(rows, keys)),
    )


def row_anomalies(
    found: RowScan,
    dtype: str,
    sha256: Sequence[str | None] | None = None,
    *,
    tolerance: float | None = None,
) -> tuple[Anomaly, ...]:
    """What is odd, one for each kind.

    Args:
        dtype: of the rows; an index allows a length of 1 to a tolerance by type.
        tolerance: another one.
        sha256: of each row's picture, to tell a picture that stands there twice from two pictures
            with one embedding.
    """
    tolerance = tolerance or UNIT_TOLERANCE[dtype]
    anomalies = [
        _anomaly("NaN or Inf", found.broken, "is not finite", "are not finite"),
        _anomaly("all zero", found.zero, "is all zero", "are all zero"),
        _not_unit(found, tolerance),
        _anomaly("zero branch", found.zero_branch, "has", "have", " an all-zero branch"),
        _duplicates(found.copies, sha256),
    ]
    return tuple(anomaly for anomaly in anomalies if anomaly)


def shown(names: Sequence[Any] | Numbers) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def _anomaly(kind: str, numbers: Numbers, one: str, many: str, rest: str = "") -> Anomaly | None:
    if not len(numbers):
        return None
    words = f"{counted(len(numbers), f'row {one}', f'rows {many}')}{rest}: row {shown(numbers)}"
    return Anomaly(kind, f"row {numbers[0]}", words, len(numbers))


def _not_unit(found: RowScan, tolerance: float) -> Anomaly | None:
    odd = np.abs(found.lengths - 1) > tolerance
    odd[found.broken] = odd[found.zero] = False
    numbers = np.flatnonzero(odd)
    words = _anomaly("not unit", numbers, "is not of length 1", "are not of length 1")
    if words is None:
        return None
    lengths = found.lengths[numbers]
    span = f"{lengths.min():.6g}"
    if len(numbers) > 1:
        span = f"{span} to {lengths.max():.6g}"
    return Anomaly(
        words.kind,
        words.entry,
        f"{words.detail}; of length {span}, where 1 is wanted to {tolerance:g}",
        words.count,
    )


def _duplicates(
    copies: Sequence[tuple[int, int]], sha256: Sequence[str | None] | None
) -> Anomaly | None:
    if not copies:
        return None
    pairs = [f"row {row} = {earlier}" for row, earlier in copies]
    words = counted(len(copies), "row equals an earlier one", "rows equal an earlier one")
    if sha256 is not None:
        same = sum(
            sha256[row] is not None and sha256[row] == sha256[earlier] for row, earlier in copies
        )
        words += f" ({same} of the same picture file)"
    return Anomaly("duplicate rows", f"row {copies[0][0]}", f"{words}: {shown(pairs)}", len(copies))


def _blocks(rows: Rows) -> Iterator[tuple[slice, NDArray[Any]]]:
    step = max(1, BLOCK_VALUES // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step), np.asarray(rows[start : start + step])


def _keys(block: NDArray[Any]) -> NDArray[np.uint64]:
    """A 64-bit number for each row, the same for equal bytes: a sum of words times odd numbers."""
    words = np.ascontiguousarray(block).view(np.dtype(f"u{block.dtype.itemsize}"))
    factors = np.random.default_rng(0).integers(0, 2**63, words.shape[1], dtype=np.uint64)
    found: NDArray[np.uint64] = words.astype(np.uint64) @ (2 * factors + np.uint64(1))
    return found


def _copies(rows: Rows, keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Rows equal to an earlier one, by key, then by their bytes; by row."""
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    # Only runs of equal keys are gone through: a row of its own costs nothing.
    firsts: dict[int, list[int]] = {}
    found = []
    for place in again:
        key, row = int(keys[order[place]]), int(order[place])
        earlier = firsts.setdefault(key, [int(order[place - 1])])
        same = next((e for e in earlier if rows[e].tobytes() == rows[row].tobytes()), None)
        if same is None:
            earlier.append(row)
        else:
            found.append((row, same))
    yield from sorted(found)
