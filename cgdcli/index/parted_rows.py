"""Rows of several arrays as if they were one, without copying them together."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

Numbers = NDArray[np.int64] | Sequence[int]


class PartedRows:
    """Arrays (N_i, D) of one dtype, read like an array (N, D): by number, slice or numbers.

    A slice that lies in one array is a view of it; other answers are copies, so that blocks of
    bounded length need bounded memory. `np.asarray` copies all.

    Args:
        parts: at least one; they may be memory-mapped, and empty.
    """

    ndim = 2

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self.parts = tuple(parts)
        assert len({(part.dtype, part.shape[1]) for part in self.parts}) == 1
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.dtype: np.dtype[Any] = self.parts[0].dtype
        self.shape = (int(self.starts[-1]), int(self.parts[0].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Values in all."""
        return self.shape[0] * self.shape[1]

    def place(self, row: int) -> tuple[int, int]:
        """The array that a row is in, and its number there.

        Raises:
            IndexError: there is no such row.
        """
        number = row + len(self) if row < 0 else row
        if not 0 <= number < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        # To the right of equal starts: those are of empty arrays.
        part = int(np.searchsorted(self.starts, number, side="right")) - 1
        return part, number - int(self.starts[part])

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | Numbers | NDArray[np.bool_]) -> NDArray[Any]: ...
    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            return self._gathered(np.arange(start, stop, step))
        numbers = np.asarray(key)
        if numbers.dtype == np.bool_:
            return self._gathered(np.flatnonzero(numbers))
        if numbers.ndim == 0:
            part, row = self.place(int(numbers))
            found: NDArray[Any] = self.parts[part][row]
            return found
        return self._gathered(numbers.astype(np.int64))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for part in self.parts:
            yield from part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the rows are in several arrays: one array of them is a copy")
        whole = np.concatenate(self.parts)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _between(self, start: int, stop: int) -> NDArray[Any]:
        touched = []
        for part, first in zip(self.parts, self.starts.tolist(), strict=False):
            inside = part[max(0, start - first) : max(0, stop - first)]
            if len(inside):
                touched.append(inside)
        if len(touched) == 1:
            return touched[0]
        return np.concatenate(touched) if touched else np.empty((0, self.shape[1]), self.dtype)

    def _gathered(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
        rows = np.empty((len(numbers), self.shape[1]), self.dtype)
        part_of = np.searchsorted(self.starts, numbers, side="right") - 1
        for part in np.unique(part_of):
            places = np.flatnonzero(part_of == part)
            rows[places] = self.parts[part][numbers[places] - self.starts[part]]
        return rows
