"""Writing an index that a kill costs the last seconds at most.

Rows and table grow under hidden names, `.feats.npy.part` and `.feats.sqlite.part`, rows always
first: the table says how many of them count. Whoever opens the builder with the same settings goes
on from there. What is finished gets its names as `index.settling` says.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import VectorConfig
from cgdcli.errors import OutputError
from cgdcli.files import fsync_file, fsync_folder
from cgdcli.index.places import PICTURES, connected, pictures_in, relative_root
from cgdcli.index.records import (
    COMPACT,
    GRAPH_SCHEMA,
    PART,
    IndexHeader,
    Picture,
    blob_or_text,
    done_table,
    hidden,
    root_of,
    root_text,
    sidecar,
)
from cgdcli.index.rows import (
    HEADER_BYTES,
    Rows,
    RowWriter,
    copy_rows,
    open_rows,
    sampled_checksum,
)
from cgdcli.index.settling import remove_hidden, settle
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.unfinished import Progress, begin_table, other_settings, skipped_in
from cgdcli.index.whitening import Projection, learn_projection
from cgdcli.locks import writer_lock

_closing = contextlib.closing
SECONDS_BETWEEN_COMMITS = 2.0
ROWS_AT_ONCE = 16_384


class IndexBuilder:
    """Writes both files of an index. Use as a context manager; one writer at a time.

    Nothing is written before the first change; until then `known` says what is there.

    Args:
        path: the `.npy`.
        dim: columns of what is appended; `vectors` says what is stored of them. A projection is
            learned when all rows are there, until when they wait as they came; rows that are
            appended to an index that has one go through it at once.
        settings: what makes rows belong together (model, engine ...), as JSON; an unfinished index
            of the same settings is continued. None: leaving early removes everything.
        refreshes: whether the index at `path` is what to begin with, instead of nothing; asked once
            nobody else can write it. It may raise.
        restart: nothing that was begun as a refresh is continued, and no other settings matter.

    Attributes:
        refresh: what `refreshes` said.
        continued: whether something unfinished is gone on with.

    Raises:
        OutputError: another process writes this index, or the disk does not take it.
        MismatchError: an unfinished index of other settings is there.
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        *,
        settings: dict[str, Any] | None = None,
        refreshes: Callable[[], bool] = lambda: False,
        restart: bool = False,
        vectors: VectorConfig | None = None,
    ) -> None:
        self.path, self.dim, self.settings = path, dim, settings
        self.vectors = vectors or VectorConfig()
        self._projection: Projection | None = None
        self.restart, self.refresh, self.continued = restart, False, False
        self._refreshes = refreshes
        self._rows_file, self._table = hidden(path, PART), hidden(sidecar(path), PART)
        self._stack = contextlib.ExitStack()
        self._roots: dict[Path, int] = {}
        self._writer: RowWriter | None = None
        self._committed = time.monotonic()
        self._begun_with = self._on_disk = 0

    def __enter__(self) -> Self:
        self._lock = self._stack.enter_context(writer_lock(self.path))
        try:
            settle(self.path)
            self.refresh = self._refreshes()
            self._look()
            self._stack.callback(self._leave)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> int:
        """Rows that will be in the index."""
        if self._writer is None:
            return 0
        (count,) = self._database.execute("SELECT count(*) FROM pictures").fetchone()
        return int(count)

    def labels(self) -> int:
        """How many labels the rows have."""
        (count,) = self._database.execute("SELECT count(DISTINCT label) FROM pictures").fetchone()
        return int(count)

    def kept(self) -> int:
        """Rows on the disk that whoever goes on will find, beyond those begun with."""
        return 0 if self.settings is None else self._on_disk - self._begun_with

    def known(self) -> Iterator[tuple[int, Picture]]:
        """Row and picture of what is begun with, roots being where they are now. To be asked before
        the first change."""
        if self.continued or self.refresh:
            yield from pictures_in(self._source(), self.path)

    def skipped(self) -> list[tuple[str, str]]:
        """Pictures that could not be read, path and reason: before the first change those of what
        is begun with."""
        if self._writer is not None:
            return skipped_in(self._database)
        if not self.continued and not self.refresh:
            return []
        with _closing(connected(self._source())) as database:
            return skipped_in(database)

    def begin(self) -> None:
        """Open what is continued, or make the hidden files from what is refreshed. The first
        change does it by itself."""
        if self._writer is not None:
            return
        with self._reported():
            if not self.continued:
                self._start()
            self._database = sqlite3.connect(os.fsencode(self._table))
            self._stack.callback(self._database.close)
            said = Progress.of(self._database)
            self._begun_with, self._on_disk = said.rows_before, said.rows
            if said.refresh and self.vectors.projects:
                self._projection = Projection.saved(self._database, said.projection)
            dim, dtype = self._form(said.refresh)
            self._writer = RowWriter(self._rows_file, dim, self._on_disk, dtype)
            self._stack.callback(self._writer.abandon)
            for identity, absolute in self._database.execute("SELECT id, absolute FROM roots"):
                self._roots[root_of(absolute)] = identity

    def keep_graph(self, digest: str, data: bytes) -> None:
        """Keep the quantized network that makes the rows: with them or not at all."""
        self._open_writer()
        with self._reported():
            self._database.execute(GRAPH_SCHEMA)
            self._database.execute("INSERT OR REPLACE INTO graph VALUES (?, ?)", (digest, data))

    def append(self, rows: NDArray[np.float32], pictures: Sequence[Picture]) -> None:
        """Add unit rows (B, dim) and what they are."""
        writer = self._open_writer()
        first = writer.rows
        if self._projection is not None:
            rows = self._projection.apply(rows, each=True)
        with self._reported():
            writer.append(rows)
            self._database.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((first + i, *self._entry(picture)) for i, picture in enumerate(pictures)),
            )

    def skip(self, path: str, reason: str) -> None:
        """Record a picture that could not be read."""
        self._open_writer()
        with self._reported():
            self._database.execute(
                "INSERT INTO skipped VALUES (?, ?)", (blob_or_text(path), reason)
            )

    def remove(self, rows: Iterable[int]) -> None:
        """Leave rows out of the index."""
        self._open_writer()
        with self._reported():
            self._database.executemany(
                "DELETE FROM pictures WHERE row = ?", ((row,) for row in rows)
            )

    def describe(self, pictures: Iterable[tuple[int, Picture]]) -> None:
        """Say anew what rows are."""
        self._open_writer()
        with self._reported():
            self._database.executemany(
                "UPDATE pictures SET root = ?, path = ?, label = ?, size = ?, mtime_ns = ?, "
                "sha256 = ? WHERE row = ?",
                ((*self._entry(picture), row) for row, picture in pictures),
            )

    def commit(self, *, now: bool = False) -> None:
        """Force what was added to the disk, if the last time was a while ago: a kill after it
        costs none of it."""
        if not now and time.monotonic() - self._committed < SECONDS_BETWEEN_COMMITS:
            return
        writer = self._open_writer()
        self._lock.check()
        with self._reported():
            writer.sync()
            Progress.save_rows(self._database, writer.rows)
            self._database.commit()
        self._on_disk, self._committed = writer.rows, time.monotonic()

    def finish(self, header: IndexHeader) -> None:
        """Write the header, force both files to the disk and give them their names."""
        self.commit(now=True)
        with self._reported():
            writer, table = self._open_writer(), self._table
            if self.rows < writer.rows or (self.vectors.projects and self._projection is None):
                writer, table = self._compacted()
            writer.finish()
            values = header.__dict__ | {
                "rows": writer.rows,
                "generation": uuid.uuid4().hex,
                "checksum": sampled_checksum(open_rows(writer.path)),
                "projection": self._projection and self._projection.to_dict(),
            }
            self._database.executemany(
                "INSERT INTO header VALUES (?, ?)",
                ((key, json.dumps(value)) for key, value in values.items()),
            )
            self._database.execute(
                "DELETE FROM roots WHERE id NOT IN (SELECT DISTINCT root FROM pictures)"
            )
            self._database.execute("DROP TABLE building")
            self._database.commit()
            self._database.close()
            fsync_file(table)
            self._lock.check()
            table.replace(done_table(self.path))
            fsync_folder(self.path.parent)
            settle(self.path)

    def _look(self) -> None:
        """Whether something unfinished is there to go on with."""
        if not self._table.exists():
            remove_hidden(self.path)
            return
        said = Progress.at(self._table)
        if said is None or not self._has_rows(said):
            remove_hidden(self.path)
        elif said.settings == self.settings and not (self.restart and said.refresh):
            self.continued = True
            self._begun_with, self._on_disk = said.rows_before, said.rows
        elif said.settings is not None and not self.restart:
            raise other_settings(self.path, said.settings, self.settings)
        else:
            remove_hidden(self.path)

    def _has_rows(self, said: Progress) -> bool:
        """Whether the rows that count are all there."""
        dim, dtype = self._form(said.refresh)
        wanted = HEADER_BYTES + said.rows * dim * np.dtype(dtype).itemsize
        return self._rows_file.exists() and self._rows_file.stat().st_size >= wanted

    def _start(self) -> None:
        """Make the hidden files; the table gets its hidden name last, and only then they count."""
        table = self._empty_place()
        rows, projection = 0, None
        if self.refresh:
            with EmbeddingIndex.open_one(self.path) as index:  # and so checked
                rows = len(index)
                projection = index.header and index.header.projection
            copy_rows(self.path, self._rows_file)
        else:
            RowWriter(self._rows_file, self._form(False)[0]).abandon()
        begin_table(table, self.path, Progress(self.settings, self.refresh, rows, rows, projection))
        table.replace(self._table)

    def _compacted(self) -> tuple[RowWriter, Path]:
        """Rows and table without the holes that removed rows left, under names of their own; rows
        that waited for it are projected."""
        table = self._empty_place()
        self._database.close()
        shutil.copyfile(self._table, table)
        self._database = sqlite3.connect(os.fsencode(table))
        self._stack.callback(self._database.close)
        kept = np.array([row for row, *_ in self._database.execute(PICTURES)], dtype=np.int64)
        self._open_writer().finish()
        old = open_rows(self._rows_file)
        learned = None
        if self.vectors.projects and self._projection is None:
            learned = self._projection = self._learned(old, kept)
        dim, dtype = self._form(True)
        writer = RowWriter(hidden(self.path, COMPACT), dim, dtype=dtype)
        self._stack.callback(writer.abandon)
        for start in range(0, len(kept), ROWS_AT_ONCE):
            rows = np.asarray(old[kept[start : start + ROWS_AT_ONCE]])
            writer.append(learned.apply(rows) if learned else rows)
        # Upwards, so that the number a row gets is always free.
        moved = ((new, row) for new, row in enumerate(kept.tolist()) if new != row)
        self._database.executemany("UPDATE pictures SET row = ? WHERE row = ?", moved)
        return writer, table

    def _learned(self, rows: Rows, kept: NDArray[np.int64]) -> Projection:
        dim, whiten = self.vectors.stored_dim(self.dim), self.vectors.whiten
        projection = learn_projection(rows, dim, whiten=whiten, kept=kept)
        projection.save(self._database)
        return projection

    def _form(self, stored: bool) -> tuple[int, str]:
        """Columns and dtype of the rows as they are stored, or as they wait for a projection."""
        if stored or not self.vectors.projects:
            return self.vectors.stored_dim(self.dim), self.vectors.dtype
        return self.dim, "float32"

    def _entry(self, picture: Picture) -> tuple[Any, ...]:
        label = None if picture.label is None else blob_or_text(picture.label)
        return (
            self._root(picture.root),
            blob_or_text(picture.path),
            label,
            picture.size,
            picture.mtime_ns,
            picture.sha256,
        )

    def _root(self, root: Path) -> int:
        if root not in self._roots:
            self._roots[root] = max(self._roots.values(), default=-1) + 1
            self._database.execute(
                "INSERT INTO roots VALUES (?, ?, ?)",
                (self._roots[root], relative_root(root, self.path), root_text(root)),
            )
        return self._roots[root]

    def _open_writer(self) -> RowWriter:
        self.begin()
        assert self._writer is not None
        return self._writer

    def _source(self) -> Path:
        """The table that is begun with."""
        return self._table if self.continued else sidecar(self.path)

    def _empty_place(self) -> Path:
        """A name for a table under way; what a killed writer left there is gone, its journal, too,
        which would be rolled back into the next one."""
        table = hidden(sidecar(self.path), COMPACT)
        table.unlink(missing_ok=True)
        table.with_name(table.name + "-journal").unlink(missing_ok=True)
        return table

    def _leave(self) -> None:
        """Keep what can be gone on with; all else goes."""
        if not self.kept():
            remove_hidden(self.path)
        elif not done_table(self.path).exists():
            remove_hidden(self.path, [COMPACT])

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise OutputError(
                f"cannot write the index `{self.path}`: {reason or error}",
                hint="check the free space and the permissions of that folder; what was done is "
                "kept, and the same command goes on from there",
            ) from error
