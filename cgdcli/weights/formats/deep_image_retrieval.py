"""deep-image-retrieval (naver, dirtorch/nets/rmac_resnet.py at 610247f).

Its network: trunk, pooling, [L2 if `norm_features`], Linear with bias unless `without_fc`, L2.
A file holds `model_options` and `preprocess` beside the state_dict; published ones also `pca`,
objects of scikit-learn, for which they are refused when read.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cgdcli.config import Head, StrideMode
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule, three_numbers

_LETTERS = {"max": "M", "avg": "S", "gem": "G"}
_TRUNK = Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1")
_EXPONENT = Rule(r"adpool\.p", why="exponent of GeM, which is in our config")
_PYRAMID = Rule(
    r"(?:conv1x5|conv3c4|adpoolx5|adpoolc4|fc1?x5|fcc4)\b.*",
    why="of a feature pyramid; our network pools the last map alone",
)


def _dict(beside: Beside, key: str) -> Mapping[str, Any]:
    value = beside.get(key)
    return value if isinstance(value, Mapping) else {}


def _is_one(names: Names, beside: Beside) -> bool:
    ours = "adpool.p" in names or "pooling" in _dict(beside, "model_options")
    return "conv1.weight" in names and ours


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    options, preprocess = _dict(beside, "model_options"), _dict(beside, "preprocess")
    p = tensors.get("adpool.p")
    pooling = str(options.get("pooling", "gem" if p is not None else ""))
    notes = ["there pictures keep their aspect, here they become squares"]
    if "norm_features" not in options:
        notes.append("no L2 before its Linear (norm_features is off by default there)")
    misfits = (
        [f"center_bias {options['center_bias']}: the middle of the map counts more"]
        if options.get("center_bias")
        else []
    )
    return Facts(
        descriptors=_LETTERS.get("gem" if pooling.startswith("gem") else pooling),
        stride=StrideMode.standard,
        gem_p=None if p is None else float(p.reshape(-1)[0]),
        head=Head.whitening if options.get("norm_features") else Head.affine,
        mean=three_numbers(preprocess.get("mean")),
        std=three_numbers(preprocess.get("std")),
        notes=tuple(notes),
        misfits=tuple(misfits),
    )


DEEP_IMAGE_RETRIEVAL = Format(
    "deep-image-retrieval",
    _is_one,
    rules=(_TRUNK, Rule(r"fc\.(weight|bias)", r"branches.0.\1")),
    dropped=(_EXPONENT,),
    refused=(_PYRAMID,),
    read_facts=_facts,
)
# Its Linear is in the file, but `without_fc` goes around it.
DEEP_IMAGE_RETRIEVAL_WITHOUT_FC = Format(
    "deep-image-retrieval, without_fc",
    lambda names, beside: (
        _is_one(names, beside) and bool(_dict(beside, "model_options").get("without_fc"))
    ),
    rules=(_TRUNK,),
    dropped=(_EXPONENT, Rule(r"fc\.(?:weight|bias)", why="not used: model_options say without_fc")),
    refused=(_PYRAMID,),
    read_facts=_facts,
)
