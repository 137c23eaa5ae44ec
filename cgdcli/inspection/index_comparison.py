"""Two indexes, picture by picture."""

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.inspection.differences import config_differences
from cgdcli.inspection.indexes import OpenedIndex, open_parts
from cgdcli.reports.inspection import IndexComparison, RowDifference
from cgdcli.words import counted

FARTHEST = 5
_BLOCK_ROWS = 1024
# float32 rows of one picture differ by this from one machine to another.
_SAME = 1e-6
# What two indexes of one model and one folder have in common.
_HEADER = ("engine", "precision", "vectors", "projection", "blocks", "labels", "sources")


def compare_indexes(a: Path, b: Path) -> IndexComparison:
    """Compare rows of the same picture, and what the headers say.

    Rows are matched by the place of their pictures as recorded, or, where more agree, by the path
    below the folder that was embedded; by row number where one of the two is an array alone.

    Raises:
        IndexFileError: of one of them nothing can be read, or not its rows.
        MismatchError: likewise.
    """
    one, other = open_parts(a), open_parts(b)
    with contextlib.ExitStack() as stack:
        for opened in (one, other):
            if opened.table is not None:
                stack.callback(opened.table.close)
            if opened.rows is None:
                assert opened.refusal is not None
                raise opened.refusal.error()
        return _compare(one, other)


def _compare(a: OpenedIndex, b: OpenedIndex) -> IndexComparison:
    assert a.rows is not None and b.rows is not None
    matched_by, of_a, of_b = _match(a, b)
    common = [name for name in of_a if name in of_b]
    places = [(of_a[name][0], of_b[name][0]) for name in common]
    changed = {name for name in common if _differ(of_a[name][1], of_b[name][1])}
    cosines, equal = _cosines(a.rows, b.rows, places)
    known = np.flatnonzero(~np.isnan(cosines))
    farthest = heapq.nsmallest(FARTHEST, known.tolist(), key=lambda i: cosines[i])
    return IndexComparison(
        a=a.path,
        b=b.path,
        rows=(len(a.rows), len(b.rows)),
        dims=(int(a.rows.shape[1]), int(b.rows.shape[1])),
        matched_by=matched_by,
        common=len(common),
        only_in_a=tuple(name for name in of_a if name not in of_b),
        only_in_b=tuple(name for name in of_b if name not in of_a),
        changed=tuple(name for name in common if name in changed),
        bit_equal=equal,
        cosine_mean=float(cosines[known].mean()) if len(known) else None,
        cosine_min=float(cosines[known].min()) if len(known) else None,
        farthest=tuple(
            RowDifference(common[i], places[i], float(cosines[i]), common[i] in changed)
            for i in farthest
            if cosines[i] < 1 - _SAME
        ),
        header=_header_differences(a, b),
        notes=tuple(_notes(a, b, cosines)),
        refusal=a.refusal or b.refusal,
    )


Named = dict[str, tuple[int, str | None]]
"""Row and SHA-256 by a picture's name."""


def _match(a: OpenedIndex, b: OpenedIndex) -> tuple[str, Named, Named]:
    assert a.rows is not None and b.rows is not None
    if a.table is None or b.table is None:
        return "row number", _numbered(len(a.rows)), _numbered(len(b.rows))
    pictures = [list(opened.table.pictures()) for opened in (a, b) if opened.table]
    by_place = [_named(found, lambda p: str(p.root / p.path)) for found in pictures]
    by_path = [_named(found, lambda p: p.path) for found in pictures]
    if len(by_path[0].keys() & by_path[1].keys()) > len(by_place[0].keys() & by_place[1].keys()):
        return "path below the folder embedded", by_path[0], by_path[1]
    return "place", by_place[0], by_place[1]


def _numbered(count: int) -> Named:
    return {f"row {i}": (i, None) for i in range(count)}


def _named(pictures: Iterable[Picture], name: Callable[[Picture], str]) -> Named:
    """Of two rows of one name the first: a path is in an index once, unless roots overlap."""
    found: Named = {}
    for row, picture in enumerate(pictures):
        found.setdefault(name(picture), (row, picture.sha256))
    return found


def _differ(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and one != other


def _cosines(
    a: NDArray[Any] | PartedRows, b: NDArray[Any] | PartedRows, places: list[tuple[int, int]]
) -> tuple[NDArray[np.float64], int]:
    """Cosine of each pair of rows, NaN where one is zero or not finite; how many are equal bytes.

    Empty where the dimensions differ.
    """
    if a.shape[1] != b.shape[1]:
        return np.empty(0), 0
    cosines, equal = np.full(len(places), np.nan), 0
    pairs = np.array(places, dtype=np.int64).reshape(-1, 2)
    there = np.flatnonzero((pairs[:, 0] < len(a)) & (pairs[:, 1] < len(b)))
    for start in range(0, len(there), _BLOCK_ROWS):
        part = there[start : start + _BLOCK_ROWS]
        rows_a, rows_b = a[pairs[part, 0]], b[pairs[part, 1]]
        if rows_a.dtype == rows_b.dtype:
            word = f"u{rows_a.dtype.itemsize}"
            equal += int((rows_a.view(word) == rows_b.view(word)).all(axis=1).sum())
        wide_a, wide_b = rows_a.astype(np.float64), rows_b.astype(np.float64)
        norms = np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines[part] = np.clip(np.vecdot(wide_a, wide_b) / norms, -1, 1)
    return cosines, equal


def _header_differences(a: OpenedIndex, b: OpenedIndex) -> dict[str, tuple[Any, Any]]:
    one, other = _header(a), _header(b)
    return config_differences(one, other)


def _header(opened: OpenedIndex) -> dict[str, Any] | None:
    if opened.table is None:
        return None
    header: IndexHeader = opened.table.header
    model = header.model
    return {
        "model": model.get("path") or model.get("source"),
        "fingerprint": model.get("fingerprint"),
        "config": model.get("config"),
        **{name: getattr(header, name) for name in _HEADER},
    }


def _notes(a: OpenedIndex, b: OpenedIndex, cosines: NDArray[np.float64]) -> Iterator[str]:
    one, other = _header(a), _header(b)
    if one is None or other is None:
        yield "one of them is an array alone: its rows are taken to be in the order of the other's"
    elif one["fingerprint"] != other["fingerprint"]:
        yield "two models made them: a cosine between their rows says nothing of the pictures"
    if a.rows is not None and b.rows is not None and a.rows.shape[1] != b.rows.shape[1]:
        yield "the dimensions differ: no cosine between their rows"
    missing = int(np.isnan(cosines).sum())
    if missing:
        yield f"{counted(missing, 'common row has', 'common rows have')} no cosine: 0, NaN or Inf"
