"""timm's ResNets that are not torchvision's: recognised, so that they are refused by what differs.

The plain ones (`resnet18` ... `wide_resnet101_2`, `resnext50_32x4d`) have torchvision's names and
layers (timm/models/resnet.py at aa4b585) and are read as such.
"""

from cgdcli.weights.formats import Beside, Format, Names, Rule, first_match

_DIFFERENT = (
    Rule(r"conv1\.\d+\..+", why="a stem of three convolutions (a `d`, `s` or `t` variant of timm)"),
    Rule(r".+\.downsample\.2\..+", why="a pooled shortcut (avg_down, a `d` variant of timm)"),
    Rule(r".+\.(?:se|eca|attn)\..+", why="channel attention (SE, ECA) of timm"),
    Rule(r"(?:stem|stages)\..+", why="a ResNet-v2 or RegNet of timm"),
)


def _recognises(names: Names, beside: Beside) -> bool:
    trunk = "layer1.0.conv1.weight" in names or "stages.0.blocks.0.conv1.weight" in names
    return trunk and any(first_match(_DIFFERENT, name) for name in names)


TIMM = Format(
    "timm ResNet variant",
    _recognises,
    rules=(Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),),
    dropped=(
        Rule(r"(?:fc|head\.fc)\.(?:weight|bias)", why="classifier, of which a backbone has none"),
    ),
    refused=_DIFFERENT,
)
