"""Foreign weights files: read without running code, unwrap, rename; every entry accounted for."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cgdcli.config import Backbone
from cgdcli.errors import CheckpointError
from cgdcli.weights.formats import Format
from cgdcli.weights.formats.own import OWN
from cgdcli.weights.formats.reference import REFERENCE
from cgdcli.weights.formats.torchvision import TORCHVISION
from cgdcli.weights.header import read_header

FORMATS = (OWN, REFERENCE, TORCHVISION)
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
# What wrappers put before every name: DataParallel/DDP, torch.compile, a Lightning or user module.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
PROFILER_ENTRIES = ("total_ops", "total_params")


@dataclass(frozen=True)
class ForeignWeights:
    """A foreign file under our names.

    Attributes:
        tensors: by our names.
        renamed: source name to ours, where they differ; `kept` are those that do not.
        dropped: source name to the reason.
        wrapper: what stood around the entries, in words; empty for a bare state_dict.
    """

    path: Path
    format: Format
    tensors: dict[str, Tensor]
    kept: tuple[str, ...]
    renamed: dict[str, str]
    dropped: dict[str, str]
    filled: tuple[str, ...]
    wrapper: str
    source_entries: int


@dataclass(frozen=True)
class Architecture:
    """What tensors can say of the network: everything but letters, strides, p and the transform."""

    backbone: Backbone
    branches: int
    embedding_dim: int | None
    classes: int


# (blocks per layer, has a third convolution, shape of layer1.0.conv2.weight)
_BACKBONES = {
    ((2, 2, 2, 2), False, (64, 64, 3, 3)): Backbone.resnet18,
    ((3, 4, 6, 3), False, (64, 64, 3, 3)): Backbone.resnet34,
    ((3, 4, 6, 3), True, (64, 64, 3, 3)): Backbone.resnet50,
    ((3, 4, 23, 3), True, (64, 64, 3, 3)): Backbone.resnet101,
    ((3, 8, 36, 3), True, (64, 64, 3, 3)): Backbone.resnet152,
    ((3, 4, 6, 3), True, (128, 4, 3, 3)): Backbone.resnext50_32x4d,
    ((3, 4, 23, 3), True, (256, 8, 3, 3)): Backbone.resnext101_32x8d,
    ((3, 4, 23, 3), True, (256, 4, 3, 3)): Backbone.resnext101_64x4d,
    ((3, 4, 6, 3), True, (128, 128, 3, 3)): Backbone.wide_resnet50_2,
    ((3, 4, 23, 3), True, (128, 128, 3, 3)): Backbone.wide_resnet101_2,
}


def read_foreign(path: Path) -> ForeignWeights:
    """Read a .pth or .safetensors file of any known format; nothing in it is executed.

    Raises:
        CheckpointError: unreadable, a pickle with code in it, of no known format, or with an
            entry that its format does not know.
    """
    content, wrapper = _unwrap(path, _read(path))
    entries = {str(name): value for name, value in content.items()}
    bare, prefix = _strip_prefixes(entries)
    wrapper = ", ".join(part for part in (wrapper, prefix) if part)
    dropped = {name: reason for name, (_, reason) in bare.items() if reason}
    names = {name: short for name, (short, reason) in bare.items() if not reason}
    form = next((f for f in FORMATS if f.recognises(set(names.values()))), None)
    if form is None:
        shown = ", ".join(list(names)[:4]) or "no tensor at all"
        raise CheckpointError(
            f"`{path}` holds the weights of no network known here; its entries begin {shown}",
            hint="known are cgd's own names, leftthomas/CGD and torchvision's ResNets",
        )
    renamed: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, short in names.items():
        reason, ours = form.drop(short), form.rename(short)
        if reason:
            dropped[name] = reason
            continue
        if ours is None:
            raise CheckpointError(
                f"`{path}` looks like {form.name} but has the entry `{name}`, unknown there",
                hint="nothing is dropped unasked; if it is not needed, remove it and save again",
            )
        if ours in tensors:
            raise CheckpointError(
                f"two entries of `{path}` are both {ours}, one of them `{name}`",
                hint="the file mixes two networks; save the one you want by itself",
            )
        renamed[name], tensors[ours] = ours, entries[name]
    filled = _fill_counters(tensors)
    kept = tuple(name for name, ours in renamed.items() if name == ours)
    for name in kept:
        del renamed[name]
    return ForeignWeights(
        path, form, tensors, kept, renamed, dropped, filled, wrapper, len(entries)
    )


def read_architecture(weights: ForeignWeights) -> Architecture:
    """Read backbone, number of branches, embedding_dim and classes off names and shapes.

    Raises:
        CheckpointError: the trunk is none of torchvision's ResNets, or branches are uneven.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    blocks = tuple(
        len({name.split(".")[2] for name in shapes if name.startswith(f"backbone.layer{i}.")})
        for i in range(1, 5)
    )
    deep = "backbone.layer1.0.conv3.weight" in shapes
    width = shapes.get("backbone.layer1.0.conv2.weight")
    backbone = _BACKBONES.get((blocks, deep, width))  # type: ignore[arg-type]
    if backbone is None:
        raise CheckpointError(
            f"the trunk in `{weights.path}` has {blocks} blocks and layer1.0.conv2 of shape "
            f"{width}: none of torchvision's ResNets",
            hint=f"known are {', '.join(Backbone)}",
        )
    for name in ("classifier.linear.weight", *(n for n in shapes if n.startswith("branches."))):
        if len(shapes.get(name, (0, 0))) != 2:
            raise CheckpointError(
                f"{name} in `{weights.path}` has the shape {shapes[name]}; a matrix is wanted",
                hint="the file is no whole checkpoint; take another",
            )
    branches = [shape for name, shape in shapes.items() if name.startswith("branches.")]
    if any(shape != branches[0] for shape in branches):
        raise CheckpointError(
            f"the branches in `{weights.path}` have unequal shapes {branches}",
            hint="a CGD divides its embedding evenly among its descriptors",
        )
    return Architecture(
        backbone,
        len(branches),
        sum(shape[0] for shape in branches) or None,
        shapes.get("classifier.linear.weight", (0,))[0],
    )


