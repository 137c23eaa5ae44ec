"""open-metric-learning's Lightning `.ckpt` (oml/lightning/modules/extractor.py at 6be182e).

`ExtractorModule.model` is a `ResnetExtractor`, whose `model` is torchvision's ResNet: the prefixes
`model.model.` are gone here. Its fc, where it is not an identity, projects to the embedding; its
pooling is the mean, or GeM with a p that is no tensor.
"""

from collections.abc import Mapping

from torch import Tensor

from cgdcli.config import Head, StrideMode
from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule


def _recognises(names: Names, beside: Beside) -> bool:
    return "conv1.weight" in names and "pytorch-lightning_version" in beside


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    notes = ["pooled by the mean (if it was trained with gem_p: --descriptors G --gem-p P)"]
    if "fc.weight" in tensors:
        notes.append("fc projects to the embedding, as in open-metric-learning")
    return Facts(
        descriptors="S",
        stride=StrideMode.standard,
        head=Head.affine,
        why="torchvision's, as open-metric-learning builds it",
        notes=tuple(notes),
    )


OML = Format(
    "Lightning checkpoint of a torchvision ResNet (open-metric-learning)",
    _recognises,
    rules=(
        Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),
        Rule(r"fc\.(weight|bias)", r"branches.0.\1"),
    ),
    refused=(
        Rule(r"fc\.\d+\..+", why="fc is a projector of two layers; a branch of ours is one Linear"),
    ),
    read_facts=_facts,
)
