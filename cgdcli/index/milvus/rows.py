"""The vectors of a collection, read like an array: by number, or all of them where that fits."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index.milvus.layout import VECTOR
from cgdcli.index.milvus.server import MilvusServer
from cgdcli.index.parted_rows import PartedRows

Ids = NDArray[np.int64]
# All rows are brought here, for what compares all with all, up to so many bytes: 500 000 of 512
# columns. Beyond it whoever has the index in files is sooner done.
MOST_BYTES = 1 << 30
_BYTES_AT_ONCE = 8 << 20
_KEPT_BYTES = 64 << 20


class MilvusRows(PartedRows):
    """Rows (N, D), float32, of one collection. Those read last are kept, 64 MB of them."""

    def __init__(self, server: MilvusServer, collection: str, rows: int, dim: int) -> None:
        self.server, self.collection = server, collection
        self.starts = np.array([0, rows])
        self.dtype, self.shape = np.dtype(np.float32), (rows, dim)
        self._kept: OrderedDict[int, NDArray[np.float32]] = OrderedDict()

    @cached_property
    def parts(self) -> Sequence[NDArray[Any]]:  # type: ignore[override]
        """All rows, in memory.

        Raises:
            MismatchError: they are too many.
        """
        self._check_fits(len(self))
        whole = np.empty(self.shape, np.float32)
        for start, stop in self._pages(len(self)):
            whole[start:stop] = self._fetched(np.arange(start, stop))
        return (whole,)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, slice):
            return self.gathered(np.arange(*key.indices(len(self))))
        numbers = np.asarray(key)
        if numbers.dtype == np.bool_:
            return self.gathered(np.flatnonzero(numbers))
        rows = self.gathered(np.atleast_1d(numbers.astype(np.int64)))
        found: NDArray[Any] = rows[0] if numbers.ndim == 0 else rows
        return found

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for start, stop in self._pages(len(self)):
            yield from self._fetched(np.arange(start, stop))

    def gathered(self, numbers: Ids) -> NDArray[np.float32]:
        """Rows by number, float32 (B, D), in the order of `numbers`.

        Raises:
            MismatchError: they are too many.
            IndexError: there is no such row.
            IndexFileError: the server has lost one.
        """
        self._check_fits(len(numbers))
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
        rows = np.empty((len(numbers), self.shape[1]), np.float32)
        missing = [i for i, row in enumerate(numbers.tolist()) if row not in self._kept]
        for i in set(range(len(numbers))) - set(missing):
            rows[i] = self._kept[int(numbers[i])]
        for start, stop in self._pages(len(missing)):
            wanted = missing[start:stop]
            rows[wanted] = self._fetched(numbers[wanted])
        return rows

    def keep(self, row: int, vector: Any) -> None:
        """Have a row at hand that came with an answer."""
        self._kept[row] = np.asarray(vector, np.float32)
        if len(self._kept) * 4 * self.shape[1] > _KEPT_BYTES:
            self._kept.popitem(last=False)

    def _check_fits(self, rows: int) -> None:
        size = 4 * rows * self.shape[1]
        if size > MOST_BYTES:
            raise MismatchError(
                f"this wants {rows} rows of `{self.server.address}` on this machine: they are "
                f"{size / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:.1f} GB are fetched",
                hint="give the index in files that was sent there, or ask by search",
            )

    def _pages(self, rows: int) -> Iterator[tuple[int, int]]:
        step = max(1, _BYTES_AT_ONCE // (4 * self.shape[1]))
        for start in range(0, rows, step):
            yield start, min(start + step, rows)

    def _fetched(self, numbers: Ids) -> NDArray[np.float32]:
        condition = f"row in [{', '.join(map(str, numbers.tolist()))}]"
        found = self.server.query(self.collection, condition, ["row", VECTOR])
        vectors = {int(record["row"]): record[VECTOR] for record in found}
        lost = sorted(set(numbers.tolist()) - set(vectors))
        if lost:
            raise IndexFileError(
                f"`{self.server.address}` has lost rows, such as {lost[0]}",
                hint="send the index again, with --force",
            )
        return np.array([vectors[row] for row in numbers.tolist()], np.float32)
