"""Which network a foreign file is: what its tensors, its format, its name and the user say."""

from dataclasses import replace

from cgdcli.config import (
    RESNETS,
    CGDConfig,
    ConvertConfig,
    Head,
    StrideMode,
    Transform,
    pooled_config,
)
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.model.backbones import backbone_transform
from cgdcli.weights.architecture import Architecture
from cgdcli.weights.foreign import ForeignWeights, read_architecture
from cgdcli.weights.formats import Facts
from cgdcli.weights.formats.reference import (
    FULL_BACKBONE_NAMES,
    MEANS_AND_STDS,
    REFERENCE,
    FileNameFacts,
    first_file_name,
    read_file_name,
)
from cgdcli.words import counted

_ASSUMED_LETTERS = {1: "S", 2: "SG", 3: "SMG"}
_IMAGENET = (Transform.mean, Transform.std)


def read_network(weights: ForeignWeights, said: ConvertConfig) -> tuple[CGDConfig, tuple[str, ...]]:
    """The config of a foreign file's network, and what of it is an assumption, in words.

    The user's word beats the file's, that beats its name, that beats its format's conventions.

    Raises:
        CheckpointError: the network is none of ours, or its letters cannot be told.
        MismatchError: letters or dimension contradict the tensors.
    """
    found = read_architecture(weights)
    assumed = [*weights.assumed, *weights.facts.notes]
    letters = _letters(weights, found, said, assumed)
    config = CGDConfig(
        backbone=found.backbone,
        stride=_stride(weights, found, said, assumed),
        descriptors=letters,
        embedding_dim=found.embedding_dim,
        classes=found.classes,
        gem_p=_gem_p(weights, found, letters, said, assumed),
        transform=_transform(weights, found, said, assumed),
        heads=_heads(weights, found, assumed),
        learned_p=found.learned_p,
    )
    return config, tuple(assumed)


def _letters(
    weights: ForeignWeights, found: Architecture, said: ConvertConfig, assumed: list[str]
) -> str:
    if found.branches == 0:
        pooled = pooled_config(found.backbone).descriptors
        letters = said.descriptors or weights.facts.descriptors
        if letters is None:
            assumed.append(f"descriptors {pooled}, pooled without projection")
        return letters or pooled
    named, first = read_file_name(weights.path.name), first_file_name(weights.path.name)
    if said.descriptors is None and named is not None:
        _check_file_name(weights, named, found)
    if said.descriptors is None and first is not None and first[1] != found.embedding_dim:
        raise _other_than_named(weights, f"{first[1]}", f"{found.embedding_dim}")
    if said.descriptors is None and weights.facts.descriptors and weights.facts.why:
        assumed.append(f"descriptors {weights.facts.descriptors} ({weights.facts.why})")
    known = said.descriptors or weights.facts.descriptors or (named.letters if named else None)
    if known is not None:
        _check_count(weights, known, found)
        return known
    if found.branches not in _ASSUMED_LETTERS:
        raise CheckpointError(
            f"`{weights.path}` has {found.branches} branches, and nothing says which descriptors "
            "they are",
            hint="name them in their order, such as --descriptors SMGR",
        )
    letters = _ASSUMED_LETTERS[found.branches]
    assumed.append(f"descriptors {letters} (from {counted(found.branches, 'branch', 'branches')})")
    return letters


def _check_count(weights: ForeignWeights, letters: str, found: Architecture) -> None:
    if len(letters) != found.branches:
        raise MismatchError(
            f"descriptors {letters} are {len(letters)}, but `{weights.path}` has "
            f"{found.branches} branches",
            hint="give as many letters as branches with --descriptors, in their order",
        )


def _check_file_name(weights: ForeignWeights, named: FileNameFacts, found: Architecture) -> None:
    backbone = FULL_BACKBONE_NAMES.get(named.backbone, named.backbone)
    if backbone != found.backbone or named.embedding_dim != found.embedding_dim:
        raise _other_than_named(
            weights,
            f"{named.backbone} and {named.embedding_dim}",
            f"{found.backbone} and {found.embedding_dim}",
        )


