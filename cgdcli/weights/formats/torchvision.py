"""torchvision's ResNets: the names we kept for the backbone, plus the ImageNet classifier `fc`."""

from cgdcli.weights.formats import Beside, Format, Names, Rule


def _recognises(names: Names, beside: Beside) -> bool:
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


TORCHVISION = Format(
    "torchvision ResNet",
    _recognises,
    rules=(Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),),
    dropped=(Rule(r"fc\.(?:weight|bias)", why="ImageNet classifier"),),
)
