"""What is odd about the tensors of a network. One read of the file, in blocks. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cgdcli.inspection.tensors import StoredTensor
from cgdcli.reports.inspection import Anomaly
from cgdcli.words import counted

# Vectors may be equal in sound networks: the BatchNorm biases at the end of a residual block's two
# ways begin at 0 and have the same gradient, so they stay equal to the last bit.
_DUPLICATE_DIMENSIONS, _DUPLICATE_VALUES = 2, 16


@dataclass(frozen=True)
class Values:
    """A tensor's values at a glance.

    Attributes:
        nan, inf: how many; `first_nan`, `first_inf` the flat place of the first.
        low, high: of the finite ones; None where there are none.
    """

    nan: int = 0
    inf: int = 0
    first_nan: int | None = None
    first_inf: int | None = None
    low: float | None = None
    high: float | None = None

    @property
    def constant(self) -> bool:
        """Whether all values are one and the same number."""
        return self.nan + self.inf == 0 and self.low is not None and self.low == self.high


def scan(tensor: StoredTensor) -> Values:
    """Look at every value once."""
    place = 0
    counts = {"nan": 0, "inf": 0}
    firsts: dict[str, int] = {}
    lows: list[float] = []
    highs: list[float] = []
    for block in tensor.blocks():
        low, high, size = block.min(), block.max(), block.size
        if not (np.isfinite(low) and np.isfinite(high)):
            for kind, bad in (("nan", np.isnan(block)), ("inf", np.isinf(block))):
                if bad.any():
                    counts[kind] += int(bad.sum())
                    firsts.setdefault(kind, place + int(np.argmax(bad)))
            finite = block[np.isfinite(block)]
            low, high = (finite.min(), finite.max()) if finite.size else (None, None)
        if low is not None:
            lows.append(float(low))
            highs.append(float(high))
        place += size
    return Values(
        counts["nan"],
        counts["inf"],
        firsts.get("nan"),
        firsts.get("inf"),
        min(lows, default=None),
        max(highs, default=None),
    )


@dataclass(frozen=True)
class Scan:
    """The tensors of a file and what their values are, by the file's names."""

    tensors: Mapping[str, StoredTensor]
    values: Mapping[str, Values]

    @classmethod
    def of(cls, tensors: Sequence[StoredTensor]) -> "Scan":
        """Read them all, one after the other."""
        return cls({t.name: t for t in tensors}, {t.name: scan(t) for t in tensors})

    def at(self, name: str, *wanted: float) -> bool:
        """Whether an entry is absent or all one value, one of `wanted`."""
        values = self.values.get(name)
        return values is None or (values.constant and values.low in wanted)

    def batch_norms(self) -> list[str]:
        """Names of the BatchNorm layers, by their statistics."""
        return [n.removesuffix(".running_var") for n in self.tensors if n.endswith(".running_var")]

    def never_counted(self, layer: str) -> bool:
        """Whether a BatchNorm layer has the statistics it is made with: mean 0, variance 1."""
        start = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
        return all(self.at(f"{layer}.{name}", value) for name, value in start.items())

    def never_trained(self, layer: str) -> bool:
        """Whether a BatchNorm layer is wholly as it is made. Some makers begin with weight 0."""
        return (
            self.never_counted(layer)
            and self.at(f"{layer}.weight", 0.0, 1.0)
            and self.at(f"{layer}.bias", 0.0)
        )


def tensor_anomalies(
    found: Scan, *, profiler: Sequence[str] = (), shared: Sequence[Sequence[str]] = ()
) -> tuple[Anomaly, ...]:
    """What is odd, the worst first.

    Args:
        found: all tensors but the profiler's.
        profiler: names of entries that a profiler left.
        shared: groups of names that are one tensor in the file: no duplicates of each other.
    """
    anomalies = [
        *_not_finite(found),
        *_negative_variance(found),
        *_one_value(found),
        *_batch_norm(found),
        *_duplicates(found, shared),
        *(
            Anomaly("half precision", t.name, t.dtype, t.elements)
            for t in found.tensors.values()
            if t.is_half
        ),
        *(Anomaly("profiler entry", name, "a counter of thop, no weight") for name in profiler),
    ]
    return tuple(anomalies)


