"""Our checkpoint: one safetensors file, tensors under our names, the whole config in its header."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cgdcli.config import CGDConfig
from cgdcli.errors import CheckpointError
from cgdcli.files import OnBytes, atomic_path
from cgdcli.model.cgd import CGD, empty_model
from cgdcli.reports import ModelInfo
from cgdcli.weights.header import (
    FORMAT,
    METADATA_KEY,
    Header,
    TensorBytes,
    fingerprint,
    read_header,
)
from cgdcli.weights.mapped import pages_of
from cgdcli.weights.sources import check_fingerprint, model_info_of
from cgdcli.weights.writing import write_tensors

_CHUNK = 1 << 24
_THREADS = 2
_ALIGNMENT = 64
_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


@dataclass(frozen=True)
class Checkpoint:
    """A model at rest.

    Attributes:
        tensors: every entry of the model's `state_dict`, by our names.
        class_names: of the auxiliary classifier, in the order of its outputs; may be empty.
        origin: where the weights come from (`cgd train`, a converted file ...).
        assumed: what that source did not say and was taken by convention, in words.
        training: settings and figures of the run, for people.
    """

    config: CGDConfig
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """What identifies the embeddings that this model makes."""
        return fingerprint(self.config, tensor_bytes(self.tensors))

    def model(self, what: str = "the checkpoint", called: Mapping[str, str] | None = None) -> CGD:
        """The network with these weights, in eval mode on the CPU, loaded strictly.

        Args:
            what: the file, for an error's words.
            called: the file's own names of our entries, for an error's words.

        Raises:
            CheckpointError: names or shapes differ from the config's network.
        """
        model = empty_model(self.config)
        tensors = {name: _aligned(tensor) for name, tensor in self.tensors.items()}
        load_strictly(model, tensors, what, called)
        return model.eval()

    def save(self, path: Path, on_progress: OnBytes | None = None) -> str:
        """Write the file atomically, without a second copy of its tensors; return its fingerprint.

        Entries that share memory are written once each: a file has no such thing.
        """
        entries = tensor_bytes(self.tensors)
        print_of_it = fingerprint(self.config, entries, on_progress)
        metadata = {
            "format": FORMAT,
            "fingerprint": print_of_it,
            "config": self.config.to_dict(),
            "classes": list(self.class_names),
            "origin": self.origin,
            "assumed": list(self.assumed),
            "training": self.training,
        }
        with atomic_path(path) as temporary:
            write_tensors(temporary, entries, {METADATA_KEY: json.dumps(metadata)}, on_progress)
        return print_of_it


def _aligned(tensor: Tensor) -> Tensor:
    """The same numbers at an address that is a multiple of 64, as PyTorch's own memory is.

    Tensors mapped from a file lie where its header ends. A product of a single row takes another
    path there: one picture's embedding differed by 5e-8 between two files of equal weights.
    """
    return tensor.clone() if tensor.data_ptr() % _ALIGNMENT else tensor


def load_checkpoint(path: Path) -> tuple[Checkpoint, ModelInfo]:
    """Read one of our files and check that its bytes are those that were written.

    Raises:
        CheckpointError: missing, damaged, foreign or of another version.
        MismatchError: the tensors were changed since; the header's fingerprint is not theirs.
    """
    header = read_header(path)
    config = header.config()
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read the tensors of `{path}`: {error}", hint="copy or download it again"
        ) from error
    saved = header.metadata or {}
    checkpoint = Checkpoint(
        config,
        tensors,
        tuple(saved.get("classes", ())),
        dict(saved.get("origin", {})),
        tuple(saved.get("assumed", ())),
        dict(saved.get("training", {})),
    )
    found = checkpoint.fingerprint()
    check_fingerprint(header, found)
    return checkpoint, model_info_of(header, found)


def verify_written(path: Path, checkpoint: Checkpoint, on_progress: OnBytes | None = None) -> None:
    """Compare a written file with what was meant, bit for bit, in small pieces; remove it if not.

    Raises:
        CheckpointError: it differs.
    """
    header = read_header(path)
    saved = {name: tensor for name, *_, tensor in tensor_bytes(checkpoint.tensors)}
    same = header.tensors.keys() == saved.keys() and header.config() == checkpoint.config
    if not (same and _reads_as(path, header, saved, on_progress)):
        path.unlink()
        raise CheckpointError(
            f"`{path}` did not read back as it was written; it was removed",
            hint="check the disk, then convert again",
        )


def _reads_as(
    path: Path, header: Header, saved: dict[str, memoryview], on_progress: OnBytes | None
) -> bool:
    """Whether a file holds these bytes, compared in threads; to map it would double the memory."""
    pages = {name: pages_of(data) for name, data in saved.items()}
    pieces = [(n, at) for n, data in saved.items() for at in range(0, len(data), _CHUNK)]

    def compare(piece: tuple[str, int]) -> int:
        name, start = piece
        wanted = np.frombuffer(saved[name][start : start + _CHUNK], np.uint8)
        with path.open("rb", buffering=0) as stream:
            stream.seek(header.data_start + header.tensors[name].start + start)
            found = np.frombuffer(stream.read(len(wanted)), np.uint8)
        # Not `==` of memoryviews: that compares byte by byte, 2 GB in 3.8 s.
        same = np.array_equal(found, wanted)
        pages[name].release(start, len(wanted))
        return len(wanted) if same else -1

    done, total = 0, sum(map(len, saved.values()))
    with ThreadPoolExecutor(_THREADS) as pool:
        for length in pool.map(compare, pieces):
            if length < 0:
                return False
            done += length
            if on_progress:
                on_progress(done, total)
    return True


def shared_groups(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Names whose tensors overlap in memory, in groups; neighbours in one storage do not."""
    places = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size(), name)
        for name, tensor in tensors.items()
        if tensor.numel()
    )
    groups: list[list[str]] = []
    reach = 0
    for start, end, name in places:
        if groups and start < reach:
            groups[-1].append(name)
        else:
            groups.append([name])
        reach = max(reach, end)
    return [sorted(names) for names in groups if len(names) > 1]


