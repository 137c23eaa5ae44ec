"""What an index is and what is odd about it, also one that is too damaged to be searched."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cgdcli.errors import CGDError, IndexFileError
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.parts import PartedIndex
from cgdcli.index.records import IndexHeader, Picture, index_path, root_of, sidecar, text_of
from cgdcli.index.rows import open_rows
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.tables import read_index_header
from cgdcli.inspection.pictures import (
    OnChecked,
    PictureCheck,
    check_model,
    check_pictures,
    picture_anomalies,
)
from cgdcli.inspection.rows import row_anomalies, scan_rows
from cgdcli.inspection.weights import assumption_notes
from cgdcli.reports.inspection import Anomaly, InspectReport, Refusal

RUNS = Path("runs")


@dataclass(frozen=True)
class IndexTable:
    """The `.sqlite` of an index, which may be at odds with its rows."""

    path: Path
    header: IndexHeader
    database: sqlite3.Connection

    def pictures(self) -> Iterator[Picture]:
        """Every picture, by row."""
        found = self.database.execute(
            "SELECT absolute, path, label, size, mtime_ns, sha256 FROM pictures "
            "JOIN roots ON roots.id = pictures.root ORDER BY row"
        )
        for root, path, label, *rest in found:
            named = None if label is None else text_of(label)
            yield Picture(root_of(root), text_of(path), named, *rest)

    def count(self) -> int:
        """How many pictures it describes."""
        return int(self.database.execute("SELECT count(*) FROM pictures").fetchone()[0])

    def skipped(self) -> list[dict[str, str]]:
        """Pictures that could not be read when the index was made."""
        found = self.database.execute("SELECT path, reason FROM skipped ORDER BY rowid")
        return [{"path": text_of(path), "reason": reason} for path, reason in found]

    def bases(self, root: Path | None) -> dict[str, tuple[Path, ...]]:
        """Where to look for pictures, by the root they were under, in `EmbeddingIndex`'s order."""
        found = {}
        for absolute, relative in self.database.execute("SELECT absolute, relative FROM roots"):
            beside = self.path.parent / text_of(relative) if relative else None
            places = (root, beside, root_of(absolute))
            found[str(root_of(absolute))] = tuple(
                Path(os.path.abspath(place)) for place in places if place is not None
            )
        return found

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()


@dataclass(frozen=True)
class PartedTable:
    """The tables of all parts of an index, as one."""

    path: Path
    header: IndexHeader
    tables: tuple[IndexTable, ...]

    def pictures(self) -> Iterator[Picture]:
        """Every picture, by row."""
        return (picture for table in self.tables for picture in table.pictures())

    def count(self) -> int:
        """How many pictures they describe."""
        return sum(table.count() for table in self.tables)

    def skipped(self) -> list[dict[str, str]]:
        """Pictures that could not be read when the parts were made."""
        return [entry for table in self.tables for entry in table.skipped()]

    def bases(self, root: Path | None) -> dict[str, tuple[Path, ...]]:
        """Where to look for pictures, by the root they were under."""
        found = [table.bases(root) for table in reversed(self.tables)]
        return {name: places for bases in found for name, places in bases.items()}

    def close(self) -> None:
        """Let go of the files."""
        for table in self.tables:
            table.close()


@dataclass(frozen=True)
class OpenedIndex:
    """What can be read of an index.

    Attributes:
        path: the `.npy`, whether it is there or not.
        rows: those that the header describes, or all; None where they cannot be read.
        stored: rows in the `.npy`.
        table: None for an array alone, or where the table cannot be read.
        refusal: why `EmbeddingIndex.open` refuses it.
        files: the `.npy` files, of which an index in parts has several.
    """

    path: Path
    rows: NDArray[Any] | PartedRows | None
    stored: int
    table: IndexTable | PartedTable | None
    refusal: Refusal | None
    files: tuple[Path, ...]


def open_parts(path: Path) -> OpenedIndex:
    """Open an index, or where that is refused, as much of it as can be read: of one in parts, the
    part that is named.

    Raises:
        IndexFileError: neither of its files can be read.
        MismatchError: likewise.
    """
    npy, error = index_path(path), None
    try:
        with EmbeddingIndex.open(path) as index:
            npy = index.path
            if isinstance(index, PartedIndex):
                return _opened_parts(index)
    except CGDError as refused:
        error = refused
    except sqlite3.Error as damage:
        error = _damaged(npy, damage)
    rows, table = _rows(npy), _table(npy)
    if error is not None and rows is None and table is None:
        raise error
    stored = 0 if rows is None else len(rows)
    if rows is not None and table is not None:
        rows = rows[: table.header.rows]
    return OpenedIndex(npy, rows, stored, table, Refusal.of(error) if error else None, (npy,))


def _opened_parts(index: PartedIndex) -> OpenedIndex:
    assert index.header is not None
    files = tuple(member.path for member in index.members)
    tables = tuple(IndexTable(npy, *read_index_header(sidecar(npy))) for npy in files)
    table = PartedTable(index.path, index.header, tables)
    return OpenedIndex(index.path, index.rows, len(index), table, None, files)


