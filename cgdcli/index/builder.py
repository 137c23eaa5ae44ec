"""Writing an index: both files under temporary names, then renamed, rows first."""

import contextlib
import glob
import json
import os
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError, MismatchError, OutputError
from cgdcli.files import fsync_file, fsync_folder, writer_lock
from cgdcli.index.records import (
    SCHEMA,
    IndexHeader,
    Picture,
    blob_or_text,
    relative_to_index,
    sidecar,
)
from cgdcli.index.rows import RowWriter, is_our_array, open_rows, sampled_checksum
from cgdcli.index.store import read_index_header
from cgdcli.reports import ModelInfo


class IndexBuilder:
    """Writes both files under temporary names; `finish` renames them, leaving early removes them.

    Use as a context manager. One writer at a time: see `files.writer_lock`.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self.path, self.dim = path, dim
        self._stack = contextlib.ExitStack()
        self._skipped: list[tuple[str, str]] = []
        self._roots: dict[Path, int] = {}

    def __enter__(self) -> Self:
        self._stack.enter_context(writer_lock(self.path))
        try:
            tag = f".{os.getpid()}.tmp"
            self._npy = self.path.with_name(f".{self.path.name}{tag}")
            self._sqlite = self.path.with_name(f".{sidecar(self.path).name}{tag}")
            for final, temporary in ((self.path, self._npy), (sidecar(self.path), self._sqlite)):
                # What a killed writer left; we hold the lock, so nobody is writing it.
                for left in final.parent.glob(f".{glob.escape(final.name)}.*.tmp*"):
                    left.unlink(missing_ok=True)
                self._stack.callback(temporary.unlink, missing_ok=True)
            self._writer = RowWriter(self._npy, self.dim)
            self._stack.callback(self._writer.abandon)
            self._database = sqlite3.connect(os.fsencode(self._sqlite))
            self._stack.callback(self._database.close)
            self._database.executescript(SCHEMA)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._writer.rows

    def append(self, rows: NDArray[np.float32], pictures: Sequence[Picture]) -> None:
        """Add unit rows (B, dim) and what they are."""
        first = self._writer.rows
        try:
            self._writer.append(rows)
            self._database.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        first + i,
                        self._root(picture.root),
                        blob_or_text(picture.path),
                        None if picture.label is None else blob_or_text(picture.label),
                        picture.size,
                        picture.mtime_ns,
                        picture.sha256,
                    )
                    for i, picture in enumerate(pictures)
                ),
            )
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def skip(self, path: str, reason: str) -> None:
        """Record a picture that could not be read."""
        self._skipped.append((path, reason))

    def finish(self, header: IndexHeader) -> None:
        """Write the header, force both files to the disk and give them their names."""
        try:
            self._writer.finish()
            values = header.__dict__ | {
                "rows": self._writer.rows,
                "generation": uuid.uuid4().hex,
                "checksum": sampled_checksum(open_rows(self._npy)),
            }
            self._database.executemany(
                "INSERT INTO header VALUES (?, ?)",
                ((key, json.dumps(value)) for key, value in values.items()),
            )
            self._database.executemany(
                "INSERT INTO skipped VALUES (?, ?)",
                ((blob_or_text(path), reason) for path, reason in self._skipped),
            )
            self._database.commit()
            self._database.close()
            for temporary, final in ((self._npy, self.path), (self._sqlite, sidecar(self.path))):
                fsync_file(temporary)
                temporary.replace(final)
            fsync_folder(self.path.parent)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def _root(self, root: Path) -> int:
        if root not in self._roots:
            self._roots[root] = len(self._roots)
            self._database.execute(
                "INSERT INTO roots VALUES (?, ?, ?)",
                (
                    self._roots[root],
                    _optional(relative_to_index(root, self.path)),
                    blob_or_text(str(root)),
                ),
            )
        return self._roots[root]

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"cannot write the index `{self.path}`: {getattr(error, 'strerror', None) or error}",
            hint="check the free space and permissions of its folder; nothing was replaced",
        )


def check_replaceable(
    path: Path, *, sources: Sequence[str], model: ModelInfo, rebuild: bool
) -> bool:
    """Refuse to write over anything but an index of the same sources and model.

    Returns:
        Whether there is one, to be refreshed or rebuilt.

    Raises:
        MismatchError: the file is no index of ours (never replaced), or another index (not
            without `rebuild`).
    """
    if path.is_dir():
        raise OutputError(f"`{path}` is a folder; a file is wanted", hint=f"-o {path}/feats.npy")
    if not path.exists() and not sidecar(path).exists():
        return False
    try:
        header, database = read_index_header(sidecar(path))
        database.close()
        if path.exists() and not is_our_array(path):
            raise IndexFileError("", hint="")  # a stranger's array beside a table of ours
    except (IndexFileError, MismatchError):
        raise MismatchError(
            f"`{path}` or `{sidecar(path).name}` beside it exists and is not an index made by cgd",
            hint="nothing is written over it: choose another -o, or remove it yourself",
        ) from None
    if rebuild:
        return True
    relative = sorted(str(relative_to_index(source, path)) for source in sources)
    # An index that moved with its pictures: the same places from it, and nothing where they were.
    moved = relative == sorted(header.relative_sources) and not any(
        map(os.path.exists, header.sources)
    )
    if sorted(sources) != sorted(header.sources) and not moved:
        raise MismatchError(
            f"`{path}` is the index of {', '.join(header.sources)}, another source",
            hint="choose another -o, or add --rebuild to replace it",
        )
    if header.model["fingerprint"] != model.fingerprint:
        raise MismatchError(
            f"`{path}` was made by the model {header.model['source']} "
            f"({header.model['fingerprint'][:12]}), not by {model.source} "
            f"({model.fingerprint[:12]})",
            hint="choose another -o, or add --rebuild to replace it",
        )
    return True


def _optional(path: str | None) -> str | bytes | None:
    return None if path is None else blob_or_text(path)
