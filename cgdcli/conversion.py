"""Job: a foreign weights file becomes one of ours, with nothing lost in silence."""

from dataclasses import replace
from pathlib import Path

import torch

from cgdcli.config import (
    Backbone,
    CGDConfig,
    StrideMode,
    Transform,
    check_descriptors,
    pooled_config,
)
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.files import check_output
from cgdcli.reports import ConversionReport
from cgdcli.weights.architecture import Architecture
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint
from cgdcli.weights.foreign import (
    ForeignWeights,
    read_architecture,
    read_foreign,
)
from cgdcli.weights.formats.reference import REFERENCE, FileNameFacts, read_file_name
from cgdcli.weights.header import read_header

_ASSUMED_LETTERS = {1: "S", 2: "SG", 3: "SMG"}
_REFERENCE_BACKBONES = {"resnext50": Backbone.resnext50_32x4d}


def convert_weights(
    source: Path | str,
    target: Path | str | None = None,
    *,
    descriptors: str | None = None,
    stride: StrideMode | None = None,
    image_size: int | None = None,
    force: bool = False,
) -> ConversionReport:
    """Convert a foreign weights file (`weights.foreign.FORMATS`) to a cgd checkpoint.

    What tensors cannot say is taken from the arguments, else from the reference's file name, else
    by an assumption that the report, the new file and every later use of it name.

    Args:
        target: the new .safetensors file; None for the source's name with that suffix.

    Raises:
        CheckpointError: unreadable, unknown entries, shapes that do not fit, letters unknown.
        MismatchError: letters or dimension contradict the tensors.
        OutputError: the target exists (without `force`) or cannot be written.
    """
    source, target = _checked_paths(Path(source), target, force)
    weights = read_foreign(source)
    config, assumed = _read_config(weights, descriptors, stride, image_size)
    checkpoint = Checkpoint(
        config,
        {name: _at_rest(value) for name, value in weights.tensors.items()},
        origin={"converted_from": source.name, "format": weights.format.name},
        assumed=assumed,
    )
    # Strictly, into the config's own network, before anything is written.
    model = checkpoint.model(f"`{source}`", {ours: old for old, ours in weights.renamed.items()})
    checkpoint = replace(checkpoint, tensors=dict(model.state_dict()))
    written = checkpoint.save(target)
    _verify(target, checkpoint)
    return _report(weights, target, config, assumed, written)


def _checked_paths(source: Path, target: Path | str | None, force: bool) -> tuple[Path, Path]:
    target = Path(target) if target is not None else source.with_suffix(".safetensors")
    if target.suffix != ".safetensors":
        target = target.with_name(target.name + ".safetensors")
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(
            f"`{source}` would be written over itself", hint="name another file with -o"
        )
    check_output(target, force=force, what="checkpoint")
    if source.suffix == ".safetensors" and read_header(source).metadata is not None:
        raise CheckpointError(
            f"`{source}` is a cgd checkpoint already",
            hint=f"use it as it is: cgd embed IMAGES -o feats.npy --model '{source}'",
        )
    return source, target


def _report(
    weights: ForeignWeights,
    target: Path,
    config: CGDConfig,
    assumed: tuple[str, ...],
    fingerprint: str,
) -> ConversionReport:
    return ConversionReport(
        source=weights.path,
        target=target,
        source_entries=weights.source_entries,
        kept=weights.kept,
        renamed=weights.renamed,
        dropped=weights.dropped,
        filled=weights.filled,
        upcast=sum(value.dtype != _at_rest(value).dtype for value in weights.tensors.values()),
        wrapper=weights.wrapper,
        format=weights.format.name,
        config=config.to_dict(),
        assumed=assumed,
        fingerprint=fingerprint,
    )


def _read_config(
    weights: ForeignWeights,
    descriptors: str | None,
    stride: StrideMode | None,
    image_size: int | None,
) -> tuple[CGDConfig, tuple[str, ...]]:
    found = read_architecture(weights)
    if found.branches == 0:
        return _pooled(found, descriptors, stride, image_size)
    assumed: list[str] = []
    letters, letters_assumed = _letters(weights.path, found, descriptors)
    if letters_assumed:
        assumed.append(f"descriptors {letters} (from {found.branches} branches)")
    if stride is None:
        why = "the reference's only one" if weights.format is REFERENCE else "the default"
        assumed.append(f"stride layer3 ({why})")
    if image_size is None:
        assumed.append(f"image size {Transform.image_size}")
    config = CGDConfig(
        backbone=found.backbone,
        stride=stride or StrideMode.layer3,
        descriptors=letters,
        embedding_dim=found.embedding_dim,
        classes=found.classes,
        transform=Transform(image_size=image_size or Transform.image_size),
    )
    return config, tuple(assumed)


def _pooled(
    found: Architecture,
    descriptors: str | None,
    stride: StrideMode | None,
    image_size: int | None,
) -> tuple[CGDConfig, tuple[str, ...]]:
    """A backbone without branches: pooled descriptors, torchvision's own stride and size."""
    if descriptors is not None:
        check_descriptors(descriptors)
    base = pooled_config(found.backbone, image_size or Transform.image_size)
    config = replace(
        base,
        descriptors=descriptors or base.descriptors,
        stride=stride or base.stride,
        classes=found.classes,
    )
    assumed = [
        words
        for given, words in (
            (descriptors, f"descriptors {base.descriptors}, pooled without projection"),
            (stride, f"stride {base.stride} (torchvision's)"),
            (image_size, f"image size {Transform.image_size}"),
        )
        if given is None
    ]
    return config, tuple(assumed)


def _letters(path: Path, found: Architecture, descriptors: str | None) -> tuple[str, bool]:
    """The descriptors' letters, and whether they are an assumption."""
    named = read_file_name(path.name)
    letters = descriptors
    if letters is None and named is not None:
        _check_file_name(path, named, found)
        letters = named.letters
    if letters is not None:
        check_descriptors(letters)
        if len(letters) != found.branches:
            raise MismatchError(
                f"descriptors {letters} are {len(letters)}, but `{path}` has "
                f"{found.branches} branches",
                hint="give as many letters as branches with --descriptors, in their order",
            )
        return letters, False
    if found.branches not in _ASSUMED_LETTERS:
        raise CheckpointError(
            f"`{path}` has {found.branches} branches, and nothing says which descriptors they are",
            hint="name them in their order, such as --descriptors SMGR",
        )
    return _ASSUMED_LETTERS[found.branches], True


def _check_file_name(path: Path, named: FileNameFacts, found: Architecture) -> None:
    backbone = _REFERENCE_BACKBONES.get(named.backbone, named.backbone)
    if backbone != found.backbone or named.embedding_dim != found.embedding_dim:
        raise MismatchError(
            f"the name of `{path}` says {named.backbone} and {named.embedding_dim} dimensions, "
            f"its tensors {found.backbone} and {found.embedding_dim}",
            hint="rename the file, or say what the tensors cannot: --descriptors SG",
        )


def _at_rest(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value


def _verify(target: Path, checkpoint: Checkpoint) -> None:
    """Load the written file back: the same entries, bit for bit."""
    again, _ = load_checkpoint(target)
    same = again.tensors.keys() == checkpoint.tensors.keys() and all(
        torch.equal(value, checkpoint.tensors[name]) or _both_nan(value, checkpoint.tensors[name])
        for name, value in again.tensors.items()
    )
    if not same or again.config != checkpoint.config:
        target.unlink()
        raise CheckpointError(
            f"`{target}` did not read back as it was written; it was removed",
            hint="check the disk, then convert again",
        )


def _both_nan(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()))
