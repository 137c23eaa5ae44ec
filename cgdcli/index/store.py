"""An index on disk: `feats.npy` (unit rows) beside `feats.sqlite` (what each row is).

Both are written under temporary names and renamed, rows first.
"""

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ScanConfig, VectorConfig
from cgdcli.errors import DatasetError, MismatchError
from cgdcli.index.exact import nearest
from cgdcli.index.kept_graphs import graph_in
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.pairs import open_pair
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.records import (
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
from cgdcli.index.rows import check_unit_rows, open_rows
from cgdcli.index.scanning import check_files
from cgdcli.index.shards import parts_meant
from cgdcli.index.where import RowFilter, parse, sql
from cgdcli.index.whitening import Projection
from cgdcli.remote import address_of, place_of


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
        rows, header, database = open_pair(npy)
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

    def stored(self, numbers: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        """One row by its number, or several, as they are stored.

        Raises:
            IndexFileError: the file became shorter: to touch them would end the process.
        """
        check_files(self.rows)
        found: NDArray[Any] = self.rows[numbers]
        return found

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
