"""torchvision's classification networks besides the ResNets, whole or without their classifier.

Each family is known by a name that no other has; which of its members it is, by shapes.
"""

import re

from cgdcli.weights.formats import Beside, Format, Names, Rule

# In this order: VGG and AlexNet have nothing but numbered layers.
_MARKS = {
    "ConvNeXt": r"features\.\d+\.\d+\.layer_scale",
    "EfficientNet": r"features\.1\.0\.block\.0\.0\.weight",
    "RegNet": r"trunk_output\.block1\..+",
    "MobileNet": r"features\.1\.(?:conv|block)\.0\.0\.weight",
    "MNASNet": r"layers\.8\.0\.layers\.0\.weight",
    "ShuffleNet": r"stage2\.0\.branch1\..+",
    "DenseNet": r"features\.denseblock1\.denselayer1\..+",
    "Inception": r"(?:inception3a|Mixed_5b)\..+",
    "AlexNet": r"features\.\d+\.squeeze\.weight",
    "ViT": r"encoder\.layers\.encoder_layer_0\..+",
    "Swin": r"features\.1\.0\.attn\.qkv\.weight",
    "MaxViT": r"blocks\.0\.layers\.0\.layers\..+",
}
_FLAT = re.compile(r"features\.\d+\.[a-z_]+|(?:avgpool|classifier)\..+")


def family_of(names: Names) -> str | None:
    """The family whose names these are, as `config.backbones.FAMILIES` calls it, else None.

    `VGG` stands for AlexNet, too.
    """
    for family, mark in _MARKS.items():
        if any(re.fullmatch(mark, name) for name in names):
            return family
    flat = "features.0.weight" in names and all(_FLAT.fullmatch(name) for name in names)
    return "VGG" if flat else None


def _recognises(names: Names, beside: Beside) -> bool:
    return family_of(names) is not None


TORCHVISION_OTHERS = Format(
    "torchvision network",
    _recognises,
    rules=(
        # DenseNets' published files have the names of an older Python.
        Rule(
            r"(features\..+\.denselayer\d+)\.(norm|relu|conv)\.([12])\.(.+)", r"backbone.\1.\2\3.\4"
        ),
        Rule(r"(.+)", r"backbone.\1"),
    ),
    dropped=(
        Rule(
            r"(?:classifier|fc|head|heads|aux1|aux2|AuxLogits)\..+",
            why="of the classifier, of which a backbone has none",
        ),
    ),
)
