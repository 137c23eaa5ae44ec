"""torchvision's ResNets: the names we kept for the backbone, plus the ImageNet classifier `fc`."""

from collections.abc import Mapping

from torch import Tensor

from cgdcli.weights.formats import Beside, Facts, Format, Names, Rule

_IMAGENET_CLASSES = 1000


def _facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    fc = tensors.get("fc.weight")
    if fc is None or fc.ndim != 2 or fc.shape[0] == _IMAGENET_CLASSES:
        return Facts()
    rows, columns = fc.shape
    return Facts(
        notes=(
            f"fc ({rows} x {columns}) is taken for a classifier and left out; if it projects to "
            "the embedding, name the entries trunk.* and embedder.0.* and convert again",
        )
    )


def _recognises(names: Names, beside: Beside) -> bool:
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


TORCHVISION = Format(
    "torchvision ResNet",
    _recognises,
    rules=(Rule(r"((?:conv1|bn1|layer[1-4])\..+)", r"backbone.\1"),),
    dropped=(Rule(r"fc\.(?:weight|bias)", why="the layer fc, of which a backbone has none"),),
    read_facts=_facts,
    backward=(Rule(r"backbone\.(.+)", r"\1"),),
    left_out=(
        Rule(r"(?:branches|exponents)\..+", why="the network there ends with its map"),
        Rule(r"classifier\..+", why="only for training"),
    ),
)
