"""The labelled rows of an index, judged as they are: nothing is embedded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RECALL_RANKS, RerankConfig
from cgdcli.datasets.columns import PictureColumns
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.evaluation.details import Details, detailed
from cgdcli.evaluation.scoring import QueryScores, summary
from cgdcli.evaluation.tables import Roles, judge_rows
from cgdcli.index.scanning import PickedRows, Rows
from cgdcli.index.store import EmbeddingIndex
from cgdcli.remote import shown
from cgdcli.reports import EvaluationReport


class IndexFiles(Sequence[Path]):
    """The files of some rows of an index, looked up when they are asked for."""

    def __init__(self, index: EmbeddingIndex, rows: NDArray[np.int64]) -> None:
        self.opened, self.numbers = index, rows

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Path]: ...
    def __getitem__(self, place: int | slice) -> Path | Sequence[Path]:
        if isinstance(place, slice):
            return IndexFiles(self.opened, self.numbers[place])
        row = int(self.numbers[place])
        return self.opened.file(row) or Path(f"row:{row}")


@dataclass(frozen=True)
class LabelledRows:
    """Rows of an index that have a label.

    Attributes:
        numbers: int64 (N,), which they are; `rows`, `labels` and `roles` are in that order.
        rows: (N, D), as they are stored: looked at, and never copied as a whole.
    """

    index: EmbeddingIndex
    numbers: NDArray[np.int64]
    rows: Rows | PickedRows
    labels: tuple[str, ...]
    roles: Roles = field(default_factory=Roles)

    @property
    def left_out(self) -> int:
        """Rows of the index that are not here."""
        return len(self.index) - len(self.numbers)


@dataclass(frozen=True)
class JudgedRows:
    """How each row that asked fared; a `Judgement`."""

    paths: Sequence[Path]
    row_labels: Sequence[str]
    asked: NDArray[np.int64]
    stored: NDArray[np.int64]
    scores: QueryScores

    @property
    def labels(self) -> NDArray[np.str_]:
        """Of the queries, (Q,)."""
        return np.array(self.row_labels)[self.asked]


def evaluate_index(
    index: EmbeddingIndex,
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    columns: PictureColumns | None = None,
    ignore_same: str | None = None,
    details: Details | None = None,
) -> EvaluationReport:
    """Score the labelled rows of an index: all against all without self, or as a table says.

    Args:
        columns: of a table of its pictures: `is_query` and `is_gallery`, `ignore_same`.

    Raises:
        DatasetError: no row has a label, or the table does not fit.
    """
    labelled = labelled_rows(index, columns=columns, ignore_same=ignore_same)
    judged = judge_labelled(labelled, ranks)
    what = shown(index.path)
    if labelled.left_out:
        what += f" ({labelled.left_out} rows without label left out)"
    return detailed(
        judged,
        summary(judged.scores, judged.labels.tolist()),
        details or Details(),
        what=what,
        ignore_same=ignore_same or "",
        left_out=labelled.left_out,
    )


def labelled_rows(
    index: EmbeddingIndex,
    *,
    columns: PictureColumns | None = None,
    ignore_same: str | None = None,
) -> LabelledRows:
    """The rows that have a label, and what a table says that they are for each other.

    Raises:
        DatasetError: no row has a label, or the table does not fit.
        ConfigError: nothing of the table is used.
    """
    labels = index.labels()
    numbers = np.array([i for i, label in enumerate(labels) if label is not None], dtype=np.int64)
    if not len(numbers):
        raise DatasetError(
            f"no row of `{shown(index.path)}` has a label, so nothing says which hits are right",
            hint="embed a folder of class folders, or give --labels FILE.csv when embedding",
        )
    known = tuple(label for label in labels if label is not None)
    rows = index.rows if len(numbers) == len(labels) else PickedRows(index.rows, numbers)
    roles = Roles() if columns is None else _roles(index, numbers, columns, ignore_same)
    return LabelledRows(index, numbers, rows, known, roles)


def judge_labelled(
    labelled: LabelledRows, ranks: Sequence[int], rerank: RerankConfig | None = None
) -> JudgedRows:
    """Score them, each in its role; with `rerank` by the first hits in another order."""
    asked, stored, scores = judge_rows(
        labelled.rows, labelled.labels, ranks, labelled.roles, rerank
    )
    files = IndexFiles(labelled.index, labelled.numbers)
    return JudgedRows(files, labelled.labels, asked, stored, scores)


def _roles(
    index: EmbeddingIndex,
    numbers: NDArray[np.int64],
    columns: PictureColumns,
    ignore_same: str | None,
) -> Roles:
    has_roles = {"is_query", "is_gallery"} & columns.names
    if len(has_roles) == 1:
        raise DatasetError(
            f"`{columns.file}` has `{has_roles.pop()}` alone; `is_query` and `is_gallery` go "
            "together",
            hint="add the other column: which pictures are asked with, which are searched among",
        )
    if not has_roles and ignore_same is None:
        raise ConfigError(
            f"nothing of `{columns.file}` is used: it has no is_query and is_gallery, and no "
            "column of it is named",
            hint="leave out --table, or name a column: --ignore-same COLUMN",
        )
    names = [_names(index, row) for row in numbers.tolist()]
    groups = None if ignore_same is None else tuple(columns.text(ignore_same, names))
    if not has_roles:
        return Roles(groups=groups)
    asks, stored = (np.array(columns.flags(n, names)) for n in ("is_query", "is_gallery"))
    if not asks.any() and not stored.any():  # as in a table that is DATA: all against all
        return Roles(groups=groups)
    for role, found in (("query", asks), ("picture of the gallery", stored)):
        if not found.any():
            raise DatasetError(
                f"`{columns.file}` makes no labelled row of `{shown(index.path)}` a {role}: there "
                "is nothing to measure",
                hint="mark some with is_query and some with is_gallery, or none at all",
            )
    return Roles(asks, stored, groups)


def _names(index: EmbeddingIndex, row: int) -> list[str]:
    """The paths that a row's picture may stand under in a table."""
    picture = index.picture(row)
    return [] if picture is None else list(_places(index, row, picture.root, picture.path))


def _places(index: EmbeddingIndex, row: int, root: Path, path: str) -> Iterator[str]:
    yield str(root / path)
    yield path
    file = index.file(row)  # where the index has moved with its pictures
    if file is not None:
        yield str(file)