def notes_on_values(found: Scan) -> tuple[str, ...]:
    """What is not odd in itself, but worth a word."""
    layers = [
        layer
        for layer in found.batch_norms()
        if found.never_counted(layer) and not found.never_trained(layer)
    ]
    unseen = [tensor for tensor in found.tensors.values() if not tensor.is_known]
    notes = []
    if layers:
        notes.append(
            f"{counted(len(layers), 'BatchNorm layer has', 'BatchNorm layers have')} trained "
            f"weights and a new one's statistics (mean 0, variance 1; {layers[0]} ...): folded on "
            "purpose, or never gathered"
        )
    if unseen:
        types = ", ".join(sorted({t.dtype for t in unseen}))
        notes.append(f"not looked at: {counted(len(unseen), 'entry', 'entries')} of type {types}")
    return tuple(notes)


def _not_finite(found: Scan) -> Iterator[Anomaly]:
    for name, values in found.values.items():
        tensor = found.tensors[name]
        for kind, count, first in (
            ("NaN", values.nan, values.first_nan),
            ("Inf", values.inf, values.first_inf),
        ):
            if first is not None:
                place = [int(i) for i in np.unravel_index(first, tensor.shape or (1,))]
                words = f"{count} of {counted(tensor.elements, 'value')}, first at {place}"
                yield Anomaly(kind, name, words, count)


def _negative_variance(found: Scan) -> Iterator[Anomaly]:
    for name, values in found.values.items():
        if name.endswith(".running_var") and values.low is not None and values.low < 0:
            tensor = found.tensors[name]
            count = sum(int((block < 0).sum()) for block in tensor.blocks())
            words = f"{count} of {tensor.elements} values below 0, down to {values.low:.6g}"
            yield Anomaly("negative variance", name, words, count)


def _one_value(found: Scan) -> Iterator[Anomaly]:
    """Layers that say nothing: matrices and filters of one value, BatchNorm that lets none pass.

    Vectors of one value are common in sound networks: biases that start at 0, folded BatchNorm.
    """
    layers = set(found.batch_norms())
    for name, values in found.values.items():
        tensor = found.tensors[name]
        if not (tensor.is_float and tensor.elements > 1 and values.constant):
            continue
        layer, _, last = name.rpartition(".")
        gate = layer in layers and last in ("weight", "running_var")
        closed = gate and values.low == 0 and not found.never_trained(layer)
        if len(tensor.shape) > 1 or closed:
            kind = "all zero" if values.low == 0 else "constant"
            yield Anomaly(
                kind,
                name,
                f"all {tensor.elements} values are {values.low:.6g}",
                tensor.elements,
            )


def _batch_norm(found: Scan) -> Iterator[Anomaly]:
    for layer in found.batch_norms():
        if found.never_trained(layer):
            yield Anomaly("BatchNorm never trained", layer, "weights and statistics of a new layer")


def _duplicates(found: Scan, shared: Sequence[Sequence[str]]) -> Iterator[Anomaly]:
    """Weights of equal bytes: looked for among those of equal size and range, then compared."""
    also = {name for group in shared for name in group[1:]}
    alike: dict[tuple[object, ...], list[StoredTensor]] = {}
    for name, tensor in found.tensors.items():
        values = found.values[name]
        if (
            name in also
            or not tensor.is_float
            or len(tensor.shape) < _DUPLICATE_DIMENSIONS
            or tensor.elements < _DUPLICATE_VALUES
            or values.constant
        ):
            continue
        key = (tensor.dtype, tensor.bytes, values)
        earlier = alike.setdefault(key, [])
        same = next((other for other in earlier if _equal(tensor, other)), None)
        if same is None:
            earlier.append(tensor)
        else:
            yield Anomaly("duplicate", name, f"the same bytes as {same.name}", tensor.elements)


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    a, b, size = one.read(), other.read(), 1 << 24
    return all(
        np.array_equal(a[start : start + size], b[start : start + size])
        for start in range(0, len(a), size)
    )
