"""The reference, leftthomas/CGD: a trunk as `nn.Sequential`, so that names are positions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cgdcli.config import RESNETS, CGDConfig, StrideMode, Transform
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule

# Its command line shortens one name.
FULL_BACKBONE_NAMES = {"resnext50": "resnext50_32x4d"}

# {data}_{crop}_{backbone}_{letters}_{dim}_..._model.pth; then come temperature and margin, with the
# batch size since 2 March 2020, and before them the smoothing since a few commits later.
_FILE_NAME = re.compile(
    r"(?:(?P<data>car|cub|sop|isc)_(?P<crop>uncropped|cropped)_|^|_)"
    r"(?P<backbone>resnet\d+|resnext\d+(?:_\d+x\d+d)?|wide_resnet\d+_2)"
    r"_(?P<letters>[SMG]{1,3})_(?P<dim>\d+)_(?P<numbers>(?:[0-9.]+_)*)"
)
# {data}_{crop}_{dim}_model.pth, of 1 March 2020 alone: pictures of 256 px.
_FIRST_FILE_NAME = re.compile(r"(?P<data>car|cub|sop|isc)_(?:uncropped|cropped)_(?P<dim>\d+)_model")
_NUMBERS_SINCE_IMAGENET = 4
# Of the pictures of each data set; used until ImageNet's took their place on 2 March 2020.
MEANS_AND_STDS = {
    "car": ((0.4853, 0.4965, 0.4295), (0.2237, 0.2193, 0.2568)),
    "cub": ((0.4707, 0.4601, 0.4549), (0.2767, 0.2760, 0.2850)),
    "sop": ((0.5807, 0.5396, 0.5044), (0.2901, 0.2974, 0.3095)),
    "isc": ((0.8324, 0.8109, 0.8041), (0.2206, 0.2378, 0.2444)),
}


@dataclass(frozen=True)
class FileNameFacts:
    """What the reference's file name says.

    Attributes:
        mean, std: of the data set it names, where the name's form is from before 2 March 2020.
    """

    backbone: str
    letters: str
    embedding_dim: int
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def read_file_name(name: str) -> FileNameFacts | None:
    """Read `car_uncropped_resnet50_SG_1536_0.1_0.5_0.1_128_model.pth` and its kin; else None."""
    match = _FILE_NAME.search(name)
    if match is None:
        return None
    old = match["data"] and len(match["numbers"].split("_")) - 1 < _NUMBERS_SINCE_IMAGENET
    mean, std = MEANS_AND_STDS[match["data"]] if old else (None, None)
    return FileNameFacts(match["backbone"], match["letters"], int(match["dim"]), mean, std)


def first_file_name(name: str) -> tuple[str, int] | None:
    """Data set and dimension of a name of 1 March 2020, before backbone and letters were in it."""
    match = _FIRST_FILE_NAME.search(name)
    return (match["data"], int(match["dim"])) if match else None


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
    if config.backbone not in RESNETS:
        problems.append(f"backbone {config.backbone}; it has ResNets")
    elif config.stride is not StrideMode.layer3:
        problems.append(f"stride {config.stride}; it has layer3 alone")
    other = [letter for letter in config.descriptors if letter not in "SMG"]
    if other:
        problems.append(f"descriptor {', '.join(other)}; it has S, M and G")
    if config.learned_p:
        problems.append("a learned p of GeM; it has 3")
    elif "G" in config.descriptors and config.gem_p != 3:
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
