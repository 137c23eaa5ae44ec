"""torchvision's classification networks besides the ResNets, as trunks."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cgdcli.config.backbones import FAMILIES
from cgdcli.errors import ConfigError
from cgdcli.model.backbones import Trunk, imagenet_weights, no_such_size

# Children of those networks that come after the map; all others run in the order they stand in.
HEADS = (
    *("avgpool", "flatten", "dropout", "classifier", "fc", "head", "heads"),
    *("aux1", "aux2", "AuxLogits"),
)
# What the fixed windows of maxvit_t fit into: 32 times 7.
_MAXVIT_STEP = 224
# std / 0.5 and (mean - 0.5) / 0.5 of ImageNet's.
_INCEPTION = ((0.458, 0.448, 0.45), (-0.03, -0.088, -0.188))


def make_torchvision_trunk(name: str, image_size: int) -> Trunk:
    """See `backbones.make_trunk`."""
    facts = _facts(name, image_size)
    trunk = _build(name, image_size)
    trunk.channels = facts.channels
    if isinstance(trunk, SequentialTrunk):
        trunk.stages = facts.stages
    return trunk


class SequentialTrunk(Trunk):
    """A network whose layers run one after the other.

    Attributes:
        layer_names: what runs, in order.
        stages: the layers of each: of the stem the first convolution with its norm and activation,
            then one stage for each size of the map.
    """

    stages: dict[str, tuple[int, ...]]

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        for child, module in network.named_children():
            if child not in HEADS:
                self.add_module(child, module)
        self.layer_names = [
            f"{child}.{inner}" if inner else child
            for child, module in self.named_children()
            for inner in _inner(module)
        ]
        self.scales_again = name in FAMILIES["Inception"]
        self.ends_with_relu = name in FAMILIES["DenseNet"]

    @property
    def stage_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.stages)

    def run_layer(self, number: int, x: Tensor) -> Tensor:
        """One of `layer_names`, with what runs before the first and after the last."""
        if number == 0 and self.scales_again:
            x = _to_inception(x)
        x = self.get_submodule(self.layer_names[number])(x)
        if number == len(self.layer_names) - 1 and self.ends_with_relu:
            x = F.relu(x)
        return x

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        for layer in self.stages[name]:
            x = self.run_layer(layer, x)
        return x

    def stage_of(self, module: str) -> str:
        layer = next(
            number
            for number, name in enumerate(self.layer_names)
            if f"{module}.".startswith(f"{name}.")
        )
        return next(name for name, members in self.stages.items() if layer in members)


class ViTTrunk(Trunk):
    """A vision transformer: the tokens of its patches, after its last norm, as a map; the class
    token, which they have looked at, is left out.

    `encoder.pos_embedding` stays of the size that the weights were published for; for another grid
    of patches it is interpolated as by torchvision's `interpolate_embeddings` (Dosovitskiy et al.
    2021, section 3.2). As a product with a matrix, whose gradient is the same in every run,
    unlike that of CUDA's resizing.
    """

    stage_names = ("stem", "encoder")

    def __init__(self, name: str, network: Any) -> None:
        super().__init__()
        self.conv_proj, self.encoder = network.conv_proj, network.encoder
        self.class_token = network.class_token
        self.patch: int = network.patch_size

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        return self._patches(x) if name == "stem" else self._encode(x)

    def stage_of(self, module: str) -> str:
        return "encoder" if module.startswith("encoder.l") else "stem"

    def _patches(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + H' W', C)."""
        x = self.conv_proj(images)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        positions = self._positions(int(x.shape[2]), int(x.shape[3]))
        return cast(Tensor, self.encoder.dropout(tokens + positions))

    def _encode(self, tokens: Tensor) -> Tensor:
        """(B, 1 + N N, C) -> (B, C, N, N); pictures are square."""
        tokens = self.encoder.ln(self.encoder.layers(tokens))[:, 1:]
        # No len(): of a graph that is exported it would make the batch a constant.
        side = math.isqrt(int(tokens.shape[1]))
        return tokens.transpose(1, 2).reshape(-1, tokens.shape[2], side, side)

    def _positions(self, height: int, width: int) -> Tensor:
        known: Tensor = self.encoder.pos_embedding
        side = math.isqrt(int(known.shape[1]) - 1)
        if (height, width) == (side, side):
            return known
        matrix = _resizing(side, height, width).to(known)
        # The meta device knows no autocast.
        exact = nullcontext() if known.is_meta else torch.autocast(known.device.type, enabled=False)
        with exact:
            return torch.cat([known[:, :1], matrix @ known[:, 1:]], dim=1)


