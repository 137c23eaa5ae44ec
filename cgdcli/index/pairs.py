"""Opening the two files of an index so that they belong together.

Between a writer's two renames a reader may see halves of two generations; a checksum over sampled
rows tells, and it tries again.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index.mapped_rows import MappedRows
from cgdcli.index.records import IndexHeader, done_table, sidecar
from cgdcli.index.rows import open_rows, sampled_checksum
from cgdcli.index.tables import read_index_header

# A writer renames its two files within milliseconds; a pair that stays mixed longer is damage.
MIXED_PAIR_PATIENCE_SECONDS = 1.0

Pair = tuple[NDArray[Any], IndexHeader, sqlite3.Connection]


def open_pair(npy: Path) -> Pair:
    """The rows of an index, what its table says of them, and the table.

    Raises:
        IndexFileError: one of them is damaged.
        MismatchError: they are not of one index, and stay so.
    """
    deadline = time.monotonic() + MIXED_PAIR_PATIENCE_SECONDS
    while True:
        try:
            return _open_pair(npy)
        except MismatchError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _open_pair(npy: Path) -> Pair:
    """Rows and the table that describes them: where a writer was killed between its two renames,
    that is the one which waits for its name (`index.settling`)."""
    if done_table(npy).exists():
        with contextlib.suppress(MismatchError, IndexFileError):
            return _open_with(npy, done_table(npy))
    return _open_with(npy, sidecar(npy))


def _open_with(npy: Path, table: Path) -> Pair:
    header, database = read_index_header(table)
    try:
        if not npy.exists():
            raise MismatchError(
                f"`{sidecar(npy)}` is there but its rows `{npy.name}` are not",
                hint="copy both files of the index, or embed again",
            )
        rows = open_rows(npy)
        if len(rows) < header.rows or rows.shape[1] != header.dim:
            raise MismatchError(
                f"`{npy}` has {len(rows)} rows of {rows.shape[1]}, `{sidecar(npy).name}` beside it "
                f"describes {header.rows} of {header.dim}: they are not of one index",
                hint="copy both files of the index together, or remove both and embed again",
            )
        if isinstance(rows, MappedRows):  # none is mapped of an empty file
            rows = rows.first(header.rows)
        (described,) = database.execute("SELECT count(*) FROM pictures").fetchone()
        if described != header.rows:
            raise MismatchError(
                f"`{sidecar(npy)}` describes {described} of its {header.rows} rows",
                hint="copy both files of the index again, or remove both and embed again",
            )
        if sampled_checksum(rows) != header.checksum:
            raise MismatchError(
                f"the rows of `{npy}` are not those that `{sidecar(npy).name}` describes",
                hint="copy both files of the index together, or remove both and embed again",
            )
    except BaseException:
        database.close()
        raise
    return rows, header, database
