"""What can be chosen, its limits, and every default, once.

The command line reads its defaults from these dataclasses; a checkpoint carries a `CGDConfig` in
its header. No torch here: `cgd --help` imports this module.
"""

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any, Self, TypeVar

from cgdcli.errors import ConfigError
from cgdcli.words import counted


class Backbone(StrEnum):
    """torchvision's residual networks, by torchvision's names."""

    resnet18 = "resnet18"
    resnet34 = "resnet34"
    resnet50 = "resnet50"
    resnet101 = "resnet101"
    resnet152 = "resnet152"
    resnext50_32x4d = "resnext50_32x4d"
    resnext101_32x8d = "resnext101_32x8d"
    resnext101_64x4d = "resnext101_64x4d"
    wide_resnet50_2 = "wide_resnet50_2"
    wide_resnet101_2 = "wide_resnet101_2"


class StrideMode(StrEnum):
    """Which stage gives up its stride of 2. Keys and shapes are the same in all three."""

    layer3 = "layer3"
    layer4 = "layer4"
    standard = "standard"


class Head(StrEnum):
    """What becomes of one descriptor; each ends with L2.

    `linear` is CGD's: Linear without bias. `affine` has a bias. `whitening` normalizes first, then
    Linear with bias, as the learned whitening of cnnimageretrieval-pytorch does.
    """

    linear = "linear"
    affine = "affine"
    whitening = "whitening"


class Strict(StrEnum):
    """What a conversion insists on: every entry, or every one but the classifier's."""

    exact = "exact"
    inference = "inference"


class Foreign(StrEnum):
    """Whose names a checkpoint can be written back under."""

    reference = "reference"
    torchvision = "torchvision"
    timm = "timm"


class Dataset(StrEnum):
    """How labelled pictures are laid out; `auto` recognises each of the others."""

    auto = "auto"
    folders = "folders"
    table = "table"
    cub = "cub"
    cars = "cars"
    sop = "sop"
    inshop = "inshop"