@cache
def _resizing(side: int, height: int, width: int) -> Tensor:
    """(height width, side side): what each new place takes of the old ones."""
    with torch.device("cpu"):
        places = torch.eye(side * side).reshape(side * side, 1, side, side)
        new = F.interpolate(places, (height, width), mode="bicubic", align_corners=True)
    return new.flatten(1).T.contiguous()


@dataclass(frozen=True)
class _Facts:
    """What a network makes of pictures of one size."""

    channels: int
    stages: dict[str, tuple[int, ...]]


@cache
def _facts(name: str, image_size: int) -> _Facts:
    """By a run on the meta device, where nothing is computed.

    Raises:
        ConfigError: it takes no pictures of that size.
    """
    if name in FAMILIES["ViT"]:
        _check_multiple(name, image_size, int(name.rpartition("_")[2]), "patches")
    if name in FAMILIES["MaxViT"]:
        _check_multiple(name, image_size, _MAXVIT_STEP, "windows")
    trunk = meta_trunk(name, image_size).eval()
    x = torch.empty(1, 3, image_size, image_size, device="meta")
    try:
        with torch.no_grad():
            if not isinstance(trunk, SequentialTrunk):
                return _Facts(int(trunk(x).shape[1]), {})
            sides = []
            for layer in range(len(trunk.layer_names)):
                x = trunk.run_layer(layer, x)
                # Channels come first, in a Swin last: of three numbers the two that are equal.
                sides.append(sorted(x.shape[1:])[1])
    except RuntimeError as error:
        native = int(imagenet_weights(name).transforms().crop_size[0])
        raise no_such_size(name, image_size, native, "nothing would be left of its map") from error
    stem = next(n for n in range(1, len(sides)) if sides[n] != sides[0] or _multiplies(trunk, n))
    stages = {"stem": tuple(range(stem))}
    for _, members in groupby(range(stem, len(sides)), lambda layer: sides[layer]):
        stages[f"stage{len(stages)}"] = tuple(members)
    return _Facts(int(x.shape[1]), stages)


def _multiplies(trunk: SequentialTrunk, layer: int) -> bool:
    """Whether there is more in a layer than a norm or an activation."""
    modules = trunk.get_submodule(trunk.layer_names[layer]).modules()
    return any(isinstance(module, nn.Conv2d | nn.Linear) for module in modules)


def meta_trunk(name: str, image_size: int = _MAXVIT_STEP) -> Trunk:
    """Names and shapes of a trunk; draws no random numbers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _build(name, image_size)


def _build(name: str, image_size: int) -> Trunk:
    kind = ViTTrunk if name in FAMILIES["ViT"] else SequentialTrunk
    return kind(name, torchvision_network(name, image_size))


def torchvision_network(name: str, image_size: int) -> Any:
    """The network as torchvision makes it, with random weights."""
    from torchvision import models

    options: dict[str, Any] = {}
    if name in FAMILIES["Inception"]:
        options = {"aux_logits": False, "init_weights": True}
    elif name in FAMILIES["MaxViT"]:
        options = {"input_size": (image_size, image_size)}
    with _CountingOnCPU() if name in FAMILIES["RegNet"] else nullcontext():
        return getattr(models, name)(weights=None, **options)


class _CountingOnCPU(TorchFunctionMode):
    """RegNets reckon their widths with tensors, which on the meta device have no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        counts = func is torch.arange or (func is torch.tensor and isinstance(args[0], list))
        return func(*args, **(kwargs or {}) | ({"device": "cpu"} if counts else {}))


def _check_multiple(name: str, image_size: int, step: int, what: str) -> None:
    if image_size % step:
        nearest = max(1, round(image_size / step)) * step
        raise ConfigError(
            f"{name} cuts a picture into {what}, and {image_size} px is no multiple of {step}",
            hint=f"try --image-size {nearest}",
        )


def _inner(module: nn.Module) -> list[str]:
    """Names of the layers of a sequence; one empty name for any other module."""
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return [name for name, _ in module.named_children()]
    return [""]


def _to_inception(images: Tensor) -> Tensor:
    """From ImageNet's mean and std to a half each, as torchvision does with published weights
    (`transform_input`)."""
    scale, shift = (images.new_tensor(values).view(3, 1, 1) for values in _INCEPTION)
    return images * scale + shift