def model_fingerprint(model: CGD) -> str:
    """The fingerprint of a live model, as its checkpoint would have it."""
    return fingerprint(model.config, tensor_bytes(model.state_dict()))


def load_strictly(
    module: nn.Module,
    tensors: dict[str, Tensor],
    what: str,
    called: Mapping[str, str] | None = None,
) -> None:
    """Put `tensors` into `module` (also one on the meta device): all names, all shapes, or nothing.

    Floating-point entries are brought to float32.

    Raises:
        CheckpointError: it names the missing, unknown and misshapen entries.
    """
    state = module.state_dict()
    expected = {name: tuple(value.shape) for name, value in state.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    theirs = {name: (called or {}).get(name, name) for name in found}
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unknown {theirs[name]}" for name in found if name not in expected]
    problems += [
        f"{theirs[name]} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [
        f"{theirs[name]} is {value.dtype}, not floating point"
        for name, value in tensors.items()
        if name in state and state[name].is_floating_point() and not value.is_floating_point()
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"{what} does not fit the network: {'; '.join(problems[:5])}{more}",
            hint="check backbone, descriptors, dimension and classes against the file",
        )
    wanted = {
        name: value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    module.load_state_dict(wanted, strict=True, assign=True)


def tensor_bytes(tensors: dict[str, Tensor]) -> list[TensorBytes]:
    """Entries for `header.fingerprint`."""
    entries = []
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPE_NAMES:
            raise CheckpointError(
                f"{name} is {tensor.dtype}; a network's tensors are floating point, counters int64",
                hint="the file is no whole checkpoint; convert or train it again",
            )
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        data = memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
        entries.append((name, _DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), data))
    return entries
