"""Tensors as they lie in a file: mapped, not read, until somebody asks for their values. No torch.

A value is looked at in blocks, so that a file of any size is inspected in bounded memory.
"""

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.weights.header import Header

if TYPE_CHECKING:
    from torch import Tensor

Bytes = NDArray[np.uint8]

BLOCK_VALUES = 1 << 20
# safetensors' letters, as in its documentation, to NumPy's word; bfloat16 is no NumPy type.
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        name: the file's.
        dtype: NumPy's word, or the file's own for a type that NumPy does not have.
        bytes: that it takes, were it stored alone.
        read: its bytes, row-major.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    read: Callable[[], Bytes]

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def is_known(self) -> bool:
        """Whether its type is one whose values can be looked at."""
        return self.dtype in _NAMES.values()

    @property
    def is_float(self) -> bool:
        """Whether its values are floating point, of a type that can be looked at."""
        return self.dtype in _FLOATS

    @property
    def is_half(self) -> bool:
        """Whether its values have two bytes each."""
        return self.dtype in _HALVES

    def blocks(self, values: int = BLOCK_VALUES) -> Iterator[NDArray[Any]]:
        """Its values in order, flat, up to `values` at a time; halves as float32.

        Nothing comes of a type that cannot be looked at.
        """
        if not self.is_known:
            return
        raw = self.read()
        size = 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize
        for start in range(0, len(raw), values * size):
            yield _decode(np.ascontiguousarray(raw[start : start + values * size]), self.dtype)


def mapped_tensors(header: Header) -> list[StoredTensor]:
    """The tensors of a safetensors file; `read_header` has checked where they lie."""
    if not header.tensors:
        return []
    with header.path.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    held = np.frombuffer(mapped, dtype=np.uint8)[header.data_start :]
    return [
        StoredTensor(
            name,
            _NAMES.get(entry.dtype, entry.dtype),
            entry.shape,
            entry.stop - entry.start,
            _part(held, entry.start, entry.stop),
        )
        for name, entry in header.tensors.items()
    ]


def torch_tensor(name: str, tensor: "Tensor") -> StoredTensor:
    """A dense tensor on the CPU that torch has read or mapped."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    size = tensor.numel() * tensor.element_size()
    return StoredTensor(name, dtype, tuple(tensor.shape), size, _torch_reader(tensor))


def _torch_reader(tensor: "Tensor") -> Callable[[], Bytes]:
    import torch

    def read() -> Bytes:
        flat = tensor.detach().contiguous().reshape(-1)
        found: Bytes = flat.view(torch.uint8).numpy()
        return found

    return read


def _part(whole: Bytes, start: int, stop: int) -> Callable[[], Bytes]:
    return lambda: whole[start:stop]


def _decode(raw: Bytes, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":  # float32 without its lower half
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    values = raw.view(np.dtype(dtype).newbyteorder("<") if dtype != "bool" else np.bool_)
    return values.astype(np.float32) if dtype == "float16" else values
