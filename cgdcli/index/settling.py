"""How a finished pair of files gets its names, so that no kill leaves halves of two indexes.

A finished table is first called `.feats.sqlite.done`; only then are the rows renamed, and last the
table. Whoever finds a table of that name, writer or reader, knows which rows are its own by their
checksum: the writer finishes the renaming, a reader reads that table instead.
"""

from collections.abc import Sequence
from pathlib import Path

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.files import fsync_folder
from cgdcli.index.records import COMPACT, DONE, PART, done_table, hidden, sidecar
from cgdcli.index.rows import open_rows, sampled_checksum
from cgdcli.index.tables import read_index_header


def settle(index: Path) -> None:
    """Finish the renaming that a killed writer began. To be called by who holds the writer's lock.

    A finished table whose rows are nowhere is removed: its rows were removed by somebody else.
    """
    done = done_table(index)
    if not done.exists():
        return
    for rows in (index, hidden(index, PART), hidden(index, COMPACT)):
        if _are_rows_of(rows, done):
            if rows != index:
                rows.replace(index)
            done.replace(sidecar(index))
            fsync_folder(index.parent)
            break
    remove_hidden(index)


def remove_hidden(index: Path, endings: Sequence[str] = (PART, COMPACT, DONE)) -> None:
    """Remove what writers left, finished or not."""
    for final in (index, sidecar(index)):
        for ending in endings:
            unfinished = hidden(final, ending)
            unfinished.unlink(missing_ok=True)
            unfinished.with_name(unfinished.name + "-journal").unlink(missing_ok=True)


def _are_rows_of(rows: Path, table: Path) -> bool:
    try:
        header, database = read_index_header(table)
        database.close()
        found = open_rows(rows)
    except (IndexFileError, MismatchError):
        return False
    return len(found) == header.rows and sampled_checksum(found) == header.checksum
