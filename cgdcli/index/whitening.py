"""PCA of an index's own rows: fewer columns, or whitened ones; unit again afterwards.

Shape letters: N rows, D columns of the network, d columns that are kept, B rows of one block.

x' = normalize((x - mean) V s): V the d directions of largest variance; s is 1 for a plain cut. For
whitening, s = ((1 - a) variance + a mean variance)^-1/2 (Jegou & Chum, "Negative evidences and
co-occurences in image retrieval: the benefit of PCA and whitening", ECCV 2012, with a = 0): what
many pictures have in common then counts no more than what tells few of them apart.
"""

import json
import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import DatasetError, IndexFileError
from cgdcli.index.rows import Rows

logger = logging.getLogger("cgdcli")

# Cars196's training classes (2940 rows of 1024 columns, pooled ResNet-18, 112 pixels): Recall@1 of
# plain rows 20.1, whitened at 0 20.5, 0.01 23.5, 0.1 24.2, 0.3 24.7, 0.6 23.8; mAP@R 2.9, then 2.0,
# 2.5, 3.0, 3.3, 3.5 (examples/benchmarks/better_vectors.md).
SHRINKAGE = 0.3
# Below it whitening cost those rows mAP@R: 1050 of 1024 columns 5.2 to 4.3, 1500 4.2 to 4.0, 2100
# 3.8 to 3.9 (Recall@1 24.9 to 28.0, 23.9 to 27.7, 23.6 to 28.2).
ROWS_A_COLUMN = 2
_VALUES_AT_ONCE = 4_000_000  # 32 MB in float64, twice
# Variance below this share of the largest is rounding: of float32 rows it is 1e-13 and less.
_NO_VARIANCE = 1e-10
_ARRAYS = ("mean", "matrix")


@dataclass(frozen=True, eq=False)
class Projection:
    """What rows of an index went through, and its queries go through.

    Attributes:
        mean: float32 (D,).
        matrix: float32 (D, d).
        learned_on: N.
        shrinkage: a of whitened columns; None where they are not whitened.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    learned_on: int
    shrinkage: float | None

    @property
    def dim(self) -> int:
        """D, what a network has to give."""
        return int(self.matrix.shape[0])

    def apply(self, rows: Rows, *, each: bool = False) -> NDArray[np.float32]:
        """Rows (B, D) to unit rows (B, d), computed in float64.

        Args:
            each: row by row, so that what a row becomes does not depend on its neighbours: a
                product's last bit does. 3 ms a row of 1024 columns, where embedding takes tens.

        Raises:
            DatasetError: a row is the mean itself, and so has no direction.
        """
        centred = rows.astype(np.float64) - self.mean
        matrix = self.matrix.astype(np.float64)
        found = (centred[:, None] @ matrix)[:, 0] if each else centred @ matrix
        lengths = np.sqrt(np.vecdot(found, found))
        if not lengths.all():
            raise DatasetError(
                f"an embedding is the mean of the {self.learned_on} that the projection was "
                "learned on; what is left of it has no direction",
                hint="leave out --whiten and --dim",
            )
        unit: NDArray[np.float32] = (found / lengths[:, None]).astype(np.float32)
        return unit

    def to_dict(self) -> dict[str, Any]:
        """For an index's header."""
        return {
            "from": self.dim,
            "to": int(self.matrix.shape[1]),
            "learned_on": self.learned_on,
            "whitened": self.shrinkage is not None,
            "shrinkage": self.shrinkage,
        }

    def save(self, database: sqlite3.Connection) -> None:
        """Put it into an index's table: arrays as little-endian float32 by row."""
        database.execute("DROP TABLE IF EXISTS projection")
        database.execute(
            "CREATE TABLE projection (name TEXT PRIMARY KEY, shape TEXT NOT NULL, "
            "dtype TEXT NOT NULL, data BLOB NOT NULL)"
        )
        for name in _ARRAYS:
            array = getattr(self, name)
            data = np.ascontiguousarray(array, "<f4").tobytes()
            database.execute(
                "INSERT INTO projection VALUES (?, ?, ?, ?)",
                (name, json.dumps(array.shape), "<f4", data),
            )

    @classmethod
    def saved(cls, database: sqlite3.Connection, facts: dict[str, Any]) -> Self:
        """The inverse; `facts` are those of the header, from `to_dict`.

        Raises:
            IndexFileError: the arrays are not whole.
        """
        try:
            found = {
                name: np.frombuffer(data, dtype).reshape(json.loads(shape))
                for name, shape, dtype, data in database.execute("SELECT * FROM projection")
            }
            mean, matrix = (found[name] for name in _ARRAYS)
            if (*mean.shape, facts["to"]) != matrix.shape or len(mean) != facts["from"]:
                raise ValueError(f"mean {mean.shape}, matrix {matrix.shape}")
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise IndexFileError(
                f"the projection that an index records is damaged: {error}",
                hint="copy both files of the index again, or embed again with --rebuild",
            ) from error
        return cls(mean, matrix, facts["learned_on"], facts["shrinkage"])


