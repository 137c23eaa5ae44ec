"""How jobs other than training are done: embed, profile, convert."""

from dataclasses import dataclass, field

from cgdcli.config.checks import AUTO, check_choice, check_range
from cgdcli.config.names import Device, EmbedPrecision, EngineName, Strict, StrideMode
from cgdcli.config.network import Transform, check_descriptors
from cgdcli.config.vectors import VectorConfig


@dataclass(frozen=True)
class EmbedConfig:
    """How pictures are embedded; `workers` as in training.

    Attributes:
        batch_size: pictures a forward pass; `AUTO` (0) for what suits, see `pass_size`.
        precision: of an index; a reduced one is taken only if it finds the neighbours that fp32
            finds. `auto`: the fastest that does.
        exact_decode: pictures are decoded whole; else a JPEG that is much larger than the network's
            input at a fraction of its size, which takes a fraction of the time.
        vectors: what is made of the network's answers.
        max_megapixels: pictures that claim more are skipped, as bombs would be; Pillow's limit.
    """

    batch_size: int = AUTO
    workers: int = 0
    device: Device = Device.auto
    max_megapixels: float = 179.0
    engine: EngineName = EngineName.auto
    precision: EmbedPrecision = EmbedPrecision.fp32
    exact_decode: bool = False
    vectors: VectorConfig = field(default_factory=VectorConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", check_choice("engine", self.engine, EngineName))
        object.__setattr__(self, "device", check_choice("device", self.device, Device))
        precision = check_choice("precision", self.precision, EmbedPrecision)
        object.__setattr__(self, "precision", precision)
        check_range("--batch-size", self.batch_size, 0, 100_000)
        check_range("--max-megapixels", self.max_megapixels, 0.001, 1e6)
        check_range("--workers", self.workers, 0, 256)

    def pass_size(self, *, on_cpu: bool, filled: bool = False) -> int:
        """Pictures a forward pass.

        On a CPU 8 are as fast as 32 (ResNet-18, 224 px: 12.0 and 11.0 pictures/s; 112 px: 44 and
        50), and a pass that is filled up for one new picture costs a quarter.

        Args:
            filled: every pass has so many pictures, blank ones where there are no more.
        """
        if self.batch_size:
            return self.batch_size
        return 128 if not on_cpu else 8 if filled else 32


@dataclass(frozen=True)
class DuplicatesConfig:
    """When two pictures of an index count as duplicates.

    Attributes:
        threshold: similarity at or above which two rows are joined. Of 5 871 pictures of Cars196,
            by the pooled descriptors of a ResNet-18, the 16 pairs from 0.96 on are one photograph
            or one shot twice; most of the 21 between 0.95 and 0.96 are two cars. Of copies of 30
            camera photographs it finds those at JPEG quality 30, a fifth brighter or cropped to
            95 %, 97 % of those scaled to half, 70 % of those cropped to 90 %, few mirrored or grey
            ones (examples/benchmarks/duplicates.md). Another model has another scale: look before
            removing.
    """

    threshold: float = 0.96

    def __post_init__(self) -> None:
        check_range("--threshold", self.threshold, 0.01, 1)


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
class ExportConfig:
    """How an exported graph is proved against PyTorch.

    Attributes:
        tolerance: largest difference of any number of an embedding, whose rows are of length 1.
        neighbours: share of the pictures whose nearest other one must be the same.
        batch_sizes: the graph runs on each.
        pictures: at most so many of a folder, evenly spaced.
        drawn: so many are drawn where no folder is given.
    """

    tolerance: float = 1e-4
    neighbours: float = 0.99
    batch_sizes: tuple[int, ...] = (1, 2, 5)
    pictures: int = 200
    drawn: int = 32

    def __post_init__(self) -> None:
        check_range("--tolerance", self.tolerance, 0, 1)
        check_range("neighbours", self.neighbours, 0, 1)
        for size in self.batch_sizes or (0,):
            check_range("batch size", size, 1, 1_000)
        for name, count in (("pictures", self.pictures), ("drawn pictures", self.drawn)):
            check_range(name, count, 2, 1_000_000)


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
