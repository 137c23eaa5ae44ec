"""A table under way, `.feats.sqlite.part`: an index's, and in it one that says how far it is."""

import contextlib
import json
import os
import shutil
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cgdcli.errors import MismatchError
from cgdcli.index.places import connected, move_roots
from cgdcli.index.records import PART, SCHEMA, hidden, sidecar, text_of


@dataclass(frozen=True)
class Progress:
    """What an unfinished table says of itself.

    Attributes:
        settings: what makes rows belong together; None: nothing goes on from here.
        refresh: whether it began with the index that has the name, instead of nothing.
        rows, rows_before: how many rows count by now, and how many there were at first.
        projection: of a refreshed index, as in its header.
    """

    settings: dict[str, Any] | None
    refresh: bool
    rows: int
    rows_before: int
    projection: Any = None

    @classmethod
    def of(cls, database: sqlite3.Connection) -> "Progress":
        """Read it.

        Raises:
            sqlite3.Error, ValueError: there is none, or of a version that wrote otherwise.
        """
        found = database.execute("SELECT * FROM building")
        try:
            return cls(**{key: json.loads(value) for key, value in found})
        except TypeError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def at(cls, table: Path) -> "Progress | None":
        """That of a file; None where it says none."""
        with (
            contextlib.suppress(sqlite3.Error, ValueError),
            contextlib.closing(connected(table)) as database,
        ):
            return cls.of(database)
        return None

    def save(self, database: sqlite3.Connection) -> None:
        """Write all of it, for the first time."""
        database.execute("CREATE TABLE building (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        database.executemany(
            "INSERT INTO building VALUES (?, ?)",
            ((key, json.dumps(value)) for key, value in asdict(self).items()),
        )

    @staticmethod
    def save_rows(database: sqlite3.Connection, rows: int) -> None:
        """Say that so many rows count now."""
        database.execute("UPDATE building SET value = ? WHERE key = 'rows'", (json.dumps(rows),))


def begin_table(table: Path, index: Path, progress: Progress) -> None:
    """Make a table to go on from, an empty one or that of the index which is refreshed."""
    if progress.refresh:
        shutil.copyfile(sidecar(index), table)
    with contextlib.closing(sqlite3.connect(os.fsencode(table))) as database:
        if not progress.refresh:
            database.executescript(SCHEMA)
        database.execute("DELETE FROM header")
        database.execute("DELETE FROM skipped")
        move_roots(database, index)
        progress.save(database)
        database.commit()


def unfinished(index: Path) -> tuple[dict[str, Any], Path] | None:
    """Settings of an index that a writer left unfinished, and its table; None without one."""
    table = hidden(sidecar(index), PART)
    progress = Progress.at(table) if table.exists() else None
    if progress is None or progress.settings is None:
        return None
    return progress.settings, table


def skipped_in(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Pictures that could not be read: path and reason."""
    found = database.execute("SELECT path, reason FROM skipped ORDER BY rowid").fetchall()
    return [(text_of(path), reason) for path, reason in found]


def other_settings(
    path: Path, there: dict[str, Any], wanted: dict[str, Any] | None
) -> MismatchError:
    """What is unfinished was begun otherwise."""
    differ = [key for key in there if (wanted or {}).get(key) != there[key]]
    said = ", ".join(f"{key} {_short(there[key])}" for key in differ) or "other settings"
    return MismatchError(
        f"an unfinished `{path.name}` is there, begun with {said}",
        hint="go on with the same settings as then, or add --rebuild to start over",
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
