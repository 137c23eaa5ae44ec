"""torchvision's ResNets: the names we kept for the backbone, plus the ImageNet classifier `fc`."""

from collections.abc import Collection

from cgdcli.weights.formats import Format

_PARTS = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")


def _recognises(names: Collection[str]) -> bool:
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


def _rename(name: str) -> str | None:
    return f"backbone.{name}" if name.startswith(_PARTS) else None


def _drop(name: str) -> str | None:
    return "ImageNet classifier" if name in ("fc.weight", "fc.bias") else None


TORCHVISION = Format("torchvision ResNet", _recognises, _rename, _drop)
