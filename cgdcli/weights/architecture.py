"""What tensors say of a network: backbone, branches, dimension, classes. Not letters or strides."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cgdcli.config import Backbone
from cgdcli.errors import CheckpointError

# (blocks per layer, has a third convolution, shape of layer1.0.conv2.weight)
_BACKBONES = {
    ((2, 2, 2, 2), False, (64, 64, 3, 3)): Backbone.resnet18,
    ((3, 4, 6, 3), False, (64, 64, 3, 3)): Backbone.resnet34,
    ((3, 4, 6, 3), True, (64, 64, 3, 3)): Backbone.resnet50,
    ((3, 4, 23, 3), True, (64, 64, 3, 3)): Backbone.resnet101,
    ((3, 8, 36, 3), True, (64, 64, 3, 3)): Backbone.resnet152,
    ((3, 4, 6, 3), True, (128, 4, 3, 3)): Backbone.resnext50_32x4d,
    ((3, 4, 23, 3), True, (256, 8, 3, 3)): Backbone.resnext101_32x8d,
    ((3, 4, 23, 3), True, (256, 4, 3, 3)): Backbone.resnext101_64x4d,
    ((3, 4, 6, 3), True, (128, 128, 3, 3)): Backbone.wide_resnet50_2,
    ((3, 4, 23, 3), True, (128, 128, 3, 3)): Backbone.wide_resnet101_2,
}


@dataclass(frozen=True)
class Architecture:
    """What tensors can say of the network: everything but letters, strides, p and the transform.

    Attributes:
        biased: which branches have a bias.
        learned_p: whether a p is among the tensors.
        classes: outputs of the auxiliary classifier, 0 without one.
    """

    backbone: Backbone
    branches: int
    embedding_dim: int | None
    classes: int
    biased: tuple[bool, ...] = ()
    learned_p: bool = False


def read_architecture(tensors: Mapping[str, Tensor], what: str) -> Architecture:
    """Read backbone, number of branches, embedding_dim and classes off our names and shapes.

    Args:
        what: the file, for an error's words.

    Raises:
        CheckpointError: the trunk is none of torchvision's ResNets, or branches are uneven.
    """
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    weights = {n: s for n, s in shapes.items() if n.startswith("branches.") and "weight" in n}
    for name in ("classifier.linear.weight", *weights):
        if len(shapes.get(name, (0, 0))) != 2:
            raise CheckpointError(
                f"{name} in {what} has the shape {shapes[name]}; a matrix is wanted",
                hint="the file is no whole checkpoint; take another",
            )
    branches = list(weights.values())
    if any(shape != branches[0] for shape in branches):
        raise CheckpointError(
            f"the branches in {what} have unequal shapes {branches}",
            hint="a CGD divides its embedding evenly among its descriptors",
        )
    return Architecture(
        _backbone(shapes, what),
        len(branches),
        sum(shape[0] for shape in branches) or None,
        shapes.get("classifier.linear.weight", (0,))[0],
        tuple(name.replace("weight", "bias") in shapes for name in weights),
        any(name.startswith("exponents.") for name in shapes),
    )


def _backbone(shapes: Mapping[str, tuple[int, ...]], what: str) -> Backbone:
    blocks = tuple(
        len({name.split(".")[2] for name in shapes if name.startswith(f"backbone.layer{i}.")})
        for i in range(1, 5)
    )
    deep = "backbone.layer1.0.conv3.weight" in shapes
    width = shapes.get("backbone.layer1.0.conv2.weight")
    backbone = _BACKBONES.get((blocks, deep, width))  # type: ignore[arg-type]
    if backbone is None:
        raise CheckpointError(
            f"the trunk in {what} has {blocks} blocks and layer1.0.conv2 of shape "
            f"{width}: none of torchvision's ResNets",
            hint=f"known are {', '.join(Backbone)}",
        )
    return backbone
