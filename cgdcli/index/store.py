"""An index on disk: `feats.npy` (unit rows) beside `feats.sqlite` (what each row is).

Both are written under temporary names and renamed, rows first. Between the two renames a reader
may see halves of two generations; a checksum over sampled rows tells, and it tries again.
"""

import contextlib
import functools
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ScanConfig, VectorConfig
from cgdcli.errors import DatasetError, IndexFileError, MismatchError
from cgdcli.index.exact import nearest
from cgdcli.index.kept_graphs import graph_in
from cgdcli.index.mapped_rows import MappedRows
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.records import (
    FORMAT,
    IndexHeader,
    Picture,
    blob_or_text,
    done_table,
    index_path,
    root_of,
    root_text,
    sidecar,
    text_of,
)
from cgdcli.index.rows import check_unit_rows, open_rows, sampled_checksum
from cgdcli.index.shards import parts_meant
from cgdcli.index.where import RowFilter, parse, sql
from cgdcli.index.whitening import Projection
from cgdcli.remote import address_of, place_of

# A writer renames its two files within milliseconds; a pair that stays mixed longer is damage.
MIXED_PAIR_PATIENCE_SECONDS = 1.0


@dataclass
class EmbeddingIndex:
    """An opened index. An `.npy` alone has no `header`; its rows are then named by number."""

    path: Path
    rows: NDArray[Any] | PartedRows
    header: IndexHeader | None = None
    root: Path | None = None
    _database: sqlite3.Connection | None = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path | str, *, root: Path | None = None) -> "EmbeddingIndex":
        """Open `feats.npy`, with its `feats.sqlite` where there is one, and check the pair.

        Where the index is in parts, all of them are opened as one: by the name of the whole, by
        that of any part, or by a pattern (`index.parts`). Of one at an address
        (s3://bucket/feats.npy) the copy here is opened, brought up to date before; of one in Milvus
        (`index.milvus`) nothing is copied.

        Args:
            root: a folder to look for the pictures in first.

        Raises:
            IndexFileError: missing or damaged, NaN, rows that are not unit.
            MismatchError: the two files are not of one index, or the parts are not.
            DatasetError: `root` is not a folder.
        """
        if root is not None and not root.is_dir():
            raise DatasetError(
                f"--root `{root}` is not a folder; the folder that holds the pictures is wanted",
                hint="leave it out to look where they were",
            )
        in_milvus = milvus_address(path)
        if in_milvus is not None:
            from cgdcli.index.milvus.opened import MilvusIndex  # which stands on this module

            return MilvusIndex.open_at(in_milvus, root=root)
        path = place_of(path)
        if address_of(path) is not None:
            from cgdcli.index.remote import fetch_index  # which stands on this module

            path = fetch_index(path)
        meant = parts_meant(path)
        if meant is None:
            return cls.open_one(path, root=root)
        from cgdcli.index.parts import PartedIndex  # which stands on this module

        return PartedIndex.open_all(*meant, root=root)

    @classmethod
    def open_one(cls, path: Path | str, *, root: Path | None = None, share: int = 1) -> Self:
        """The same for one pair of files, be it a part.

        Args:
            share: of so many that are opened together: each is checked by so much less.
        """
        npy = index_path(Path(path))
        if npy.is_symlink() and not sidecar(npy).exists():
            npy = npy.resolve()
        if not sidecar(npy).exists() and not done_table(npy).exists():
            rows = open_rows(npy)
            check_unit_rows(npy, rows, share)
            return cls(npy, rows, None, root)
        deadline = time.monotonic() + MIXED_PAIR_PATIENCE_SECONDS
        while True:
            try:
                rows, header, database = _open_pair(npy)
                break
            except MismatchError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        check_unit_rows(npy, rows, share)
        return cls(npy, rows, header, root, database)

    def close(self) -> None:
        """Let go of the table; rows stay usable."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Length of a row."""
        return int(self.rows.shape[1])

    @property
    def proposed_by(self) -> str | None:
        """What says which rows are looked at, where that is not all of them by itself."""
        return None

    def state(self) -> tuple[object, ...]:
        """Besides its files what says, by another value, that it was renewed: nothing."""
        return ()

    @property
    def vectors(self) -> VectorConfig:
        """Of what views its rows were made, and what became of them.

        Raises:
            MismatchError: by a version of cgd that knew more.
        """
        return VectorConfig.from_dict({} if self.header is None else self.header.vectors)

    @functools.cached_property
    def projection(self) -> Projection | None:
        """What a network's rows go through to be rows of this index; None: nothing.

        Raises:
            IndexFileError: it is damaged.
        """
        if self.header is None or self.header.projection is None or self._database is None:
            return None
        return Projection.saved(self._database, self.header.projection)

    def search(
        self,
        queries: NDArray[Any],
        k: int,
        *,
        exclude: list[set[int]] | None = None,
        among: NDArray[np.int64] | RowFilter | None = None,
        config: ScanConfig | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The `k` nearest rows of each query row; see `index.exact.nearest`.

        Args:
            among: as `self.among` gives it; None: all rows.
        """
        assert not isinstance(among, RowFilter)
        return nearest(queries, self.rows, k, exclude=exclude, among=among, config=config)

    def among(self, expression: str) -> NDArray[np.int64] | RowFilter:
        """The rows of which an expression is true, for `search`.

        Raises:
            CGDError: as `where`.
        """
        return self.where(expression)

    def where(self, expression: str, first_row: int = 0) -> NDArray[np.int64]:
        """Rising numbers of the rows of which an expression is true; see `index.where`.

        Args:
            first_row: the number that the first row has in a whole of which this is a part.

        Raises:
            ConfigError: it is no expression.
            MismatchError: no table says what the rows are.
        """
        condition, values = sql(parse(expression), first_row)
        if self._database is None:
            raise MismatchError(
                f"`{self.path}` has no table beside it that says what its rows are",
                hint="leave out --where, or copy the .sqlite of the index, too",
            )
        found = self._database.execute(
            f"SELECT row FROM pictures WHERE {condition} ORDER BY row", values
        )
        return np.array([row for (row,) in found], dtype=np.int64)

    def picture(self, row: int) -> Picture | None:
        """What a row is, or None where no table says."""
        found = self._fetch("WHERE row = ?", (row,))
        return found[0] if found else None

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Every row's picture, in order."""
        for start in range(0, len(self), 10_000):
            found = self._fetch("WHERE row >= ? AND row < ?", (start, start + 10_000))
            yield from enumerate(found, start)

    def labels(self) -> list[str | None]:
        """The label of every row."""
        if self._database is None:
            return [None] * len(self)
        rows = self._database.execute(
            "SELECT label FROM pictures ORDER BY row LIMIT ?", (len(self),)
        )
        return [None if label is None else text_of(label) for (label,) in rows]

    def known_labels(self) -> set[str]:
        """The labels there are."""
        if self._database is None:
            return set()
        rows = self._database.execute("SELECT DISTINCT label FROM pictures WHERE label NOT NULL")
        return {text_of(label) for (label,) in rows}

    def has_label(self, label: str) -> bool:
        """Whether a row has it."""
        if self._database is None:
            return False
        found = self._database.execute(
            "SELECT 1 FROM pictures WHERE label = ? LIMIT 1", (blob_or_text(label),)
        )
        return found.fetchone() is not None

    def roots(self) -> list[Path]:
        """The folders that paths are relative to, where they were when the index was made."""
        if self._database is None:
            return []
        return [root_of(text) for (text,) in self._database.execute("SELECT absolute FROM roots")]

    def skipped(self) -> list[tuple[str, str]]:
        """Pictures that could not be read when the index was made: path and reason."""
        if self._database is None:
            return []
        rows = self._database.execute("SELECT path, reason FROM skipped ORDER BY rowid")
        return [(text_of(path), reason) for path, reason in rows]

    def graph(self) -> bytes:
        """The quantized network that made the rows of an int8 index; see `kept_graph`."""
        assert self.header is not None and self._database is not None
        return graph_in(self._database, sidecar(self.path), self.header.calibration or "")

    def find_rows(self, file: Path, sha256: str) -> tuple[list[int], bool]:
        """Rows of a picture: by its place, else by its content; and whether the place matched."""
        if self._database is None:
            return [], False
        found = self._database.execute(
            "SELECT row FROM pictures WHERE sha256 = ? ORDER BY row", (sha256,)
        )
        same_content = [row for (row,) in found]
        here = os.path.realpath(file)
        candidates = {*same_content, *self._rows_under_roots(file)}
        at_place = [r for r in candidates if os.path.realpath(self.file(r) or "") == here]
        return (sorted(at_place), True) if at_place else (same_content, False)

    def file(self, row: int) -> Path | None:
        """Where a row's picture is: under `root`, beside the index as then, or where it was."""
        picture = self.picture(row)
        if picture is None or self._database is None:
            return None
        (relative,) = self._database.execute(
            "SELECT relative FROM roots WHERE absolute = ?", (root_text(picture.root),)
        ).fetchone()
        beside = self.path.parent / text_of(relative) if relative else None
        bases = [self.root, beside, picture.root]
        for base in bases:
            if base is not None and (base / picture.path).exists():
                return Path(os.path.abspath(base / picture.path))
        return picture.root / picture.path

    def _rows_under_roots(self, file: Path) -> list[int]:
        assert self._database is not None
        rows = []
        for identity, absolute in self._database.execute("SELECT id, absolute FROM roots"):
            with contextlib.suppress(ValueError):
                relative = Path(os.path.abspath(file)).relative_to(root_of(absolute))
                rows += self._database.execute(
                    "SELECT row FROM pictures WHERE root = ? AND path = ?",
                    (identity, blob_or_text(str(relative))),
                ).fetchall()
        return [row for (row,) in rows]

    def _fetch(self, where: str, values: tuple[int, ...]) -> list[Picture]:
        if self._database is None:
            return []
        rows = self._database.execute(
            "SELECT absolute, path, label, size, mtime_ns, sha256 FROM pictures "
            f"JOIN roots ON roots.id = pictures.root {where} ORDER BY row",
            values,
        )
        return [
            Picture(root_of(root), text_of(path), None if label is None else text_of(label), *rest)
            for root, path, label, *rest in rows
        ]


def open_index(index: EmbeddingIndex | Path | str, root: Path | None = None) -> EmbeddingIndex:
    """An opened index as it is, a path opened."""
    return index if isinstance(index, EmbeddingIndex) else EmbeddingIndex.open(index, root=root)


def _open_pair(npy: Path) -> tuple[NDArray[Any], IndexHeader, sqlite3.Connection]:
    """Rows and the table that describes them: where a writer was killed between its two renames,
    that is the one which waits for its name (`index.settling`)."""
    if done_table(npy).exists():
        with contextlib.suppress(MismatchError, IndexFileError):
            return _open_with(npy, done_table(npy))
    return _open_with(npy, sidecar(npy))


def _open_with(npy: Path, table: Path) -> tuple[NDArray[Any], IndexHeader, sqlite3.Connection]:
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
