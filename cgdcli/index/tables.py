"""Reading the table of an index, `feats.sqlite`: whatever is wrong with it is said in words."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index.records import FORMAT, IndexHeader


class DamagedTableError(IndexFileError, sqlite3.DatabaseError):
    """Also what SQLite raises, for those who look what is whole in a damaged table."""


def _damaged(path: Path, error: Exception) -> DamagedTableError:
    return DamagedTableError(
        f"`{path}` is not the table of an index, or is damaged: {error}",
        hint="copy both files of the index again, or remove both and embed again",
    )


class _Table(sqlite3.Connection):
    """A table whose damage is told in words: it may lie where no one looked when it was opened."""

    path: Path

    def execute(self, *given: Any) -> "_Cursor":
        """The rows of a query."""
        return self.cursor(_Cursor).execute(*given)


class _Cursor(sqlite3.Cursor):
    def execute(self, *given: Any) -> Self:
        self._worded(super().execute, *given)
        return self

    def fetchone(self) -> Any:
        return self._worded(super().fetchone)

    def fetchall(self) -> list[Any]:
        return list(self)

    def __next__(self) -> Any:
        return self._worded(super().__next__)

    def _worded(self, work: Callable[..., Any], *given: Any) -> Any:
        try:
            return work(*given)
        except sqlite3.DatabaseError as error:
            assert isinstance(self.connection, _Table)
            raise _damaged(self.connection.path, error) from error


def read_index_header(path: Path) -> tuple[IndexHeader, sqlite3.Connection]:
    """Open the table read-only. `immutable` keeps SQLite from leaving files beside it."""
    address = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro&immutable=1"
    try:
        database = sqlite3.connect(address, uri=True, factory=_Table)
        database.path = path
        values = dict(database.execute("SELECT key, value FROM header"))
        facts = {key: json.loads(value) for key, value in values.items()}
    except (sqlite3.Error, ValueError) as error:
        raise _damaged(path, error) from error
    if facts.get("format") != FORMAT:
        database.close()
        raise MismatchError(
            f"`{path}` has index format {facts.get('format')!r}; this cgd reads {FORMAT}",
            hint="remove both files and embed again, or use the version of cgd that wrote it",
        )
    try:
        blocks = facts["blocks"]
        facts["blocks"] = None if blocks is None else [(c, int(a), int(b)) for c, a, b in blocks]
        facts |= {name: int(facts[name]) for name in ("rows", "dim")}
        return IndexHeader(**facts), database
    except (KeyError, TypeError, ValueError) as error:
        database.close()
        raise IndexFileError(
            f"the header in `{path}` is damaged: {error}",
            hint="copy both files of the index again, or remove both and embed again",
        ) from error
