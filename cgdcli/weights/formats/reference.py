"""The reference, leftthomas/CGD: a trunk as `nn.Sequential`, so that names are positions."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cgdcli.weights.formats import Format

_TRUNK = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"features\.([014567])\.(.+)"), lambda m: f"backbone.{_TRUNK[m[1]]}.{m[2]}"),
    (re.compile(r"main_modules\.(\d+)\.0\.weight"), lambda m: f"branches.{m[1]}.weight"),
    (re.compile(r"auxiliary_module\.0\.(\w+)"), lambda m: f"classifier.batch_norm.{m[1]}"),
    (re.compile(r"auxiliary_module\.1\.(\w+)"), lambda m: f"classifier.linear.{m[1]}"),
)
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


def _recognises(names: Collection[str]) -> bool:
    return "features.0.weight" in names


def _rename(name: str) -> str | None:
    for pattern, build in _RULES:
        match = pattern.fullmatch(name)
        if match:
            return build(match)
    return None


REFERENCE = Format("reference (leftthomas/CGD)", _recognises, _rename, lambda name: None)