def _other_than_named(weights: ForeignWeights, named: str, found: str) -> MismatchError:
    return MismatchError(
        f"the name of `{weights.path}` says {named} dimensions, its tensors {found}",
        hint="rename the file, or say what the tensors cannot: --descriptors SG",
    )


def _stride(
    weights: ForeignWeights, found: Architecture, said: ConvertConfig, assumed: list[str]
) -> StrideMode:
    facts = weights.facts
    resnet = found.backbone in RESNETS
    usual = (CGDConfig.stride, "the default") if found.branches else _pooled_stride(found)
    usual = usual if resnet else (StrideMode.standard, "")
    stride, why = (facts.stride, facts.why) if facts.stride else usual
    if said.stride is None and why:
        assumed.append(f"stride {stride} ({why})")
    return said.stride or stride


def _pooled_stride(found: Architecture) -> tuple[StrideMode, str]:
    return pooled_config(found.backbone).stride, "torchvision's"


def _gem_p(
    weights: ForeignWeights,
    found: Architecture,
    letters: str,
    said: ConvertConfig,
    assumed: list[str],
) -> float:
    facts = weights.facts
    if found.learned_p:
        if said.gem_p is not None:
            raise MismatchError(
                f"--gem-p {said.gem_p:g} has no place: `{weights.path}` has a learned p of its own",
                hint="leave out --gem-p",
            )
        return CGDConfig.gem_p
    p, why = (facts.gem_p, facts.why) if facts.gem_p else (CGDConfig.gem_p, "the usual one")
    if said.gem_p is None and why and set(letters) & set("GW"):
        assumed.append(f"p {p:g} of GeM ({why})")
    return said.gem_p or p


def _transform(
    weights: ForeignWeights, found: Architecture, said: ConvertConfig, assumed: list[str]
) -> Transform:
    facts = _with_file_name(weights)
    usual = replace(
        _published(found),
        **{k: v for k in ("image_size", "mean", "std") if (v := getattr(facts, k)) is not None},
    )
    default = "the default" if found.backbone in RESNETS else "as of its published weights"
    size_why = weights.facts.why if facts.image_size == weights.facts.image_size else facts.why
    if said.image_size is None and (facts.image_size is None or size_why):
        assumed.append(f"image size {usual.image_size} ({size_why or default})")
    if None in (said.mean, said.std) and (facts.mean is None or facts.why):
        whose = "ImageNet's" if (usual.mean, usual.std) == _IMAGENET else "its"
        assumed.append(f"{whose} mean and std ({facts.why or default})")
    return said.transform(usual)


def _published(found: Architecture) -> Transform:
    """Of a ResNet what the reference does, too; of others what its published weights want."""
    resnet = found.backbone in RESNETS
    return Transform() if resnet else backbone_transform(found.backbone)


def _with_file_name(weights: ForeignWeights) -> Facts:
    """The format's facts, over them what a file name of the reference's first days says."""
    if weights.format is not REFERENCE:
        return weights.facts
    named, first = read_file_name(weights.path.name), first_file_name(weights.path.name)
    if named is not None and named.mean is not None:
        why = "by its name, from before ImageNet's were taken"
        return replace(weights.facts, mean=named.mean, std=named.std, why=why)
    if first is not None:
        mean, std = MEANS_AND_STDS[first[0]]
        why = f"by its name, of {first[0]} on 1 March 2020"
        return replace(weights.facts, mean=mean, std=std, image_size=256, why=why)
    return weights.facts


def _heads(weights: ForeignWeights, found: Architecture, assumed: list[str]) -> tuple[Head, ...]:
    if weights.facts.head is None and any(found.biased):
        assumed.append("branches with a bias: Linear, then L2")
    return tuple(
        weights.facts.head or (Head.affine if biased else Head.linear) for biased in found.biased
    )