class Device(StrEnum):
    """Where to compute; `auto` takes CUDA, else MPS for embedding, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


DESCRIPTOR_NAMES = {
    "S": "SPoC (mean)",
    "M": "MAC (max)",
    "G": "GeM (generalized mean)",
    "R": "R-MAC (regional maxima)",
    "C": "CroW (weighted sum pooling)",
    "W": "weighted GeM (CroW's spatial weights)",
}
RECALL_RANKS = (1, 2, 4, 8)
EnumT = TypeVar("EnumT", bound=StrEnum)


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
        if not 32 <= self.image_size <= 4096:
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


@dataclass(frozen=True)
class CGDConfig:
    """One network, whole: what is needed, beside the tensors, to make the same embeddings.

    Attributes:
        descriptors: letters of S M G R C W without repeats; the order is that of the columns, and
            the first one feeds the auxiliary classifier.
        embedding_dim: length of the embedding, divided evenly among the descriptors; None for no
            projections: the pooled descriptors themselves.
        classes: outputs of the auxiliary classifier; 0 for none.
        gem_p: exponent of G and W, fixed.
        heads: one per descriptor, in order; empty where all of them are CGD's own, `linear`.
    """

    backbone: Backbone = Backbone.resnet18
    stride: StrideMode = StrideMode.layer3
    descriptors: str = "SG"
    embedding_dim: int | None = 512
    classes: int = 0
    gem_p: float = 3.0
    transform: Transform = field(default_factory=Transform)
    heads: tuple[Head, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("backbone", self.backbone, Backbone)
        _check_choice("stride", self.stride, StrideMode)
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

    def _check_heads(self) -> None:
        heads = tuple(_check_choice("head", head, Head) for head in self.heads)
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. `heads` stands there only where a branch is not CGD's own, so
        that files and fingerprints from before there were others stay what they are."""
        values = dataclasses.asdict(self)
        return values if self.heads else {k: v for k, v in values.items() if k != "heads"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; a missing or unknown entry is an error, never a default."""
        values = {"heads": ()} | dict(values)
        _check_names(cls, values)
        transform = dict(values.pop("transform"))
        _check_names(Transform, transform)
        mean, std = (tuple(transform.pop(name)) for name in ("mean", "std"))
        return cls(
            **values
            | {
                "backbone": _check_choice("backbone", values["backbone"], Backbone),
                "stride": _check_choice("stride", values["stride"], StrideMode),
                "transform": Transform(mean=mean, std=std, **transform),
                "heads": tuple(values["heads"]),
            }
        )


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The values are the reference's but for the backbone and the dimension: a
    ResNet-18 step of 128 pictures at 224 px takes 5.2 GB of memory, the process whole (measured on
    a CPU), which a laptop has; the reference's ResNet-50 wants a GPU.

    Attributes:
        per_class: pictures of one class in a batch (M of an M-per-class batch).
        val_fraction: share of the training CLASSES held out to choose `best`, where the data has
            no `val`.
        backbone_weights: `default` (torchvision's ImageNet download), `none`, or a file.
        margin: of the triplet loss, a Euclidean distance between unit embeddings.
        workers: threads that decode pictures; 0 for as many as there are cores, at most 8.
        dataset, crop_box: how the data is laid out, and whether its boxes are cut out.
    """

    backbone: Backbone = CGDConfig.backbone
    stride: StrideMode = CGDConfig.stride
    descriptors: str = CGDConfig.descriptors
    embedding_dim: int = 512
    image_size: int = Transform.image_size
    backbone_weights: str = "default"
    epochs: int = 20
    batch_size: int = 128
    per_class: int = 4
    learning_rate: float = 1e-4
    margin: float = 0.1
    temperature: float = 0.5
    smoothing: float = 0.1
    val_fraction: float = 0.2
    seed: int = 0
    workers: int = 0
    device: Device = Device.auto
    dataset: Dataset = Dataset.auto
    crop_box: bool = False

    def __post_init__(self) -> None:
        self.model_config(classes=2)
        _check_range("--epochs", self.epochs, 1, 100_000)
        _check_range("--batch-size", self.batch_size, 2, 100_000)
        _check_range("--per-class", self.per_class, 2, 1_000)
        _check_range("--workers", self.workers, 0, 256)
        _check_range("--val-fraction", self.val_fraction, 0, 0.9)
        _check_range("--learning-rate", self.learning_rate, 1e-12, 1e3)
        _check_range("margin", self.margin, 0, 100)
        _check_range("temperature", self.temperature, 1e-3, 1e3)
        _check_range("smoothing", self.smoothing, 0, 0.999)
        _check_range("--seed", self.seed, 0, 2**63 - 1)
        if self.per_class > self.batch_size:
            raise ConfigError(
                f"--per-class {self.per_class} is larger than --batch-size {self.batch_size}",
                hint=f"a batch holds several classes: try --batch-size {8 * self.per_class}",
            )

    def model_config(self, classes: int) -> CGDConfig:
        """The network that this run trains."""
        return CGDConfig(
            backbone=self.backbone,
            stride=self.stride,
            descriptors=self.descriptors,
            embedding_dim=self.embedding_dim,
            classes=classes,
            transform=Transform(image_size=self.image_size),
        )


@dataclass(frozen=True)
class EmbedConfig:
    """How an index is made; `workers` as in training."""

    batch_size: int = 32
    workers: int = 0
    device: Device = Device.auto

    def __post_init__(self) -> None:
        _check_range("--batch-size", self.batch_size, 1, 100_000)
        _check_range("--workers", self.workers, 0, 256)


@dataclass(frozen=True)
class ProfileConfig:
    """What is measured beside the counts.

    Attributes:
        batch_sizes: latency is measured at each.
        repeats: timed forward passes at each, after `warmup` untimed ones.
        roofline: measure the machine's peaks and each stage's speed.
        images: a folder whose embedding is timed: decode, transform, forward.
        pictures: so many of it, evenly spaced.
    """

    batch_sizes: tuple[int, ...] = (1,)
    repeats: int = 20
    warmup: int = 2
    device: Device = Device.cpu
    roofline: bool = False
    images: str | None = None
    pictures: int = 64

    def __post_init__(self) -> None:
        for size in self.batch_sizes or (0,):
            _check_range("--batch-size", size, 1, 100_000)
        _check_range("--repeats", self.repeats, 1, 1_000_000)
        _check_range("--pictures", self.pictures, 1, 1_000_000)


@dataclass(frozen=True)
class ConvertConfig:
    """What a user says of a foreign weights file.

    Attributes:
        descriptors, stride, gem_p, image_size, mean, std: as in `CGDConfig`; None for what the
            file, its name or its format says, else an assumption that is announced.
        strict: `inference` lets the classifier be missing, which no embedding needs.
        take: the key of the weights to take, where a file holds several; None for averaged ones.
    """

    descriptors: str | None = None
    stride: StrideMode | None = None
    gem_p: float | None = None
    image_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    strict: Strict = Strict.exact
    take: str | None = None

    def __post_init__(self) -> None:
        if self.descriptors is not None:
            check_descriptors(self.descriptors)
        if self.gem_p is not None:
            _check_range("--gem-p", self.gem_p, 1, 100)
        self.transform(Transform())

    def transform(self, otherwise: Transform) -> Transform:
        """What is said of the transform, over `otherwise`."""
        return Transform(
            otherwise.image_size if self.image_size is None else self.image_size,
            otherwise.mean if self.mean is None else self.mean,
            otherwise.std if self.std is None else self.std,
        )


@dataclass(frozen=True)
class TrialConfig:
    """How readings of a foreign file are tried.

    Attributes:
        pictures: at most so many of the folder, whole classes where they are judged by class.
        grid_pictures: so many decide among all combinations, where embeddings are compared.
    """

    pictures: int = 300
    grid_pictures: int = 16
    batch_size: int = 16
    device: Device = Device.auto

    def __post_init__(self) -> None:
        _check_range("--pictures", self.pictures, 4, 1_000_000)


def pooled_config(backbone: Backbone, image_size: int = Transform.image_size) -> CGDConfig:
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


def _check_choice(name: str, value: Any, kind: type[EnumT]) -> EnumT:
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(
            f"unknown {name} {value!r}; known are {', '.join(kind)}",
            hint=f"choose one of them with --{name}",
        ) from None


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            f"{option} {value} is out of range: {low:g} to {high:g}",
            hint=f"choose a value in that range, or leave {option} out for the default",
        )


def _check_names(kind: type[Any], values: dict[str, Any]) -> None:
    wanted = {f.name for f in dataclasses.fields(kind)}
    if set(values) != wanted:
        missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
        raise ConfigError(
            f"a saved {kind.__name__} has other entries than this version: "
            f"missing {missing}, unknown {unknown}",
            hint="the file was written by another version of cgd; use that version",
        )