def _read(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(
            f"`{path}` is a folder; a weights file is wanted", hint="name the .pth in it"
        )
    if path.suffix == ".safetensors":
        read_header(path)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"cannot read `{path}`: {error}", hint="copy or download it again"
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except OSError as error:
        raise CheckpointError(
            f"cannot read `{path}`: {error.strerror or error}",
            hint="check the spelling, and the folder you are in",
        ) from error
    except pickle.UnpicklingError as error:
        raise _blocked(path, error) from error
    except Exception as error:
        # On damaged bytes torch.load raises nearly everything: RuntimeError, EOFError, KeyError,
        # UnicodeDecodeError ... none of which is more than "this is not a weights file".
        raise _not_weights(path) from error


def _is_zip(path: Path) -> bool:
    return zipfile.is_zipfile(path)


def _blocked(path: Path, error: Exception) -> CheckpointError:
    names = sorted(
        set(re.findall(r"(?:GLOBAL|global|class|function) ([\w.]+\.[\w.]+)", str(error)))
    )
    if not names:
        return _not_weights(path)
    return CheckpointError(
        f"`{path}` is a pickle that wants to run code ({', '.join(names)}); only plain tensors "
        "are read, nothing was executed",
        hint="if you trust it, load it where it was made and save model.state_dict() alone",
    )


def _not_weights(path: Path) -> CheckpointError:
    # PyTorch's own words are left out: they are of its insides, or advise to turn safety off.
    return CheckpointError(
        f"`{path}` is not a PyTorch weights file, or is damaged",
        hint="copy or download it again; a .pth made by torch.save, or a .safetensors, is wanted",
    )


def _unwrap(path: Path, content: Any) -> tuple[Mapping[str, Any], str]:
    """Follow `state_dict` and the like down to the dict that holds tensors."""
    steps: list[str] = []
    while isinstance(content, Mapping):
        # A state_dict's values are tensors, so a dict among them means a wrapper, even where
        # tensors (`best_acc1` in PyTorch's ImageNet example) stand beside it.
        inner = next((k for k in CONTAINERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        beside = [str(key) for key in content if key != inner]
        steps.append(f"inside `{inner}`" + (f" (beside it {', '.join(beside)})" if beside else ""))
        content = content[inner]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        found = "an empty dict" if content == {} else f"a {type(content).__name__}"
        raise CheckpointError(
            f"`{path}` holds no named tensors but {'nothing' if content is None else found}",
            hint="a state_dict is wanted, or a dict with one under `state_dict` or `model`",
        )
    return content, ", ".join(steps)


def _strip_prefixes(
    entries: Mapping[str, Any],
) -> tuple[dict[str, tuple[str, str | None]], str]:
    """By full name: the name without wrappers' prefixes, and the reason to drop it, if any."""
    result: dict[str, tuple[str, str | None]] = {}
    stripped: list[str] = []
    names = {name: name for name in entries}
    while True:
        tensors = [short for name, short in names.items() if not _drop_reason(name, entries[name])]
        prefix = next(
            (p for p in PREFIXES if tensors and all(t.startswith(p) for t in tensors)), ""
        )
        if not prefix:
            break
        stripped.append(prefix)
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    for name, short in names.items():
        result[name] = (short, _drop_reason(name, entries[name]))
    return result, f"prefix `{''.join(stripped)}` removed" if stripped else ""


def _drop_reason(name: str, value: Any) -> str | None:
    if name.rsplit(".", 1)[-1] in PROFILER_ENTRIES:
        return "counter of the profiler thop, not a weight"
    return None if isinstance(value, Tensor) else "not a tensor"


def _fill_counters(tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Add the `num_batches_tracked` that files from before torch 0.4.1 lack; nothing reads them."""
    filled = [
        name.replace("running_var", "num_batches_tracked")
        for name in tensors
        if name.endswith(".running_var")
        and name.replace("running_var", "num_batches_tracked") not in tensors
    ]
    for name in filled:
        tensors[name] = torch.tensor(0)
    return tuple(filled)
