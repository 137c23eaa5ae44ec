"""The reference, leftthomas/CGD: a trunk as `nn.Sequential`, so that names are positions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cgdcli.config import StrideMode
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule

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
    # Both are written into its code, at every commit whose network can run.
    return Facts(stride=StrideMode.layer3, gem_p=3.0)


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
)