def inspect_index(
    path: Path,
    *,
    root: Path | None = None,
    verify: bool = False,
    on_progress: OnChecked | None = None,
) -> InspectReport:
    """Facts and anomalies of an index: every row, and every picture's size and time, is looked at.

    Args:
        root: a folder to look for the pictures in first.
        verify: read every picture and compare its SHA-256.

    Raises:
        IndexFileError: nothing of it can be read.
        MismatchError: likewise.
    """
    opened = open_parts(path)
    if opened.table is None:
        return _report_array(opened)
    with contextlib.closing(opened.table):
        try:
            return _report_index(opened, opened.table, root, verify, on_progress)
        except sqlite3.Error as damage:  # in a page that nobody has read before
            error = _damaged(opened.path, damage)
            if opened.rows is None:
                raise error from damage
            return _report_array(replace(opened, table=None, refusal=Refusal.of(error)))


def _report_array(opened: OpenedIndex) -> InspectReport:
    assert opened.rows is not None
    anomalies = row_anomalies(scan_rows(opened.rows), opened.rows.dtype.name)
    notes = ["no .sqlite beside it: neither its model nor its pictures are known"]
    if opened.refusal and sidecar(opened.path).exists():
        notes = ["the .sqlite beside it cannot be read: this is what the rows alone say"]
    return InspectReport(
        opened.path,
        "index (rows alone)",
        _facts_of_rows(opened),
        tuple(notes),
        anomalies=anomalies,
        refusal=opened.refusal,
    )


def _report_index(
    opened: OpenedIndex,
    table: IndexTable | PartedTable,
    root: Path | None,
    verify: bool,
    on_progress: OnChecked | None,
) -> InspectReport:
    check = check_pictures(
        table.pictures(), table.count(), table.bases(root), verify=verify, on_progress=on_progress
    )
    model, odd = check_model(table.header, opened.path, RUNS)
    anomalies: list[Anomaly] = []
    if opened.rows is not None:
        found = scan_rows(opened.rows, _blocks(table.header, opened.rows))
        whole = check.rows == len(opened.rows)
        anomalies += row_anomalies(found, opened.rows.dtype.name, check.sha256 if whole else None)
    anomalies += [*picture_anomalies(check, verified=verify), *([odd] if odd else [])]
    return InspectReport(
        opened.path,
        "index",
        _facts_of_rows(opened) | _facts_of_table(table, check, model),
        tuple(_notes(opened, table.header, model)),
        anomalies=tuple(anomalies),
        refusal=opened.refusal,
    )


def _facts_of_rows(opened: OpenedIndex) -> dict[str, Any]:
    rows = opened.rows
    if rows is None:
        return {"rows": 0}
    parts = {"parts": len(opened.files)} if isinstance(rows, PartedRows) else {}
    return parts | {
        "rows": len(rows),
        "embedding_dim": int(rows.shape[1]),
        "dtype": rows.dtype.name,
        "bytes": sum(file.stat().st_size for file in opened.files),
    }


def _facts_of_table(
    table: IndexTable | PartedTable, check: PictureCheck, model: Path | None
) -> dict[str, Any]:
    header = table.header
    recorded = header.model.get("path") or header.model.get("source")
    facts: dict[str, Any] = {"model": recorded}
    if model is not None and str(model) != recorded:
        facts["model_found"] = str(model)
    return facts | {
        "fingerprint": header.model.get("fingerprint"),
        "config": header.model.get("config"),
        "engine": header.engine,
        "precision": header.precision,
        "blocks": header.blocks,
        "vectors": header.vectors,
        "projection": header.projection,
        "sources": header.sources,
        "labels": check.labels,
        "labelled_rows": check.rows - len(check.unlabelled),
        "described_rows": check.rows,
        "pictures": {
            "there": check.rows - len(check.gone),
            "gone": len(check.gone),
            "changed": len(check.changed),
            "perhaps_changed": len(check.touched),
        },
        "skipped": table.skipped(),
        "generation": header.generation,
    }


def _notes(opened: OpenedIndex, header: IndexHeader, model: Path | None) -> Iterator[str]:
    if opened.rows is None:
        yield f"its rows, {opened.path.name}, cannot be read: this is what the .sqlite alone says"
    elif opened.stored > header.rows:
        yield (
            f"the .npy holds {opened.stored - header.rows} rows more than the header counts: an "
            "append is under way, or was cut off; nothing reads them"
        )
    recorded = header.model.get("path")
    if recorded and model is not None and str(model) != recorded:
        yield f"its model is no longer at {recorded}; {model} has its fingerprint"
    yield from assumption_notes("assumed", header.model.get("assumed", ()))


def _blocks(
    header: IndexHeader, rows: NDArray[Any] | PartedRows
) -> list[tuple[str, int, int]] | None:
    return header.blocks if header.dim == rows.shape[1] else None


def _rows(npy: Path) -> NDArray[Any] | None:
    try:
        return open_rows(npy)
    except IndexFileError:
        return None


def _table(npy: Path) -> IndexTable | None:
    try:
        return IndexTable(npy, *read_index_header(sidecar(npy)))
    except CGDError:
        return None


def _damaged(npy: Path, error: sqlite3.Error) -> IndexFileError:
    return IndexFileError(
        f"`{sidecar(npy)}` is not the table of an index, or is damaged: {error}",
        hint="copy both files of the index again, or remove both and embed again",
    )
