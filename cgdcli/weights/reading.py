"""Reading weights files of any kind: no code is run, and memory stays bounded by the file.

What a file claims is compared with what it has before anything is allocated: a header of terabytes,
a zip of zeros, a view of four bytes as a billion numbers are refused.
"""

import json
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cgdcli.errors import CheckpointError
from cgdcli.files import OnBytes
from cgdcli.weights.archives import check_archive, damaged
from cgdcli.weights.header import MAX_HEADER_BYTES, read_header
from cgdcli.weights.other_files import other_kind
from cgdcli.weights.pickles import refusal

_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.safetensors")
_INDEX_SUFFIX = ".safetensors.index.json"


def read_content(
    path: Path, on_progress: OnBytes | None = None, *, check_bytes: bool = True
) -> Any:
    """What a weights file holds: tensors by name, or whatever was saved around them.

    Read are .pth and its kin by `torch.save` (zip or older), .safetensors, and a sharded one by
    its index or by any of its shards. Tensors stay mapped to the file where they can.

    Args:
        check_bytes: read a zip whole to compare its CRCs; off to look at what kind of file it is.

    Raises:
        CheckpointError: missing, damaged, not what it claims, or a pickle that names code.
    """
    _check_regular(path)
    if path.name.endswith(_INDEX_SUFFIX):
        return _read_shards(path)
    shard = _SHARD.fullmatch(path.name)
    if shard:
        return _read_shards(path.with_name(shard["stem"] + _INDEX_SUFFIX), path)
    if path.suffix == ".safetensors" or _looks_like_safetensors(path):
        return _read_safetensors(path)
    content = _read_torch(path, on_progress, check_bytes=check_bytes)
    _check_tensors(path, content)
    return content


def _check_regular(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb"):
                return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"cannot read `{path}`: {why}", hint="check the spelling, and the folder you are in"
        ) from error
    kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
    raise CheckpointError(
        f"`{path}` is {kind}; a weights file is wanted", hint="name the .pth in it"
    )


def _looks_like_safetensors(path: Path) -> bool:
    """Whatever it is called: eight bytes of length, then JSON."""
    with path.open("rb") as stream:
        start = stream.read(9)
    if len(start) < 9 or start[8:] != b"{":
        return False
    length: int = struct.unpack("<Q", start[:8])[0]
    return 2 <= length <= MAX_HEADER_BYTES


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"cannot read `{path}`: {error}", hint="copy or download it again"
        ) from error


def _read_shards(index: Path, shard: Path | None = None) -> dict[str, Tensor]:
    """All tensors of a sharded file, each from the shard that its index names."""
    whose = f"`{shard}` is one of several shards" if shard else f"`{index}`"
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {str(name): str(file) for name, file in named.items()}
    except OSError as error:
        raise CheckpointError(
            f"{whose}, and their index `{index}` cannot be read: {error.strerror}",
            hint="put the shards and their index into one folder",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"`{index}` is no index of shards: a weight_map from names to files is wanted",
            hint="copy or download it again",
        ) from error
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        if Path(file).name != file:
            raise CheckpointError(
                f"`{index}` names the shard {file!r}, which is not beside it",
                hint="shards lie in the folder of their index",
            )
        held = _read_safetensors(_present(index, index.with_name(file)))
        wanted = {name for name, place in files.items() if place == file}
        if set(held) != wanted:
            odd = sorted(set(held) ^ wanted)[0]
            raise CheckpointError(
                f"`{index}` and its shard `{file}` disagree on the entry {odd}",
                hint="the files are not of one checkpoint; download them together",
            )
        tensors |= held
    return {name: tensors[name] for name in files}


def _present(index: Path, shard: Path) -> Path:
    if not shard.is_file():
        raise CheckpointError(
            f"the shard `{shard}`, which `{index}` names, is missing",
            hint="put all shards into the folder of their index",
        )
    return shard


def _read_torch(path: Path, on_progress: OnBytes | None, *, check_bytes: bool) -> Any:
    zipped = zipfile.is_zipfile(path)
    if not zipped and (other := other_kind(path)):
        raise other
    if zipped:
        check_archive(path, on_progress, check_bytes=check_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        # On damaged bytes torch.load raises nearly everything: RuntimeError, EOFError, KeyError,
        # UnicodeDecodeError ... PyTorch's own words are left out: they are of its insides, or
        # advise to turn safety off.
        raise (refusal(path) or damaged(path, "its pickle cannot be read")) from error


def _check_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that are more than the bytes behind them; each container is seen once."""
    seen: set[int] = set()
    waiting = [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            _check_tensor(path, name, value)
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            inside = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(str(key), item) for key, item in inside]


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        found = f"is {kind}; plain dense numbers are wanted"
    elif tensor.device.type != "cpu":
        found = f"has no values: it was saved from the device {tensor.device.type}"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        held = tensor.untyped_storage().nbytes()
        found = f"claims {tensor.numel()} numbers of a storage of {held} bytes"
    else:
        return
    raise CheckpointError(
        f"the entry `{name}` of `{path}` {found}",
        hint="save plain tensors: {name: value.detach().cpu().contiguous() ...}",
    )
