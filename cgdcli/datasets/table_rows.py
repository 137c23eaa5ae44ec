"""The rows of a table file: CSV, JSON lines or Parquet become the same plain rows."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from cgdcli.errors import DatasetError

CSV_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES = (
    {".csv": ",", ".tsv": "\t"},
    (".jsonl", ".ndjson"),
    (".parquet", ".pq"),
)
TABLE_SUFFIXES = (*CSV_SUFFIXES, *JSONL_SUFFIXES, *PARQUET_SUFFIXES)


@dataclass(frozen=True)
class Row:
    """One row: `number` is the line of a text file, the place from 1 in a Parquet file."""

    number: int
    values: dict[str, Any]

    def text(self, column: str) -> str:
        """A value as text, empty where there is none; 3.0 of a spreadsheet's numbers is 3."""
        value = self.values.get(column)
        if value is None or (isinstance(value, float) and isnan(value)):
            return ""
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value).strip()


def bad_row(file: Path, row: Row, what: str, hint: str) -> DatasetError:
    """An error in the words of all that a row can break."""
    return DatasetError(f"row {row.number} of `{file}`: {what}", hint=hint)


def checked_text(file: Path, row: Row, column: str) -> str:
    """`row.text`, which is the name of a file or may become one.

    Raises:
        DatasetError: it holds U+0000 or half a character, as JSON can say them.
    """
    text = row.text(column)
    try:
        text.encode(errors="surrogateescape")  # a byte that is not UTF-8 is in order
        what = "U+0000" if "\0" in text else ""
    except UnicodeEncodeError as error:
        what = f"U+{ord(text[error.start]):04X}, half a character"
    if what:
        hint = "correct it, or remove the row"
        raise bad_row(file, row, f"`{column}` {text!r} holds {what}, which no name has", hint)
    return text


def read_rows(file: Path, *, otherwise: str = "") -> Iterator[Row]:
    """The rows of a table file, by its name's ending.

    Args:
        otherwise: the ending that a file is read by whose name has none of a table.

    Raises:
        DatasetError: it cannot be read, is of another kind, or Parquet wants an extra.
    """
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        suffix = otherwise
    if suffix not in TABLE_SUFFIXES:
        raise DatasetError(
            f"`{file}` is no table: a name ending in {', '.join(TABLE_SUFFIXES)} is wanted",
            hint="give such a table, or a folder of class folders",
        )
    try:
        if suffix in PARQUET_SUFFIXES:
            yield from _parquet(file)
        elif suffix in JSONL_SUFFIXES:
            yield from _json_lines(file)
        else:
            yield from _csv(file, CSV_SUFFIXES[suffix])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"cannot read the table `{file}`: {getattr(error, 'strerror', None) or error}",
            hint="check the path and its permissions; text is wanted in UTF-8",
        ) from error


def _csv(file: Path, delimiter: str) -> Iterator[Row]:
    with file.open(newline="", encoding="utf-8-sig") as handle:  # Excel begins with a mark
        reader = csv.DictReader(handle, delimiter=delimiter)
        for values in reader:
            if None in values:
                raise DatasetError(
                    f"line {reader.line_num} of `{file}` has more values than the first line has "
                    "names",
                    hint="quote a value that holds a comma",
                )
            yield Row(reader.line_num, values)


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if not isinstance(values, dict):
                raise DatasetError(
                    f"line {number} of `{file}` is not a JSON object",
                    hint='one a line is wanted: {"path": "a.jpg", "label": "x"}',
                )
            yield Row(number, values)


def _parquet(file: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DatasetError(
            f"`{file}` is a Parquet file; pyarrow reads it, and is not installed",
            hint="pip install 'cgdcli[parquet]', or save the table as CSV",
        ) from None
    number = 0
    try:
        for batch in ParquetFile(file).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)
    except ArrowException as error:
        raise DatasetError(
            f"`{file}` cannot be read as Parquet: {str(error).splitlines()[0]}",
            hint="write the table again, or save it as CSV",
        ) from error
