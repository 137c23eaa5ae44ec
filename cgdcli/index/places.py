"""Where the pictures of an index are, which may have moved with it."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cgdcli.index.records import (
    Picture,
    blob_or_text,
    relative_to_index,
    root_of,
    root_text,
    text_of,
)

PICTURES = "SELECT row, root, path, label, size, mtime_ns, sha256 FROM pictures ORDER BY row"


def connected(table: Path) -> sqlite3.Connection:
    """A table of ours, its hot journal rolled back."""
    return sqlite3.connect(os.fsencode(table))


def pictures_in(table: Path, index: Path) -> Iterator[tuple[int, Picture]]:
    """Row and picture of every row of a table, by row, roots being where they are now."""
    with contextlib.closing(connected(table)) as database:
        roots = {
            identity: root_now(relative, absolute, index)
            for identity, relative, absolute in database.execute("SELECT * FROM roots")
        }
        for row, root, path, label, *rest in database.execute(PICTURES):
            named = None if label is None else text_of(label)
            yield row, Picture(roots[root], text_of(path), named, *rest)


def root_now(relative: str | bytes | None, absolute: str | bytes, index: Path) -> Path:
    """Where the pictures of an index are: where they were, or, if that is gone, beside it."""
    there = root_of(absolute)
    if relative is None or there.exists():
        return there
    beside = Path(os.path.abspath(index.parent / text_of(relative)))
    return beside if beside.exists() else there


def move_roots(database: sqlite3.Connection, index: Path) -> None:
    """Say anew where the roots are."""
    found = database.execute("SELECT * FROM roots").fetchall()
    for identity, relative, absolute in found:
        now = root_now(relative, absolute, index)
        database.execute(
            "UPDATE roots SET absolute = ?, relative = ? WHERE id = ?",
            (root_text(now), relative_root(now, index), identity),
        )


def relative_root(root: Path, index: Path) -> str | bytes | None:
    """A root from the index's folder, as the table keeps it."""
    path = relative_to_index(root, index)
    return None if path is None else blob_or_text(path)
