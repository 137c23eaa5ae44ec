"""pytorch-metric-learning: a trunk and an embedder, saved as two files (`trunk_best12.pth`,
`embedder_best12.pth`, logging_presets/hooks at 216a792) or as two dicts in one.

The trunk is torchvision's ResNet with an identity for fc, so its descriptor is the mean; the
embedder is what follows, in its examples `MLP([2048, 512])`: one Linear with bias as `net.0`, and
again as `last_linear`. Its distances normalize embeddings.
"""

from collections.abc import Mapping

from torch import Tensor

from cgdcli.config import Head, StrideMode
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule


def _recognises(names: Names, beside: Beside) -> bool:
    return "trunk.conv1.weight" in names and any(name.startswith("embedder.") for name in names)


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    biased = any(n.startswith("embedder.") and n.endswith("bias") for n in tensors)
    return Facts(
        descriptors="S",
        stride=StrideMode.standard,
        head=Head.affine if biased else Head.linear,
        why="a torchvision trunk's",
    )


PML = Format(
    "pytorch-metric-learning, trunk and embedder",
    _recognises,
    rules=(
        Rule(r"trunk\.((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),
        Rule(r"embedder\.(?:net\.)?(?:0\.|fc\.|linear\.)?(weight|bias)", r"branches.0.\1"),
    ),
    dropped=(
        Rule(r"embedder\.last_linear\.(?:weight|bias)", why="another name of its last layer"),
    ),
    refused=(
        Rule(r"trunk\.fc\..+", why="the trunk has a Linear of its own before the embedder"),
        Rule(
            r"embedder\.(?:net\.)?[1-9]\d*\..+",
            why="the embedder has a ReLU or several layers; a branch of ours is one Linear",
        ),
    ),
    read_facts=_facts,
)
