"""One of our checkpoints under another tool's names, so that what we trained is not ours alone."""

from pathlib import Path

import torch
from torch import Tensor

from cgdcli.config import (
    RESNETS,
    CGDConfig,
    ConvertConfig,
    Foreign,
    Strict,
    StrideMode,
    Transform,
    is_timm,
)
from cgdcli.conversion.convert import as_checkpoint, checked_target
from cgdcli.conversion.plan import prepare
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.files import atomic_path
from cgdcli.model.cgd import meta_model
from cgdcli.model.timm_trunks import timm_call
from cgdcli.reports import ExportReport
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint
from cgdcli.weights.formats import Format, first_match
from cgdcli.weights.formats.reference import REFERENCE
from cgdcli.weights.formats.torchvision import TORCHVISION
from cgdcli.weights.header import read_header
from cgdcli.weights.reading import read_content

# timm's plain ResNets have torchvision's names.
_FORMATS = {
    Foreign.reference: REFERENCE,
    Foreign.torchvision: TORCHVISION,
    Foreign.timm: TORCHVISION,
}


def export_weights(
    source: Path | str,
    to: Foreign,
    target: Path | str | None = None,
    *,
    strict: Strict = Strict.exact,
    force: bool = False,
) -> ExportReport:
    """Write a checkpoint as a `.pth` state_dict that another tool loads with `strict=True`.

    For torchvision and timm that is the backbone alone, without `fc`.

    Args:
        source: one of our checkpoints, or a foreign file that converts without options.
        target: the new .pth; None for the source's name with that suffix.
        strict: `inference` writes a network without classifier for the reference, too.

    Raises:
        MismatchError: the network cannot be one of that tool's: loaded there it would give other
            embeddings.
        CheckpointError: unreadable, or without the classifier that the reference's network has.
        OutputError: the target exists (without `force`) or cannot be written.
    """
    source, form = Path(source), _FORMATS[to]
    target = checked_target(source, target, ".pth", force=force)
    checkpoint = _read(source, strict)
    _check(source, checkpoint.config, to, form, strict)
    names = list(meta_model(checkpoint.config).state_dict())
    renamed = {name: there for name in names if (there := form.name_there(name)) is not None}
    left_out = {
        name: rule.why
        for name in names
        if name not in renamed and (rule := first_match(form.left_out, name))
    }
    assert len(renamed) + len(left_out) == len(names)
    entries = {there: checkpoint.tensors[name] for name, there in renamed.items()}
    _write(target, entries)
    return ExportReport(
        source,
        target,
        to.value,
        renamed,
        left_out,
        (*(f"assumed {words}" for words in checkpoint.assumed), *_notes(checkpoint.config, to)),
        checkpoint.config.to_dict(),
    )


def _read(source: Path, strict: Strict) -> Checkpoint:
    if source.suffix == ".safetensors" and read_header(source).metadata is not None:
        return load_checkpoint(source)[0]
    return as_checkpoint(prepare(source, ConvertConfig(strict=strict)))


def _check(source: Path, config: CGDConfig, to: Foreign, form: Format, strict: Strict) -> None:
    problems = form.cannot_say(config) or _other_trunk(config, to)
    if problems:
        raise MismatchError(
            f"`{source}` cannot be a network of {form.name}: {'; '.join(problems)}",
            hint="its tensors would load there and give other embeddings; for the backbone alone: "
            f"--to {'timm' if is_timm(config.backbone) else 'torchvision'}",
        )
    if form.has_classifier and not config.classes and strict is Strict.exact:
        raise CheckpointError(
            f"`{source}` has no classifier, and a network of {form.name} has one",
            hint="to write it without, for loading with strict=False there: --strict inference",
        )


def _other_trunk(config: CGDConfig, to: Foreign) -> list[str]:
    """timm names torchvision's ResNets as torchvision does, and no other network."""
    backbone = config.backbone
    if to is Foreign.torchvision and is_timm(backbone):
        return [f"backbone {backbone}; it is one of timm's"]
    if to is Foreign.timm and not is_timm(backbone) and backbone not in RESNETS:
        return [f"backbone {backbone}; timm names its layers otherwise"]
    return []


def _write(target: Path, entries: dict[str, Tensor]) -> None:
    """Write and read back: the same names in the same order, the same bits."""
    with atomic_path(target) as temporary:
        torch.save({name: value.contiguous() for name, value in entries.items()}, temporary)
        again = read_content(temporary)
        same = list(again) == list(entries) and all(
            torch.equal(again[name].view(-1).view(torch.uint8), _bits(value))
            for name, value in entries.items()
        )
        if not same:
            raise CheckpointError(
                f"`{target}` did not read back as it was written; nothing was kept",
                hint="check the disk, then try again",
            )


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(-1).view(torch.uint8)


def _notes(config: CGDConfig, to: Foreign) -> list[str]:
    """What the names cannot say."""
    notes = []
    if to is Foreign.reference:
        if config.backbone not in ("resnet50", "resnext50_32x4d"):
            notes.append(f"the reference's own code builds no {config.backbone}; a variant must")
        if config.transform != Transform():
            notes.append(f"it resizes and normalizes by its own rule, not by {config.transform}")
        notes.append(
            f"load it into Model({config.backbone!r}, {config.descriptors!r}, "
            f"{config.embedding_dim}, {config.classes})"
        )
        return notes
    if config.stride is not StrideMode.standard:
        notes.append(
            f"the stride of {config.stride} is 1 here and 2 there: the same tensors give a map of "
            "half the side"
        )
    if is_timm(config.backbone):
        notes.append(f"load it into {timm_call(config.backbone, config.transform.image_size)}")
    elif to is Foreign.timm:
        notes.append(f"load it into timm.create_model({config.backbone!r}, num_classes=0)")
    elif config.backbone in RESNETS:
        notes.append("without fc: set model.fc = torch.nn.Identity() there")
    else:
        notes.append("without its classifier: load it with strict=False there")
    return notes
