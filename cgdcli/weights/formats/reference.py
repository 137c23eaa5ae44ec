"""The reference, leftthomas/CGD: a trunk as `nn.Sequential`, so that names are positions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cgdcli.config import CGDConfig, StrideMode, Transform
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule

# Its command line shortens one name.
FULL_BACKBONE_NAMES = {"resnext50": "resnext50_32x4d"}

# {data}_{crop}_{backbone}_{letters}_{dim}_..._model.pth; the first names had no backbone.
_FILE_NAME = re.compile(
    r"(?:^|_)(?P<backbone>resnet\d+|resnext\d+(?:_\d+x\d+d)?|wide_resnet\d+_2)"
    r"_(?P<letters>[SMG]{1,3})_(?P<dim>\d+)_"
)


@dataclass(frozen=True)
class FileNameFacts:
    """What the reference's file name says."""

    backbone: str
    letters: str
    embedding_dim: int


def read_file_name(name: str) -> FileNameFacts | None:
    """Read `car_uncropped_resnet50_SG_1536_0.1_0.5_0.1_128_model.pth` and its kin; else None."""
    match = _FILE_NAME.search(name)
    if match is None:
        return None
    return FileNameFacts(match["backbone"], match["letters"], int(match["dim"]))


def _recognises(names: Names, beside: Beside) -> bool:
    return "features.0.weight" in names


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    # Stride and p are written into its code, at every commit whose network can run; size and
    # ImageNet's mean and std since 2 March 2020.
    return Facts(
        stride=StrideMode.layer3,
        gem_p=3.0,
        image_size=224,
        mean=Transform.mean,
        std=Transform.std,
        why="the reference's",
    )


def _cannot_say(config: CGDConfig) -> list[str]:
    problems = []
    if config.stride is not StrideMode.layer3:
        problems.append(f"stride {config.stride}; it has layer3 alone")
    other = [letter for letter in config.descriptors if letter not in "SMG"]
    if other:
        problems.append(f"descriptor {', '.join(other)}; it has S, M and G")
    if "G" in config.descriptors and config.gem_p != 3:
        problems.append(f"p {config.gem_p:g} of GeM; it has 3")
    if config.embedding_dim is None:
        problems.append("pooled descriptors without projections")
    if config.heads:
        problems.append(f"branches that are {', '.join(config.heads)}; its are linear")
    return problems


# Also of other networks whose trunk is `nn.Sequential(*children)` of torchvision's.
TRUNK_RULES = (
    Rule(r"features\.0\.(.+)", r"backbone.conv1.\1"),
    Rule(r"features\.1\.(.+)", r"backbone.bn1.\1"),
    Rule(r"features\.4\.(.+)", r"backbone.layer1.\1"),
    Rule(r"features\.5\.(.+)", r"backbone.layer2.\1"),
    Rule(r"features\.6\.(.+)", r"backbone.layer3.\1"),
    Rule(r"features\.7\.(.+)", r"backbone.layer4.\1"),
)

REFERENCE = Format(
    "reference (leftthomas/CGD)",
    _recognises,
    rules=(
        *TRUNK_RULES,
        Rule(r"main_modules\.(\d+)\.0\.weight", r"branches.\1.weight"),
        Rule(r"auxiliary_module\.0\.(\w+)", r"classifier.batch_norm.\1"),
        Rule(r"auxiliary_module\.1\.(\w+)", r"classifier.linear.\1"),
    ),
    read_facts=_facts,
    has_classifier=True,
    backward=(
        Rule(r"backbone\.conv1\.(.+)", r"features.0.\1"),
        Rule(r"backbone\.bn1\.(.+)", r"features.1.\1"),
        Rule(r"backbone\.layer1\.(.+)", r"features.4.\1"),
        Rule(r"backbone\.layer2\.(.+)", r"features.5.\1"),
        Rule(r"backbone\.layer3\.(.+)", r"features.6.\1"),
        Rule(r"backbone\.layer4\.(.+)", r"features.7.\1"),
        Rule(r"branches\.(\d+)\.weight", r"main_modules.\1.0.weight"),
        Rule(r"classifier\.batch_norm\.(\w+)", r"auxiliary_module.0.\1"),
        Rule(r"classifier\.linear\.(\w+)", r"auxiliary_module.1.\1"),
    ),
    cannot_say=_cannot_say,
)
