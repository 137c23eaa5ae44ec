"""Trunks: a normalized picture becomes a map.

torchvision's residual networks without pooling and fc, under torchvision's own parameter names
(`conv1.weight`, `layer1.0.conv1.weight` ...), with the stride of one stage taken away on request.
"""

from typing import Any, cast

from torch import Tensor, nn

from cgdcli.config import Backbone, StrideMode

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


class ResNetBackbone(nn.Module):
    """The stages of a residual network, run in order."""

    def __init__(self, name: Backbone, stride: StrideMode) -> None:
        super().__init__()
        from torchvision import models

        network: Any = getattr(models, name.value)(weights=None)
        self.channels: int = network.fc.in_features
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        if stride is not StrideMode.standard:
            remove_stride(getattr(self, stride.value))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H', W'): H' = H / 32, or H / 16 without one stride."""
        for name in STAGES:
            images = self.run_stage(name, images)
        return images

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        """One of `STAGES`; `profile` measures them one by one."""
        if name == "stem":
            return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return cast(Tensor, getattr(self, name)(x))


def remove_stride(stage: nn.Module) -> None:
    """Set the stride of a stage's first block to 1; parameters and their names stay.

    The reference does this to layer3 (leftthomas/CGD resnet.py); the paper more likely means
    layer4. Both turn the 7x7 map of a 224 px picture into 14x14, at 10.60 and 6.21 GMACs.
    """
    for module in cast(nn.Sequential, stage)[0].modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            module.stride = (1, 1)


def imagenet_weights(name: Backbone) -> Any:
    """torchvision's first ImageNet weights of a backbone (`WeightsEnum` member, not loaded)."""
    from torchvision.models._api import get_model_weights

    weights: Any = get_model_weights(name.value)
    return weights["IMAGENET1K_V1"]
