"""Tables that are printed line by line: the rows of an index, the entries of a weights file."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cgdcli.errors import IndexFileError
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.shards import parts_meant
from cgdcli.index.store import EmbeddingIndex
from cgdcli.remote import shown
from cgdcli.reports.inspection import KeyEntry


def index_rows(path: Path | str, *, root: Path | None = None) -> Iterator[dict[str, Any]]:
    """The table of an index, row by row, as plain values.

    Args:
        root: a folder to look for the pictures in first.
    """
    named = Path(path).suffix in ("", ".npy", ".sqlite") or parts_meant(Path(path)) is not None
    if not named and milvus_address(path) is None:
        raise IndexFileError(
            f"`{path}` is not an index, so it has no table of rows",
            hint="name one: cgd inspect feats.npy --rows",
        )
    index = EmbeddingIndex.open(path, root=root)
    if index.header is None:
        raise IndexFileError(
            f"`{path}` is an array alone; no table says what its rows are",
            hint="copy the .sqlite that was beside it, or embed again",
        )
    for row, picture in index.pictures():
        yield {
            "row": row,
            "path": shown(index.file(row) or ""),
            "label": picture.label,
            "size": picture.size,
            "sha256": picture.sha256,
        }


def key_rows(keys: Iterable[KeyEntry]) -> Iterator[dict[str, Any]]:
    """The entries of a weights file as plain values; the shape as in 64x3x7x7."""
    for key in keys:
        row = {
            "name": key.name,
            "group": key.group,
            "dtype": key.dtype,
            "shape": shape_text(key.shape),
            "elements": key.elements,
            "bytes": key.bytes,
        }
        if key.status is not None:
            row |= {"status": key.status, "becomes": key.becomes, "why": key.why}
        yield row


def shape_text(shape: tuple[int, ...] | None) -> str:
    """64x3x7x7; `scalar`; - for what is no tensor."""
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"


def rows_as_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """CSV lines with a header line."""
    first = True
    for row in rows:
        if first:
            yield _csv_line(row)
        first = False
        yield _csv_line(row.values())


def _csv_line(cells: Iterable[Any]) -> str:
    """The writer quotes a name with a character of its line's end in it, so that is CR LF; the line
    ends with LF alone, as other commands want it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def rows_as_json_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One JSON object a line."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rows_as_tsv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines of values with tabs between them, without a header line: for cut, grep and awk."""
    for row in rows:
        cells = ("-" if value in (None, "") else str(value) for value in row.values())
        yield "\t".join(cells) + "\n"
