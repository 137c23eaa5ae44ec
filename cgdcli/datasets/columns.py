"""Columns of a table file for pictures that are known otherwise: those of an index, or of DATA."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgdcli.datasets.table_file import flag_of
from cgdcli.datasets.table_rows import Row, bad_row, checked_text, read_rows
from cgdcli.errors import DatasetError
from cgdcli.images.finding import absolute_path


@dataclass(frozen=True)
class PictureColumns:
    """The rows of a table by the pictures that they are of."""

    file: Path
    names: frozenset[str]
    rows: dict[str, tuple[Row, ...]]

    @classmethod
    def read(cls, file: Path, *, otherwise: str = "") -> "PictureColumns":
        """A table with a column `path`: relative to its own folder, to the folder that was
        embedded, or absolute.

        Args:
            otherwise: as of `read_rows`.

        Raises:
            DatasetError: it cannot be read, has no such column, or a row says nothing there.
        """
        folder, by_path = absolute_path(file).parent, dict[str, list[Row]]()
        names, without = set[str](), list[Row]()
        for row in read_rows(file, otherwise=otherwise):
            names |= row.values.keys()
            path = row.text("path")
            if not path:
                without.append(row)
                continue
            for key in {os.path.normpath(path), os.path.normpath(folder / path)}:
                by_path.setdefault(key, []).append(row)
        if not names:
            raise DatasetError(
                f"the table `{file}` has no rows",
                hint="one row a picture is wanted, below a first line that names the columns",
            )
        if "path" not in names:
            raise DatasetError(
                f"`{file}` has the columns {', '.join(sorted(names))}; `path` is wanted, which "
                "says of what picture a row is",
                hint="name it so in the first line",
            )
        if without:
            raise bad_row(file, without[0], "`path` is empty", "fill it in, or remove the row")
        return cls(file, frozenset(names), {key: tuple(rows) for key, rows in by_path.items()})

    def text(self, column: str, pictures: Iterable[Sequence[str]]) -> list[str | None]:
        """What the column says of each picture; None where the picture is not in the table, or
        nothing is said.

        Args:
            pictures: for each the paths that it may stand under, the likeliest first.

        Raises:
            DatasetError: there is no such column, rows of one picture differ in it, or not one of
                the pictures is in the table.
        """
        found = [self._row(column, names) for names in pictures]
        self._check_any(found)
        return [
            None if row is None else checked_text(self.file, row, column) or None for row in found
        ]

    def flags(self, column: str, pictures: Iterable[Sequence[str]]) -> list[bool]:
        """Whether the column says yes to each picture; no where the picture is not in the table.

        Raises:
            DatasetError: as of `text`, or it is neither yes nor no.
        """
        found = [self._row(column, names) for names in pictures]
        self._check_any(found)
        return [row is not None and flag_of(self.file, row, column) for row in found]

    def _row(self, column: str, paths: Sequence[str]) -> Row | None:
        if column not in self.names:
            raise DatasetError(
                f"`{self.file}` has no column `{column}`; there are "
                f"{', '.join(sorted(self.names))}",
                hint="name one of them",
            )
        rows = next((self.rows[path] for path in paths if path in self.rows), ())
        if len({row.text(column) for row in rows}) > 1:
            raise DatasetError(
                f"row {rows[1].number} of `{self.file}` says another `{column}` of "
                f"`{rows[1].text('path')}` than row {rows[0].number}",
                hint="give each picture one",
            )
        return rows[0] if rows else None

    def _check_any(self, found: Sequence[Row | None]) -> None:
        if found and not any(found):
            raise DatasetError(
                f"not one of the pictures is in `{self.file}`",
                hint="write paths as they stand below the folder that was embedded, from the "
                "table's own folder, or absolute",
            )
