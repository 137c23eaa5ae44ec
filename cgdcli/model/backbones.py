"""Trunks: a normalized picture becomes a map.

Each is a published network without pooling and classifier, under that network's own parameter
names (`conv1.weight`, `features.0.0.weight` ...), so that its weights load strictly. torchvision's
ResNets stand here, its others in `torchvision_trunks.py`, timm's in `timm_trunks.py`.
"""

from typing import Any, cast

from torch import Tensor, nn

from cgdcli.config import StrideMode, Transform
from cgdcli.config.backbones import RESNETS, TORCHVISION, is_timm
from cgdcli.errors import ConfigError

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


class Trunk(nn.Module):
    """A network up to its map.

    Attributes:
        channels: of the map.
        stage_names: its parts in the order in which they run.
        runs_in_stages: whether `run_stage` runs each of them by itself.
    """

    channels: int
    stage_names: tuple[str, ...] = STAGES
    runs_in_stages = True

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H', W')."""
        for name in self.stage_names:
            images = self.run_stage(name, images)
        return images

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        """One of `stage_names`; `profile` measures them one by one."""
        raise NotImplementedError

    def stage_of(self, module: str) -> str:
        """The stage that a module of this trunk belongs to, by its name."""
        raise NotImplementedError


class ResNetBackbone(Trunk):
    """The stages of a residual network, run in order: H' = H / 32, H / 16 without one stride."""

    def __init__(self, name: str, stride: StrideMode) -> None:
        super().__init__()
        from torchvision import models

        network: Any = getattr(models, name)(weights=None)
        self.channels = network.fc.in_features
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        if stride is not StrideMode.standard:
            remove_stride(getattr(self, stride.value))

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        if name == "stem":
            return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return cast(Tensor, getattr(self, name)(x))

    def stage_of(self, module: str) -> str:
        first = module.partition(".")[0]
        return first if first in STAGES else "stem"


def make_trunk(name: str, stride: StrideMode, image_size: int) -> Trunk:
    """The trunk of that name, with random weights.

    Args:
        image_size: of the pictures to come; some networks take others only if built for them.

    Raises:
        ConfigError: it has no such stride or takes no such pictures, timm is not installed or has
            no network of that name.
    """
    if is_timm(name):
        from cgdcli.model.timm_trunks import TimmTrunk

        return TimmTrunk(name, stride, image_size)
    if name in RESNETS:
        return ResNetBackbone(name, stride)
    from cgdcli.model.torchvision_trunks import make_torchvision_trunk

    return make_torchvision_trunk(name, image_size)


def backbone_transform(name: str, image_size: int | None = None) -> Transform:
    """How pictures are prepared for the weights that a backbone was published with.

    Args:
        image_size: None for the one that those weights are evaluated at.
    """
    if is_timm(name):
        from cgdcli.model.timm_trunks import timm_transform

        published = timm_transform(name)
    else:
        preset = imagenet_weights(name).transforms()
        published = Transform(int(preset.crop_size[0]), tuple(preset.mean), tuple(preset.std))
    return Transform(image_size or published.image_size, published.mean, published.std)


def remove_stride(stage: nn.Module) -> None:
    """Set the stride of a stage's first block to 1; parameters and their names stay.

    The reference does this to layer3 (leftthomas/CGD resnet.py); the paper more likely means
    layer4. Both turn the 7x7 map of a 224 px picture into 14x14, at 10.60 and 6.21 GMACs.
    """
    for module in cast(nn.Sequential, stage)[0].modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            module.stride = (1, 1)


def imagenet_weights(name: str) -> Any:
    """torchvision's first ImageNet weights of a backbone (`WeightsEnum` member, not loaded).

    Two have none but SWAG's, trained on hashtags (Singh et al. 2022); of those the ones whose
    trunk was left as it was, which were evaluated at 224 px.
    """
    from torchvision.models._api import get_model_weights

    assert name in TORCHVISION
    weights: Any = get_model_weights(name)
    known = weights.__members__
    return known.get("IMAGENET1K_V1") or known["IMAGENET1K_SWAG_LINEAR_V1"]


def no_such_size(name: str, image_size: int, fitting: int, why: str) -> ConfigError:
    """The refusal of a size of pictures, and one that fits."""
    return ConfigError(
        f"{name} takes no pictures of {image_size} px: {why}",
        hint=f"try --image-size {fitting}",
    )
