"""An index on disk: `feats.npy` (unit rows) beside `feats.sqlite` (what each row is).

Both are written under temporary names and renamed, rows first. Between the two renames a reader
may see halves of two generations; a checksum over sampled rows tells, and it tries again.
"""

import contextlib
import glob
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError, MismatchError, OutputError
from cgdcli.files import fsync_file, fsync_folder, writer_lock
from cgdcli.index.exact import nearest
from cgdcli.index.rows import RowWriter, check_unit_rows, open_rows, sampled_checksum

FORMAT = 1
# A writer renames its two files within milliseconds; a pair that stays mixed longer is damage.
MIXED_PAIR_PATIENCE_SECONDS = 1.0

_SCHEMA = """
CREATE TABLE header (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE roots (id INTEGER PRIMARY KEY, relative TEXT, absolute TEXT NOT NULL);
CREATE TABLE pictures (row INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots(id),
    path NOT NULL, label TEXT, size INTEGER, mtime_ns INTEGER, sha256 TEXT);
CREATE INDEX pictures_by_content ON pictures (sha256);
CREATE INDEX pictures_by_path ON pictures (path);
CREATE TABLE skipped (path NOT NULL, reason TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Picture:
    """One row's picture: `path` relative to `root`, an absolute folder."""

    root: Path
    path: str
    label: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class IndexHeader:
    """What an index says of itself.

    Attributes:
        model: `ModelInfo.to_dict()` of what made the rows, plus the absolute `path` of a file.
        blocks: (letter, first column, end column) of each branch, or None where columns have none.
        sources: the absolute files and folders that were embedded.
    """

    rows: int
    dim: int
    model: dict[str, Any]
    engine: str
    precision: str
    blocks: list[tuple[str, int, int]] | None
    sources: list[str]
    labels: str = "folder"
    generation: str = ""
    checksum: str = ""
    complete: bool = True
    format: int = FORMAT


@dataclass
class EmbeddingIndex:
    """An opened index. An `.npy` alone has no `header`; its rows are then named by number."""

    path: Path
    rows: NDArray[Any]
    header: IndexHeader | None = None
    root: Path | None = None
    _database: sqlite3.Connection | None = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path | str, *, root: Path | None = None) -> Self:
        """Open `feats.npy`, with its `feats.sqlite` where there is one, and check the pair.

        Args:
            root: a folder to look for the pictures in first.

        Raises:
            IndexFileError: missing or damaged, NaN, rows that are not unit.
            MismatchError: the two files are not of one index.
        """
        npy = index_path(Path(path))
        if not sidecar(npy).exists():
            rows = open_rows(npy)
            check_unit_rows(npy, rows)
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
        check_unit_rows(npy, rows)
        return cls(npy, rows, header, root, database)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Length of a row."""
        return int(self.rows.shape[1])

    def search(
        self, queries: NDArray[Any], k: int, *, exclude: list[set[int]] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The `k` nearest rows of each query row; see `index.exact.nearest`."""
        return nearest(queries, self.rows, k, exclude=exclude)

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
        return [label for (label,) in rows]

    def known_labels(self) -> set[str]:
        """The labels there are."""
        if self._database is None:
            return set()
        rows = self._database.execute("SELECT DISTINCT label FROM pictures WHERE label NOT NULL")
        return {label for (label,) in rows}

    def skipped(self) -> list[tuple[str, str]]:
        """Pictures that could not be read when the index was made: path and reason."""
        if self._database is None:
            return []
        rows = self._database.execute("SELECT path, reason FROM skipped ORDER BY rowid")
        return [(_text(path), reason) for path, reason in rows]

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
            "SELECT relative FROM roots WHERE absolute = ?", (str(picture.root),)
        ).fetchone()
        bases = [self.root, self.path.parent / relative if relative else None, picture.root]
        for base in bases:
            if base is not None and (base / picture.path).exists():
                return Path(os.path.abspath(base / picture.path))
        return picture.root / picture.path

    def _rows_under_roots(self, file: Path) -> list[int]:
        assert self._database is not None
        rows = []
        for identity, absolute in self._database.execute("SELECT id, absolute FROM roots"):
            with contextlib.suppress(ValueError):
                relative = Path(os.path.abspath(file)).relative_to(absolute)
                rows += self._database.execute(
                    "SELECT row FROM pictures WHERE root = ? AND path = ?",
                    (identity, _blob_or_text(str(relative))),
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
        return [Picture(Path(root), _text(path), *rest) for root, path, *rest in rows]


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
                for left in final.parent.glob(f".{glob.escape(final.name)}.*.tmp"):
                    left.unlink(missing_ok=True)
                self._stack.callback(temporary.unlink, missing_ok=True)
            self._writer = RowWriter(self._npy, self.dim)
            self._stack.callback(self._writer.abandon)
            self._database = sqlite3.connect(self._sqlite)
            self._stack.callback(self._database.close)
            self._database.executescript(_SCHEMA)
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
                        _blob_or_text(picture.path),
                        picture.label,
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
                ((_blob_or_text(path), reason) for path, reason in self._skipped),
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
                (self._roots[root], _relative(root, self.path), str(root)),
            )
        return self._roots[root]

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"cannot write the index `{self.path}`: {error}",
            hint="check the free space and permissions of its folder; nothing was replaced",
        )


