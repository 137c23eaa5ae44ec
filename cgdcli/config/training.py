"""One training run."""

from dataclasses import dataclass

from cgdcli.config.checks import check_range
from cgdcli.config.names import Backbone, Device, StrideMode
from cgdcli.config.network import CGDConfig, Transform
from cgdcli.errors import ConfigError


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

    def __post_init__(self) -> None:
        self.model_config(classes=2)
        check_range("--epochs", self.epochs, 1, 100_000)
        check_range("--batch-size", self.batch_size, 2, 100_000)
        check_range("--per-class", self.per_class, 2, 1_000)
        check_range("--workers", self.workers, 0, 256)
        check_range("--val-fraction", self.val_fraction, 0, 0.9)
        check_range("--learning-rate", self.learning_rate, 1e-12, 1e3)
        check_range("margin", self.margin, 0, 100)
        check_range("temperature", self.temperature, 1e-3, 1e3)
        check_range("smoothing", self.smoothing, 0, 0.999)
        check_range("--seed", self.seed, 0, 2**63 - 1)
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
