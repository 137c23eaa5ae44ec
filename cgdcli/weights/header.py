"""The header of a safetensors file, and the fingerprint of a model. No torch.

A file is: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes
(https://huggingface.co/docs/safetensors). Our metadata is one JSON text under the key `cgd`.
"""

import hashlib
import json
import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cgdcli.config import CGDConfig
from cgdcli.errors import CheckpointError, ConfigError
from cgdcli.files import OnBytes

FORMAT = 1
METADATA_KEY = "cgd"
# A ResNet-152's is 60 kB; parsing takes ten times the memory, so a large one is a bomb.
MAX_HEADER_BYTES = 10_000_000
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "U16": 2, "U32": 4, "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
TensorBytes = tuple[str, str, tuple[int, ...], memoryview]


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header lists it; `start` and `stop` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A parsed header: tensors, our metadata (None in a foreign file), where the bytes begin."""

    path: Path
    tensors: dict[str, TensorEntry]
    metadata: dict[str, Any] | None
    data_start: int

    def config(self) -> CGDConfig:
        """The network that the file says it is.

        Raises:
            CheckpointError: the file is not one of ours, or of another version.
        """
        if self.metadata is None:
            raise CheckpointError(
                f"`{self.path}` carries no cgd configuration",
                hint=f"convert it first: cgd convert-weights '{self.path}'",
            )
        if self.metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"`{self.path}` has checkpoint format {self.metadata.get('format')!r}; "
                f"this version of cgd reads {FORMAT}",
                hint="use the version of cgd that wrote it, or a newer one",
            )
        try:
            return CGDConfig.from_dict(self.metadata["config"])
        except (KeyError, TypeError, AttributeError, ConfigError) as error:
            raise CheckpointError(
                f"the configuration in `{self.path}` cannot be read: {error}",
                hint="the file was damaged or edited; take the original",
            ) from error


def read_header(path: Path) -> Header:
    """Parse the header of a safetensors file and check it against the file's size.

    Raises:
        CheckpointError: missing, cut short, or not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            prefix = handle.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise _damaged(path, f"a header of {length} bytes in a file of {size}")
            text = handle.read(length)
    except OSError as error:
        raise CheckpointError(
            f"cannot read `{path}`: {error.strerror or error}",
            hint="check the spelling, and the folder you are in",
        ) from error
    tensors, metadata = _parse(path, text)
    end = _check_layout(path, tensors)
    if 8 + length + end != size:
        raise _damaged(path, f"{8 + length + end} bytes are announced, {size} are there")
    return Header(path, tensors, metadata, 8 + length)


def fingerprint(
    config: CGDConfig, tensors: Iterable[TensorBytes], on_progress: OnBytes | None = None
) -> str:
    """Identify what makes embeddings: SHA-256 in hex, the same from a file and from a live model.

    Args:
        config: its part that makes embeddings is hashed: all but `classes`.
        tensors: (name, safetensors dtype, shape, bytes) in any order; classifier entries and
            `num_batches_tracked` are left out, since no embedding depends on them.
    """
    made_by = {key: value for key, value in config.to_dict().items() if key != "classes"}
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
    entries = sorted(tensors, key=lambda entry: entry[0])
    done, total = 0, sum(len(data) for *_, data in entries)
    for name, dtype, shape, data in entries:
        done += len(data)
        if on_progress:
            on_progress(done, total)
        if name.startswith("classifier.") or name.endswith("num_batches_tracked"):
            continue
        digest.update(f"\0{name}\0{dtype}\0{shape}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def file_fingerprint(header: Header) -> str:
    """The fingerprint of one of our files, from its bytes; they are mapped, not copied."""
    config = header.config()
    with header.path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    data = memoryview(mapped)[header.data_start :]
    return fingerprint(
        config,
        (
            (name, entry.dtype, entry.shape, data[entry.start : entry.stop])
            for name, entry in header.tensors.items()
        ),
    )


def _parse(path: Path, text: bytes) -> tuple[dict[str, TensorEntry], dict[str, Any] | None]:
    try:
        entries = json.loads(text, object_pairs_hook=_without_repeats)
        strings = entries.pop("__metadata__", None) or {}
        metadata = json.loads(strings[METADATA_KEY]) if METADATA_KEY in strings else None
        tensors = {
            name: TensorEntry(
                str(entry["dtype"]),
                tuple(map(int, entry["shape"])),
                *map(int, entry["data_offsets"]),
            )
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "its header is not the JSON it should be") from error
    if metadata is not None and not isinstance(metadata, dict):
        raise _damaged(path, "its cgd metadata is no JSON object")
    return tensors, metadata


def _check_layout(path: Path, tensors: dict[str, TensorEntry]) -> int:
    """Each tensor's bytes follow the one before, and are as many as its shape says; the end."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.dtype not in _ITEM_BYTES:
            raise _damaged(path, f"{name} is of the unknown type {entry.dtype}")
        if min(entry.shape, default=0) < 0 or entry.start != end:
            raise _damaged(path, f"{name} begins at {entry.start}, where {end} was expected")
        if entry.stop - entry.start != prod(entry.shape) * _ITEM_BYTES[entry.dtype]:
            raise _damaged(
                path, f"{name} of shape {list(entry.shape)} has {entry.stop - entry.start} bytes"
            )
        end = entry.stop
    return end


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"`{path}` is not a whole safetensors file: {found}",
        hint="it was cut short or is of another kind; copy or download it again",
    )
