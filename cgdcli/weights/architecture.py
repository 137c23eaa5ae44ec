"""What tensors say of a network: backbone, branches, dimension, classes. Not letters or strides."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from cgdcli.config.backbones import FAMILIES, RESNETS
from cgdcli.errors import CheckpointError
from cgdcli.model.torchvision_trunks import meta_trunk
from cgdcli.weights.formats.torchvision_others import family_of

# (blocks per layer, has a third convolution, shape of layer1.0.conv2.weight)
_BACKBONES = {
    ((2, 2, 2, 2), False, (64, 64, 3, 3)): "resnet18",
    ((3, 4, 6, 3), False, (64, 64, 3, 3)): "resnet34",
    ((3, 4, 6, 3), True, (64, 64, 3, 3)): "resnet50",
    ((3, 4, 23, 3), True, (64, 64, 3, 3)): "resnet101",
    ((3, 8, 36, 3), True, (64, 64, 3, 3)): "resnet152",
    ((3, 4, 6, 3), True, (128, 4, 3, 3)): "resnext50_32x4d",
    ((3, 4, 23, 3), True, (256, 8, 3, 3)): "resnext101_32x8d",
    ((3, 4, 23, 3), True, (256, 4, 3, 3)): "resnext101_64x4d",
    ((3, 4, 6, 3), True, (128, 128, 3, 3)): "wide_resnet50_2",
    ((3, 4, 23, 3), True, (128, 128, 3, 3)): "wide_resnet101_2",
}


@dataclass(frozen=True)
class Architecture:
    """What tensors can say of the network: everything but letters, strides, p and the transform.

    Attributes:
        biased: which branches have a bias.
        learned_p: whether a p is among the tensors.
        classes: outputs of the auxiliary classifier, 0 without one.
    """

    backbone: str
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


def _backbone(shapes: Mapping[str, tuple[int, ...]], what: str) -> str:
    trunk = {n.removeprefix("backbone."): s for n, s in shapes.items() if n.startswith("backbone.")}
    family = family_of(trunk)
    if family is not None:
        candidates = FAMILIES[family] + (FAMILIES["AlexNet"] if family == "VGG" else ())
        return _member(trunk, candidates, what)
    blocks = tuple(
        len({name.split(".")[1] for name in trunk if name.startswith(f"layer{i}.")})
        for i in range(1, 5)
    )
    deep = "layer1.0.conv3.weight" in trunk
    width = trunk.get("layer1.0.conv2.weight")
    backbone = _BACKBONES.get((blocks, deep, width))  # type: ignore[arg-type]
    if backbone is None:
        raise CheckpointError(
            f"the trunk in {what} has {blocks} blocks and layer1.0.conv2 of shape "
            f"{width}: none of torchvision's ResNets",
            hint=f"known are {', '.join(RESNETS)}",
        )
    return backbone


@cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {n: tuple(t.shape) for n, t in meta_trunk(name).state_dict().items()}


def _member(trunk: Mapping[str, tuple[int, ...]], candidates: tuple[str, ...], what: str) -> str:
    """The network of a family that has these names and shapes."""
    misfits: dict[str, list[str]] = {}
    for name in candidates:
        wanted = _shapes(name)
        misfits[name] = [n for n in {**wanted, **trunk} if wanted.get(n) != trunk.get(n)]
        if not misfits[name]:
            return name
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    entry = misfits[nearest][0]
    raise CheckpointError(
        f"the trunk in {what} is none of torchvision's {', '.join(candidates)}: the nearest, "
        f"{nearest}, differs in {len(misfits[nearest])} entries, first {entry}",
        hint="take whole weights of one of these, at the size of pictures they were published for",
    )