def learn_projection(
    rows: Rows,
    dim: int,
    *,
    whiten: bool,
    kept: NDArray[np.int64] | None = None,
    shrinkage: float = SHRINKAGE,
) -> Projection:
    """The projection of rows (N, D) to `dim` columns. Memory: a block of rows and four (D, D).

    The same rows give the same bits at one number of threads; a direction's sign, which PCA leaves
    open, is that of its largest component.

    Args:
        rows: float32 or float16; may be memory-mapped.
        kept: the rows that count; None for all.

    Raises:
        DatasetError: they are too few, or too much alike, for so many columns.
    """
    numbers = np.arange(len(rows)) if kept is None else kept
    check_enough(len(numbers), dim)
    mean = _mean(rows, numbers)
    variances, directions = np.linalg.eigh(_covariance(rows, numbers, mean))
    variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
    _check_rank(variances, dim, len(numbers))
    matrix = directions[:, :dim]
    largest = np.abs(matrix).argmax(axis=0)
    matrix = matrix * np.sign(matrix[largest, np.arange(dim)])
    if whiten:
        if len(numbers) < ROWS_A_COLUMN * rows.shape[1]:
            logger.warning(
                "whitening is learned on %d rows of %d columns: on fewer than %d a column it may "
                "cost more than it gives; `cgd evaluate DATA --whiten` says",
                len(numbers), rows.shape[1], ROWS_A_COLUMN,
            )  # fmt: skip
        # Ledoit and Wolf's kind of shrinkage: the last variances are too small, of few rows.
        shrunk = (1 - shrinkage) * variances[:dim] + shrinkage * variances.mean()
        # As a whole to the scale of 1, which float32 keeps best; rows are normalized anyway.
        matrix = matrix * np.sqrt(shrunk[0] / shrunk)
    return Projection(
        mean.astype(np.float32),
        np.ascontiguousarray(matrix, np.float32),
        len(numbers),
        shrinkage if whiten else None,
    )


def check_enough(rows: int, dim: int) -> None:
    """Whether so many rows can say which `dim` directions vary: N rows vary in N - 1 at most.

    Raises:
        DatasetError: they cannot.
    """
    if rows <= dim:
        fewer = f"at most --dim {rows - 1}" if rows > 1 else "two pictures at least"
        raise DatasetError(
            f"{rows} rows are too few to learn a projection to {dim} columns on; more than {dim} "
            "are wanted",
            hint=f"embed more pictures, or choose fewer columns ({fewer})",
        )


def _check_rank(variances: NDArray[np.float64], dim: int, rows: int) -> None:
    rank = int((variances > variances[0] * _NO_VARIANCE).sum())
    if rank < dim:
        raise DatasetError(
            f"the {rows} rows differ in {rank} directions only, and a projection to {dim} columns "
            "is wanted",
            hint=f"choose --dim {rank} or less" if rank else "embed pictures that differ",
        )


def _blocks(rows: Rows, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    at_once = max(1, _VALUES_AT_ONCE // rows.shape[1])
    for start in range(0, len(numbers), at_once):
        yield rows[numbers[start : start + at_once]].astype(np.float64)


def _mean(rows: Rows, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(rows.shape[1])
    for block in _blocks(rows, numbers):
        total += block.sum(axis=0)
    return total / len(numbers)


def _covariance(
    rows: Rows, numbers: NDArray[np.int64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 (D, D), about the mean: a difference of sums of squares would cancel."""
    total = np.zeros((len(mean), len(mean)))
    for block in _blocks(rows, numbers):
        centred = block - mean
        total += centred.T @ centred
    return total / len(numbers)
