"""cnnimageretrieval-pytorch (filipradenovic, networks/imageretrievalnet.py at 1e66a41).

Its network: trunk, [local whitening], pooling, L2, [whitening: Linear with bias, L2]. A file holds
`meta` beside the state_dict; the trunk's names are positions in an `nn.Sequential`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cgdcli.config import Head, StrideMode
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule, three_numbers
from cgdcli.weights.formats.reference import TRUNK_RULES

_LETTERS = {"gem": "G", "mac": "M", "spoc": "S"}
_OWN_NAMES = ("pool.", "whiten.", "lwhiten.")


def _meta(beside: Beside) -> Mapping[str, Any]:
    meta = beside.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _recognises(names: Names, beside: Beside) -> bool:
    return "features.0.weight" in names and (
        "pooling" in _meta(beside) or any(name.startswith(_OWN_NAMES) for name in names)
    )


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    meta = _meta(beside)
    p = tensors.get("pool.p")
    pooling = meta.get("pooling", "gem" if p is not None else None)
    return Facts(
        descriptors=_LETTERS.get(str(pooling)),
        stride=StrideMode.standard,
        gem_p=None if p is None or p.numel() != 1 else float(p),
        head=Head.whitening,
        mean=three_numbers(meta.get("mean")),
        std=three_numbers(meta.get("std")),
        notes=("there pictures keep their aspect, here they become squares",),
        misfits=tuple(_misfits(meta, p)),
    )


def _misfits(meta: Mapping[str, Any], p: Tensor | None) -> list[str]:
    found = []
    architecture = str(meta.get("architecture", "resnet"))
    if not architecture.startswith("resnet"):
        found.append(f"the architecture {architecture}: it is no ResNet")
    if p is not None and p.numel() != 1:
        found.append(f"pool.p: {p.numel()} exponents, one for each channel, where ours is one")
    if meta.get("pooling") == "rmac":
        found.append("the pooling rmac: it counts the whole map twice, where ours counts it once")
    return found


CNNIMAGERETRIEVAL = Format(
    "cnnimageretrieval-pytorch",
    _recognises,
    rules=(*TRUNK_RULES, Rule(r"whiten\.(weight|bias)", r"branches.0.\1")),
    dropped=(Rule(r"pool\.p", why="exponent of GeM, which is in our config"),),
    refused=(
        Rule(r"lwhiten\..+", why="a whitening of every place of the map; our network has none"),
        Rule(r"pool\.(?:rpool|whiten)\..+", why="regional pooling; our network has none"),
    ),
    read_facts=_facts,
)
