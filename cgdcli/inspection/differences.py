"""Two tensors of one shape, value by value, in blocks; two configs, name by name. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.inspection.tensors import BLOCK_VALUES, StoredTensor
from cgdcli.reports.inspection import EntryDifference


@dataclass(frozen=True)
class Sums:
    """What figures are made of; sums of two are those of both together.

    Attributes:
        absolute: sum of absolute differences over `values`, those finite in both.
        product, square_a, square_b: for the cosine.
    """

    entries: int = 0
    bit_equal: int = 0
    values: int = 0
    not_finite: int = 0
    largest: float = 0.0
    absolute: float = 0.0
    product: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.entries + other.entries,
            self.bit_equal + other.bit_equal,
            self.values + other.values,
            self.not_finite + other.not_finite,
            max(self.largest, other.largest),
            self.absolute + other.absolute,
            self.product + other.product,
            self.square_a + other.square_a,
            self.square_b + other.square_b,
        )

    def report(self, name: str) -> EntryDifference:
        """The figures. Of integers (counters) only whether they are equal."""
        norms = math.sqrt(self.square_a) * math.sqrt(self.square_b)
        return EntryDifference(
            name,
            self.entries,
            self.bit_equal,
            self.values,
            self.largest if self.values else None,
            self.absolute / self.values if self.values else None,
            min(1.0, max(-1.0, self.product / norms)) if norms else None,
            self.not_finite,
        )


def compare_tensors(a: StoredTensor, b: StoredTensor) -> Sums:
    """Compare two tensors of one shape, in float64; they may be of unlike types."""
    assert a.shape == b.shape
    equal = a.dtype == b.dtype
    sums = Sums(entries=1)
    step = BLOCK_VALUES * (a.bytes // a.elements) if a.elements else 1
    one, other = a.read(), b.read()
    equal = equal and all(
        np.array_equal(one[start : start + step], other[start : start + step])
        for start in range(0, len(one), step)
    )
    if a.is_float and b.is_float:
        for block_a, block_b in zip(a.blocks(), b.blocks(), strict=True):
            sums += _sums(block_a.astype(np.float64), block_b.astype(np.float64))
    return sums + Sums(bit_equal=int(equal))


def _sums(a: NDArray[np.float64], b: NDArray[np.float64]) -> Sums:
    finite = np.isfinite(a) & np.isfinite(b)
    missing = int(a.size - finite.sum())
    if missing:
        a, b = a[finite], b[finite]
    if not a.size:
        return Sums(not_finite=missing)
    difference = np.abs(a - b)
    return Sums(
        values=a.size,
        not_finite=missing,
        largest=float(difference.max()),
        absolute=float(difference.sum()),
        product=float(a @ b),
        square_a=float(a @ a),
        square_b=float(b @ b),
    )


def config_differences(
    a: Mapping[str, Any] | None, b: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """What differs, nested names joined by dots; nothing where one of them is not known."""
    if a is None or b is None:
        return {}
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys((*a, *b)):
        one, other = a.get(name), b.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = config_differences(one, other)
            found |= {f"{name}.{key}": values for key, values in inner.items()}
        elif _listed(one) != _listed(other):
            found[name] = (one, other)
    return found


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # JSON has no tuples
