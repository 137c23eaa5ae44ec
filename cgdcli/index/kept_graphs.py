"""The quantized network that an int8 index keeps in its table."""

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path

from cgdcli.errors import IndexFileError


def kept_graph(table: Path, digest: str) -> bytes:
    """The quantized network that made the rows of an int8 index, out of its table.

    Raises:
        IndexFileError: it is not there, or damaged.
    """
    with contextlib.closing(sqlite3.connect(os.fsencode(table))) as database:
        return graph_in(database, table, digest)


def graph_in(database: sqlite3.Connection, table: Path, digest: str) -> bytes:
    """The same out of an opened one."""
    data = b""
    with contextlib.suppress(sqlite3.Error):
        found = database.execute("SELECT data FROM graph WHERE digest = ?", (digest,))
        data = (found.fetchone() or (b"",))[0]
    return checked_graph(data, str(table), digest)


def checked_graph(data: bytes, where: str, digest: str) -> bytes:
    """A quantized network, if it is the one that a digest is of.

    Raises:
        IndexFileError: it is not.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise IndexFileError(
            f"`{where}` should hold the int8 network that made its rows ({digest[:12]}), which is "
            "gone or damaged",
            hint="copy the index again, or make it anew: cgd embed ... --rebuild",
        )
    return data
