"""How jobs other than training are done: embed, profile, convert."""

from dataclasses import dataclass

from cgdcli.config.checks import check_range
from cgdcli.config.names import Device, Strict, StrideMode
from cgdcli.config.network import Transform, check_descriptors


@dataclass(frozen=True)
class EmbedConfig:
    """How an index is made; `workers` as in training."""

    batch_size: int = 32
    workers: int = 0
    device: Device = Device.auto

    def __post_init__(self) -> None:
        check_range("--batch-size", self.batch_size, 1, 100_000)
        check_range("--workers", self.workers, 0, 256)


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
            check_range("--batch-size", size, 1, 100_000)
        check_range("--repeats", self.repeats, 1, 1_000_000)
        check_range("--pictures", self.pictures, 1, 1_000_000)


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
            check_range("--gem-p", self.gem_p, 1, 100)
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
        check_range("--pictures", self.pictures, 4, 1_000_000)
