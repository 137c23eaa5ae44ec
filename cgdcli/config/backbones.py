"""Trunks by name: torchvision's, listed here, and any of timm's as `timm:NAME`."""

import difflib
from typing import Any

from cgdcli.errors import ConfigError

TIMM = "timm:"
_NEAR = 0.6  # difflib's own cutoff

# torchvision's names, by family; a test compares them with its own list.
FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet": (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        *("wide_resnet50_2", "wide_resnet101_2"),
    ),
    "ConvNeXt": ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    "EfficientNet": (
        *(f"efficientnet_b{i}" for i in range(8)),
        *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    ),
    "RegNet": (
        *(f"regnet_x_{n}" for n in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
        *(f"regnet_y_{n}" for n in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
        "regnet_y_128gf",
    ),
    "MobileNet": ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    "MNASNet": ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    "ShuffleNet": tuple(f"shufflenet_v2_x{n}" for n in ("0_5", "1_0", "1_5", "2_0")),
    "DenseNet": ("densenet121", "densenet161", "densenet169", "densenet201"),
    "Inception": ("googlenet", "inception_v3"),
    "VGG": tuple(f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")),
    "AlexNet": ("alexnet", "squeezenet1_0", "squeezenet1_1"),
    "ViT": ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    "Swin": ("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
    "MaxViT": ("maxvit_t",),
}
RESNETS = FAMILIES["ResNet"]
TORCHVISION = tuple(name for names in FAMILIES.values() for name in names)


def backbone_words() -> str:
    """What there is, for people."""
    families = ", ".join(f"{family} ({names[0]} ...)" for family, names in FAMILIES.items())
    return f"torchvision's {families}, or timm:NAME through the extra `timm`"


def check_backbone(name: Any) -> str:
    """The name, if it is one; whether timm has what follows `timm:` is known when it is built.

    Raises:
        ConfigError: neither torchvision's nor `timm:NAME`; it names the nearest.
    """
    if isinstance(name, str) and (name in TORCHVISION or (is_timm(name) and name != TIMM)):
        return name
    raise ConfigError(
        f"unknown backbone {name!r}: neither one of torchvision's nor {TIMM}NAME",
        hint=did_you_mean(str(name)) or f"{_as_timms(str(name))}; known are {backbone_words()}",
    )


def did_you_mean(name: str) -> str:
    """A hint with the nearest of torchvision's names; empty where none is near."""
    plain = name.lower().replace("-", "_")
    if plain in TORCHVISION:
        return f"did you mean {plain}?"
    known = difflib.SequenceMatcher(b=plain)
    likeness: dict[str, float] = {}
    for other in TORCHVISION:
        known.set_seq1(other)
        likeness[other] = known.ratio()
    # Of equally near ones the smallest, which stand first, not difflib's last of the alphabet.
    nearest = sorted(TORCHVISION, key=lambda other: -likeness[other])[:3]
    nearest = [other for other in nearest if likeness[other] > _NEAR]
    nearest = nearest or [other for other in TORCHVISION if name and other.startswith(plain)][:3]
    return f"did you mean {' or '.join(nearest)}? {_as_timms(name)}" if nearest else ""


def _as_timms(name: str) -> str:
    # `timm/NAME` is how the Hugging Face hub calls them.
    bare = name.removeprefix(TIMM).removeprefix("timm/")
    return f"if it is one of timm's, write {TIMM}{bare or 'NAME'}"


def is_timm(name: str) -> bool:
    """Whether a backbone is one of timm's."""
    return name.startswith(TIMM)
