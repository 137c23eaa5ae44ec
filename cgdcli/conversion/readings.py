"""Readings of a foreign file: every way to say what its tensors leave unsaid."""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from cgdcli.config import RESNETS, CGDConfig, ConvertConfig, StrideMode, Transform
from cgdcli.weights.formats.reference import MEANS_AND_STDS, read_file_name

_LETTERS = "SMG"  # the reference's; the others are ours, and nobody's old file has them
_IMAGE_SIZES = (224, 256)
# The reference's per data set until 2 March 2020 (its names), then what other tools use.
_MEANS_AND_STDS = {
    "ImageNet": (Transform.mean, Transform.std),
    **MEANS_AND_STDS,
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_EXPONENTS = (3.0, 2.0, 2.5, 4.0)


@dataclass(frozen=True)
class Axes:
    """The values that each unsaid thing may have; the first is the one that would be assumed."""

    strides: tuple[StrideMode, ...]
    letters: tuple[str, ...]
    exponents: tuple[float, ...]
    transforms: tuple[Transform, ...]


def axes_of(config: CGDConfig, said: ConvertConfig, file_name: str) -> Axes:
    """What may vary, given what the user and the file's name say."""
    named = read_file_name(file_name)
    fixed = said.descriptors is not None or named is not None or len(config.descriptors) > 3
    letters = (
        (config.descriptors,)
        if fixed
        else _first(
            config.descriptors,
            ["".join(p) for p in permutations(_LETTERS, len(config.descriptors))],
        )
    )
    weighted = any(set(some) & set("GW") for some in letters)
    return Axes(
        (config.stride,)
        if said.stride or config.backbone not in RESNETS
        else _first(config.stride, list(StrideMode)),
        letters,
        (config.gem_p,)
        if said.gem_p or not weighted or config.learned_p
        else _first(config.gem_p, list(_EXPONENTS)),
        _transforms(config.transform, said),
    )


def reading_of(config: CGDConfig) -> dict[str, Any]:
    """What tensors cannot say, for a table and for --json."""
    t = config.transform
    return {
        "stride": config.stride.value,
        "descriptors": config.descriptors,
        "gem_p": config.gem_p if set(config.descriptors) & set("GW") else None,
        "image_size": t.image_size,
        "normalization": normalization_name(t),
        "mean": list(t.mean),
        "std": list(t.std),
    }


def normalization_name(transform: Transform) -> str:
    """The data set whose mean and std these are, or the numbers."""
    for name, values in _MEANS_AND_STDS.items():
        if values == (transform.mean, transform.std):
            return name
    return f"{transform.mean}/{transform.std}"


def options_of(config: CGDConfig) -> str:
    """The options of convert-weights that say this reading."""
    t = config.transform
    words = [f"--stride {config.stride}", f"--descriptors {config.descriptors}"]
    if set(config.descriptors) & set("GW"):
        words.append(f"--gem-p {config.gem_p:g}")
    mean, std = (",".join(f"{value:g}" for value in values) for values in (t.mean, t.std))
    return " ".join([*words, f"--image-size {t.image_size} --mean {mean} --std {std}"])


def _transforms(usual: Transform, said: ConvertConfig) -> tuple[Transform, ...]:
    sizes = (usual.image_size,) if said.image_size else _first(usual.image_size, list(_IMAGE_SIZES))
    pairs = (
        ((usual.mean, usual.std),)
        if said.mean or said.std
        else _first((usual.mean, usual.std), list(_MEANS_AND_STDS.values()))
    )
    return tuple(
        replace(usual, image_size=size, mean=mean, std=std) for size in sizes for mean, std in pairs
    )


def _first(value: Any, values: list[Any]) -> tuple[Any, ...]:
    return (value, *(other for other in values if other != value))