def index_path(path: Path) -> Path:
    """The `.npy` of an index, however it was named: feats, feats.npy, feats.sqlite."""
    if path.suffix == ".sqlite" or (not path.suffix and not path.exists()):
        return path.with_suffix(".npy")
    return path


def sidecar(path: Path) -> Path:
    """The `.sqlite` beside an `.npy`."""
    return path.with_suffix(".sqlite")


def check_replaceable(
    path: Path, *, sources: Iterable[str], fingerprint: str, rebuild: bool
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
        header = _read_header(sidecar(path))[0]
    except (IndexFileError, MismatchError):
        raise MismatchError(
            f"`{path}` or `{sidecar(path).name}` beside it exists and is not an index made by cgd",
            hint="nothing is written over it: choose another -o, or remove it yourself",
        ) from None
    if rebuild:
        return True
    if sorted(header.sources) != sorted(sources):
        raise MismatchError(
            f"`{path}` is the index of {', '.join(header.sources)}, another source",
            hint="choose another -o, or add --rebuild to replace it",
        )
    if header.model["fingerprint"] != fingerprint:
        raise MismatchError(
            f"`{path}` was made by the model {header.model['source']} "
            f"({header.model['fingerprint'][:12]}), not by this one ({fingerprint[:12]})",
            hint="choose another -o, or add --rebuild to replace it",
        )
    return True


def _open_pair(npy: Path) -> tuple[NDArray[Any], IndexHeader, sqlite3.Connection]:
    header, database = _read_header(sidecar(npy))
    try:
        if not npy.exists():
            raise MismatchError(
                f"`{sidecar(npy)}` is there but its rows `{npy.name}` are not",
                hint="copy both files of the index, or embed again",
            )
        rows = open_rows(npy)
        if len(rows) < header.rows or rows.shape[1] != header.dim:
            raise MismatchError(
                f"`{npy}` has {rows.shape} rows and columns, `{sidecar(npy).name}` beside it "
                f"is of {header.rows} and {header.dim}: they are not of one index",
                hint="copy both files of the index together, or embed again with --rebuild",
            )
        rows = rows[: header.rows]
        if sampled_checksum(rows) != header.checksum:
            raise MismatchError(
                f"the rows of `{npy}` are not those that `{sidecar(npy).name}` describes",
                hint="copy both files of the index together, or embed again with --rebuild",
            )
    except BaseException:
        database.close()
        raise
    return rows, header, database


def _read_header(path: Path) -> tuple[IndexHeader, sqlite3.Connection]:
    """Open the table read-only. `immutable` keeps SQLite from leaving files beside it."""
    address = f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1"
    try:
        database = sqlite3.connect(address, uri=True)
        values = dict(database.execute("SELECT key, value FROM header"))
        facts = {key: json.loads(value) for key, value in values.items()}
    except (sqlite3.Error, ValueError) as error:
        raise IndexFileError(
            f"`{path}` is not the table of an index, or is damaged: {error}",
            hint="copy both files of the index again, or embed again with --rebuild",
        ) from error
    if facts.get("format") != FORMAT:
        database.close()
        raise MismatchError(
            f"`{path}` has index format {facts.get('format')!r}; this cgd reads {FORMAT}",
            hint="embed again with --rebuild, or use the version of cgd that wrote it",
        )
    blocks = facts["blocks"]
    facts["blocks"] = None if blocks is None else [(c, start, stop) for c, start, stop in blocks]
    return IndexHeader(**facts), database


def _relative(root: Path, index: Path) -> str | None:
    try:
        return os.path.relpath(root, Path(os.path.abspath(index)).parent)
    except ValueError:  # another drive has no relative path
        return None


def _blob_or_text(path: str) -> str | bytes:
    """Paths that are not UTF-8 are kept as bytes, to come back as they were."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _text(path: str | bytes) -> str:
    return path if isinstance(path, str) else os.fsdecode(path)
