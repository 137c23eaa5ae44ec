"""One network, whole: what a checkpoint carries in its header."""

import dataclasses
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Self

from cgdcli.config.backbones import RESNETS, check_backbone, is_timm
from cgdcli.config.checks import check_choice, check_names
from cgdcli.config.names import DESCRIPTOR_NAMES, Head, StrideMode
from cgdcli.errors import ConfigError
from cgdcli.words import counted

IMAGE_SIZES = (32, 4096)  # pixels


@dataclass(frozen=True)
class Transform:
    """How a picture becomes the network's input; part of the model, saved with the weights.

    A picture is resized to `image_size` x `image_size` by Pillow's bilinear filter, its aspect
    not kept, as in the reference (leftthomas/CGD utils.py), then scaled to [0, 1] and normalized.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not IMAGE_SIZES[0] <= self.image_size <= IMAGE_SIZES[1]:
            raise ConfigError(
                f"image size {self.image_size} is out of range: 32 to 4096 pixels",
                hint="224 is what ImageNet backbones were trained with; try --image-size 224",
            )
        numbers = (*self.mean, *self.std)
        if (
            len(self.mean) != 3
            or len(self.std) != 3
            or not all(map(isfinite, numbers))
            or (min(self.std) <= 0)
        ):
            raise ConfigError(
                f"mean {self.mean} and std {self.std} want three finite numbers each, std above 0",
                hint="leave them at ImageNet's values",
            )


# Entries that a saved config has only where they are not this.
_LATER: dict[str, Any] = {"heads": (), "learned_p": False}


@dataclass(frozen=True)
class CGDConfig:
    """One network, whole: what is needed, beside the tensors, to make the same embeddings.

    Attributes:
        backbone: torchvision's name, or `timm:NAME`.
        descriptors: letters of S M G R C W without repeats; the order is that of the columns, and
            the first one feeds the auxiliary classifier.
        embedding_dim: length of the embedding, divided evenly among the descriptors; None for no
            projections: the pooled descriptors themselves.
        classes: outputs of the auxiliary classifier; 0 for none.
        gem_p: exponent of G and W; where it is learned, what learning began with. With a learned
            one, or a backbone that is no ResNet, of the map clamped at 1e-6.
        heads: one per descriptor, in order; empty where all of them are CGD's own, `linear`.
        learned_p: whether G and W have an exponent of their own among the tensors.
    """

    backbone: str = "resnet18"
    stride: StrideMode = StrideMode.layer3
    descriptors: str = "SG"
    embedding_dim: int | None = 512
    classes: int = 0
    gem_p: float = 3.0
    transform: Transform = field(default_factory=Transform)
    heads: tuple[Head, ...] = ()
    learned_p: bool = False

    def __post_init__(self) -> None:
        check_backbone(self.backbone)
        check_choice("stride", self.stride, StrideMode)
        self._check_stride()
        check_descriptors(self.descriptors)
        self._check_heads()
        count = len(self.descriptors)
        if self.embedding_dim is not None and (
            self.embedding_dim < count or self.embedding_dim % count
        ):
            nearest = max(1, round((self.embedding_dim or 512) / count)) * count
            raise ConfigError(
                f"embedding dimension {self.embedding_dim} cannot be divided evenly among the "
                f"{counted(count, 'descriptor')} of {self.descriptors}",
                hint=f"try --embedding-dim {nearest}",
            )
        if self.classes < 0 or not 1 <= self.gem_p <= 100:
            raise ConfigError(
                f"classes {self.classes} and gem_p {self.gem_p}: 0 or more, 1 or more (to 100)",
                hint="leave them out for the defaults",
            )

    def _check_stride(self) -> None:
        # Of timm's networks some have such a stage: known when one is built.
        if self.stride == StrideMode.standard or self.backbone in RESNETS or is_timm(self.backbone):
            return
        raise ConfigError(
            f"the stride of {self.stride} cannot be removed from {self.backbone}, which has no "
            "such stage",
            hint="keep its strides: --stride standard",
        )

    def _check_heads(self) -> None:
        heads = tuple(check_choice("head", head, Head) for head in self.heads)
        if heads and (len(heads) != len(self.descriptors) or self.embedding_dim is None):
            raise ConfigError(
                f"{counted(len(heads), 'head')} for the {len(self.descriptors)} descriptors "
                f"{self.descriptors}, embedding dimension {self.embedding_dim}; each projected "
                "descriptor has one",
                hint="leave them out for CGD's own: linear without bias, then L2",
            )
        # One way to say it, so that equal networks have equal fingerprints.
        object.__setattr__(self, "heads", heads if set(heads) != {Head.linear} else ())

    def head(self, branch: int) -> Head:
        """What the branch does with its descriptor."""
        return self.heads[branch] if self.heads else Head.linear

    def blocks(self, embedding_dim: int) -> list[tuple[str, int, int]]:
        """Columns of each branch in an embedding of that length: (letter, start, stop)."""
        width = embedding_dim // len(self.descriptors)
        return [(c, i * width, (i + 1) * width) for i, c in enumerate(self.descriptors)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. `heads` stands there only where a branch is not CGD's own, and
        `learned_p` where it is true, so that files and fingerprints from before there were others
        stay what they are."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if v or k not in _LATER}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; a missing or unknown entry is an error, never a default."""
        values = _LATER | dict(values)
        check_names(cls, values)
        transform = dict(values.pop("transform"))
        check_names(Transform, transform)
        mean, std = (tuple(transform.pop(name)) for name in ("mean", "std"))
        return cls(
            **values
            | {
                "stride": check_choice("stride", values["stride"], StrideMode),
                "transform": Transform(mean=mean, std=std, **transform),
                "heads": tuple(values["heads"]),
            }
        )


def pooled_config(backbone: str, image_size: int = Transform.image_size) -> CGDConfig:
    """A pretrained backbone as a usable model: S and G of its map, torchvision's strides."""
    return CGDConfig(
        backbone=backbone,
        stride=StrideMode.standard,
        descriptors="SG",
        embedding_dim=None,
        transform=Transform(image_size=image_size),
    )


def check_descriptors(letters: str) -> None:
    """Raise `ConfigError` unless `letters` is a string over S M G R C W without repeats."""
    known = ", ".join(f"{letter} {name}" for letter, name in DESCRIPTOR_NAMES.items())
    unknown = [letter for letter in letters if letter not in DESCRIPTOR_NAMES]
    if not letters or unknown:
        found = f"unknown letter {unknown[0]!r} in" if unknown else "no letter in"
        raise ConfigError(
            f"{found} descriptors {letters!r}; known are {known}",
            hint="write capital letters without separators, such as --descriptors SG",
        )
    if len(set(letters)) != len(letters):
        raise ConfigError(
            f"descriptors {letters!r} repeat a letter; each may stand once",
            hint=f"try --descriptors {''.join(dict.fromkeys(letters))}",
        )
