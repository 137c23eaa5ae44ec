"""torchvision's ResNets: the names we kept for the backbone, plus the ImageNet classifier `fc`."""

from cgdcli.weights.formats import Beside, Format, Names, Rule


def _recognises(names: Names, beside: Beside) -> bool:
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


TORCHVISION = Format(
    "torchvision ResNet",
    _recognises,
    rules=(Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),),
    dropped=(Rule(r"fc\.(?:weight|bias)", why="ImageNet classifier"),),
    backward=(Rule(r"backbone\.(.+)", r"\1"),),
    left_out=(
        Rule(r"branches\..+", why="a ResNet there ends with its map"),
        Rule(r"classifier\..+", why="only for training"),
    ),
)
