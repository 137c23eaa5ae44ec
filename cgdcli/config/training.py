"""One training run: every setting with its default, its limits and its words, once.

The command line, `--config run.toml` and the environment take their names, defaults and help from
these fields.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from cgdcli.config.backbones import RESNETS, backbone_words
from cgdcli.config.checks import AUTO, Auto, check_choice, check_range
from cgdcli.config.layers import Place, merged, of_one_length
from cgdcli.config.losses import LOSSES, loss_settings, loss_words, with_memory
from cgdcli.config.names import (
    BatchNorm,
    Cache,
    Dataset,
    Device,
    HeadStart,
    Optimizer,
    Precision,
    RankingLoss,
    Recipe,
    Schedule,
    StrideMode,
    TrainStride,
)
from cgdcli.config.network import CGDConfig, Transform
from cgdcli.errors import ConfigError


def setting(
    default: Any,
    words: str,
    low: float | None = None,
    high: float | None = None,
    *,
    auto: bool = False,
) -> Any:
    """A field with its help, and its range where it is a number.

    Args:
        auto: it may also be the word `auto`, which stands as `AUTO`.
    """
    metadata = {"help": words, "auto": auto}
    if low is not None:
        metadata |= {"low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. A ResNet-18 step of 128 pictures at 224 px in float32 takes 5.2 GB of
    memory, the process whole (measured on a CPU); the reference's ResNet-50 wants a GPU.

    The values are the default recipe's; `RECIPES` has the reference's.
    """

    dataset: Dataset = setting(
        Dataset.auto,
        "How DATA is laid out; `auto` recognises it, and says so where it is a benchmark.",
    )
    crop_box: bool = setting(
        False, "Cut out the boxes that a benchmark comes with; a table's always."
    )
    recipe: Recipe = setting(
        Recipe.default,
        "`reference`: leftthomas/CGD's training in kind; what is given besides holds.",
    )
    backbone: str = setting(CGDConfig.backbone, f"The trunk by its name: {backbone_words()}.")
    stride: TrainStride = setting(
        TrainStride.auto,
        "The stage whose stride is removed; `standard`: none. `auto`: of a ResNet layer3, which "
        "learns most in equal time; `standard` is the fastest to train and to embed with.",
    )
    descriptors: str = setting(
        CGDConfig.descriptors,
        "Letters of S (SPoC, mean) M (MAC, max) G (GeM) R (R-MAC) C (CroW) W (weighted GeM); the "
        "first feeds the auxiliary classifier.",
    )
    learn_p: bool = setting(
        False, "Learn the exponent p of G and W, from 3, within 1 to 8, on values above 0."
    )
    embedding_dim: int = setting(
        512, "Length of the embedding; divisible by the number of descriptors.", 1, 65_536
    )
    image_size: int = setting(Transform.image_size, "Input size in pixels.", 32, 4096)
    backbone_weights: str = setting(
        "default", "`default` (ImageNet, downloaded once), `none`, or a file (.pth, .safetensors)."
    )
    epochs: int = setting(40, "Passes over the pictures.", 1, 100_000)
    minutes: float = setting(
        0.0, "Train so long instead of --epochs; the schedule fits the time. 0: by epochs.", 0, 1e6
    )
    batch_size: int = setting(
        64,
        "Pictures a step. `auto`: the recipe's, or as many of them as fit the memory, measured at "
        "the start; learning rates stay as they are.",
        2,
        100_000,
        auto=True,
    )
    per_class: int = setting(4, "Pictures of a class in a batch.", 2, 1_000)
    optimizer: Optimizer = setting(Optimizer.adamw, "Of the steps.")
    learning_rate: float = setting(1.6e-3, "Of the backbone.", 1e-12, 1e3)
    head_start: HeadStart = setting(
        HeadStart.centred,
        "How the branches' projections are drawn; `centred`: orthonormal, blind to the mean over "
        "channels, which all pictures have in common, and each other's complement.",
    )
    head_rate: float = setting(
        0.0,
        "Learning rate of the projections, in times the backbone's; 0: they stay as drawn, and the "
        "embedding keeps what the descriptors know beyond the classes trained on.",
        0,
        1e6,
    )
    classifier_rate: float = setting(0.6, "That of the auxiliary classifier, likewise.", 0, 1e6)
    proxy_rate: float = setting(6.0, "That of the class proxies, likewise.", 0, 1e6)
    p_rate: float = setting(0.6, "That of a learned p, likewise.", 0, 1e6)
    weight_decay: float = setting(
        1e-4, "Of matrices and filters; none of norms, biases, proxies and p.", 0, 1
    )
    clip_norm: float = setting(5.0, "Largest norm of a step's gradient; 0: any.", 0, 1e6)
    schedule: Schedule = setting(
        Schedule.cosine, "`cosine` to a hundredth; `steps`: a tenth after 60 and 80 %."
    )
    warm: float = setting(
        0.05,
        "Share of the run in which the backbone rests and all else learns; none if nothing would.",
        0,
        0.9,
    )
    class_weight: float = setting(1.0, "Of the auxiliary classifier's loss.", 0, 1e6)
    loss: RankingLoss = setting(
        RankingLoss.batch_hard,
        f"The ranking loss on the embedding: {loss_words()}. The other two losses stay beside it, "
        "unless --class-weight 0 and --proxy-weight 0 leave them out.",
    )
    loss_settings: str = setting(
        "", "Settings of --loss in place of the published, such as alpha=2,beta=40."
    )
    ranking_weight: float = setting(1.0, "Of the ranking loss.", 0, 1e6)
    memory: int = setting(
        0,
        "Embeddings of former batches that the ranking loss compares with, too (cross-batch "
        "memory, XBM); 0: none.",
        0,
        10_000_000,
    )
    memory_start: float = setting(
        0.1, "Share of the run after which they are kept: before, they change too fast.", 0, 1
    )
    proxy_weight: float = setting(
        1.0, "Of the normalized softmax over class proxies, on the embedding.", 0, 1e6
    )
    margin: float = setting(
        0.1, "Of batch-hard and batch-all, a distance of unit embeddings.", 0, 100
    )
    temperature: float = setting(0.5, "Of the auxiliary classifier.", 1e-3, 1e3)
    smoothing: float = setting(0.1, "Of the auxiliary classifier's labels.", 0, 0.999)
    proxy_temperature: float = setting(0.07, "Of the softmax over proxies.", 1e-3, 1e3)
    crop_scale: float = setting(
        0.3, "Least share of a picture that a crop shows; 1: the reference's crop of 8/9.", 0.01, 1
    )
    erasing: float = setting(0.0, "Share of pictures with a rectangle erased.", 0, 1)
    ema: float = setting(
        0.05, "Weights averaged over this share of the run are judged and kept; 0: none.", 0, 1
    )
    batch_norm: BatchNorm = setting(
        BatchNorm.frozen, "Statistics of the backbone's BatchNorm (from scratch: always trained)."
    )
    precision: Precision = setting(
        Precision.auto, "Of the backbone; `auto`: bf16 where it is faster, measured at the start."
    )
    compile: bool = setting(
        False, "Compile the backbone by torch.compile; minutes at the start, and a C++ compiler."
    )
    cache: Cache = setting(
        Cache.auto,
        "Where decoded pictures are kept: `memory`; `disk`: a file in the run's folder until it "
        "has finished; `none`. `auto`: memory where a quarter of the free holds them, else disk "
        "where half of the free does. The result is the same.",
    )
    val_fraction: float = setting(
        0.2, "Share of the CLASSES held out to choose `best`, if there is no val.", 0, 0.9
    )
    evaluations: int = setting(
        10, "How often val is judged, evenly over the run, its end included.", 1, 100_000
    )
    tensorboard: bool = setting(
        False, "Write metrics for TensorBoard into the run's folder, too (extra `tensorboard`)."
    )
    seed: int = setting(0, "Of heads, batches, crops and held-out classes.", 0, 2**63 - 1)
    workers: int = setting(0, "Threads that read pictures; 0: one a core, at most 8.", 0, 256)
    device: Device = setting(Device.auto, "Where to compute.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        self.model_config(classes=2)
        if self.batch_size != AUTO and self.per_class > self.batch_size:
            raise ConfigError(
                f"--per-class {self.per_class} is larger than --batch-size {self.batch_size}",
                hint=f"a batch holds several classes: try --batch-size {8 * self.per_class}",
            )
        if not self.class_weight + self.ranking_weight + self.proxy_weight:
            raise ConfigError(
                "all losses have the weight 0, so nothing is learned",
                hint="leave one of --class-weight, --ranking-weight and --proxy-weight out",
            )
        self._check_loss()
        if self.learn_p and not set(self.descriptors) & set("GW"):
            raise ConfigError(
                f"--learn-p: none of the descriptors {self.descriptors} has a p; G and W have",
                hint="leave it out, or choose descriptors such as --descriptors SG",
            )

    def _check_loss(self) -> None:
        """A setting that would do nothing is an error."""
        loss_settings(self.loss, self.loss_settings)
        default = {field.name: field.default for field in dataclasses.fields(self)}
        if not self.ranking_weight and self.loss is not default["loss"]:
            raise ConfigError(
                f"--loss {self.loss} has the weight 0 by --ranking-weight, so it does nothing",
                hint="leave one of the two out",
            )
        if self.memory and not self.ranking_weight:
            raise ConfigError(
                f"--memory {self.memory} serves the ranking loss alone, whose weight is 0",
                hint="leave out --memory, or give --ranking-weight",
            )
        if self.memory and LOSSES[self.loss].why_no_memory:
            raise ConfigError(
                f"--memory {self.memory} is of no use to --loss {self.loss}, which "
                f"{LOSSES[self.loss].why_no_memory}",
                hint=f"leave out --memory, or choose among {', '.join(with_memory())}",
            )
        if self.margin != default["margin"] and not LOSSES[self.loss].takes_margin:
            own = "margin" in LOSSES[self.loss].settings
            raise ConfigError(
                f"--margin {self.margin:g} is not a margin of --loss {self.loss}",
                hint=f"its own: --loss-settings margin={self.margin:g}"
                if own
                else "leave --margin out; see `cgd train --help` for what that loss has",
            )

    @property
    def recipe_batch_size(self) -> int:
        """What the recipe says, whatever is asked for."""
        default = next(f.default for f in dataclasses.fields(self) if f.name == "batch_size")
        return int(RECIPES[self.recipe].get("batch_size", default))

    @property
    def resting(self) -> float:
        """Share of the run in which the backbone rests: `warm`, if anything else learns then."""
        learns = (
            self.head_rate,
            self.class_weight * self.classifier_rate,
            self.proxy_weight * self.proxy_rate,
        )
        return self.warm if any(learns) else 0.0

    def model_config(self, classes: int) -> CGDConfig:
        """The network that this run trains."""
        return CGDConfig(
            backbone=self.backbone,
            stride=self._stride(),
            descriptors=self.descriptors,
            embedding_dim=self.embedding_dim,
            classes=classes,
            transform=Transform(image_size=self.image_size),
            learned_p=self.learn_p,
        )

    def _stride(self) -> StrideMode:
        if self.stride is TrainStride.auto:
            return StrideMode.layer3 if self.backbone in RESNETS else StrideMode.standard
        return StrideMode(self.stride)

    @classmethod
    def of_recipe(cls, recipe: Any) -> Self:
        """What the recipe of that name says.

        Raises:
            ConfigError: there is none.
        """
        return cls(**RECIPES[check_choice("recipe", recipe, Recipe)])

    @classmethod
    def resolved(cls, *layers: Mapping[str, Any]) -> Self:
        """Settings from dicts by name, the first that has one holding; what none says is the
        recipe's. Against a recipe that a layer says, a whole one below holds with what differs from
        its own recipe.

        Raises:
            ConfigError: an unknown name, with the nearest known one, or a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in (name for layer in layers for name in layer):
            if name not in known:
                nearest = difflib.get_close_matches(name, known, 1)
                raise ConfigError(
                    f"unknown setting {name!r}",
                    hint=f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}",
                )
        said = merged(layers, lambda recipe: cls.of_recipe(recipe).to_dict())
        return replace(cls.of_recipe(said.get("recipe", Recipe.default)), **said)

    @classmethod
    def of_new_run(cls, *places: Place) -> Self:
        """As `resolved`; of `minutes` and `epochs` the one that the higher place says holds.

        Raises:
            ConfigError: as there, or one place says both.
        """
        layers = of_one_length(places, lambda recipe: cls.of_recipe(recipe).to_dict())
        return cls.resolved(*layers)

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name, words as plain text; `resolved` reads it back."""
        return {f.name: _plain(f, getattr(self, f.name)) for f in dataclasses.fields(self)}

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """What is another in `other`: (ours, theirs) by name."""
        ours, theirs = self.to_dict(), other.to_dict()
        return {k: (v, theirs[k]) for k, v in ours.items() if v != theirs[k]}


def option_name(name: str) -> str:
    """`batch_size` as `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def _plain(field: "dataclasses.Field[Any]", value: Any) -> Any:
    if field.metadata.get("auto") and value == AUTO:
        return "auto"
    return value.value if isinstance(value, StrEnum) else value


def _checked(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """A value as its field wants it; whole numbers do for broken ones, nothing else is bent.

    Raises:
        ConfigError: it is of another kind, an unknown word, or out of range.
    """
    kind: Any = field.type
    if field.metadata.get("auto") and (value == "auto" or isinstance(value, Auto)):
        return AUTO
    if issubclass(kind, StrEnum):
        return check_choice(field.name, value, kind)
    taken = (int, float) if kind is float else kind
    if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"{field.name} = {value!r} is {type(value).__name__}; {kind.__name__} is wanted",
            hint=f"see `cgd train --help` for {option_name(field.name)}",
        )
    if "low" in field.metadata:
        check_range(option_name(field.name), value, field.metadata["low"], field.metadata["high"])
    return float(value) if kind is float else value


# The reference (leftthomas/CGD train.py): Adam at one rate, no warm-up, no average, every layer.
RECIPES: dict[Recipe, dict[str, Any]] = {
    Recipe.default: {},
    Recipe.reference: {
        "recipe": Recipe.reference,
        "stride": TrainStride.layer3,
        "epochs": 20,
        "batch_size": 128,
        "optimizer": Optimizer.adam,
        "learning_rate": 1e-4,
        "head_start": HeadStart.uniform,
        "head_rate": 1.0,
        "classifier_rate": 1.0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "schedule": Schedule.steps,
        "warm": 0.0,
        "proxy_weight": 0.0,
        "crop_scale": 1.0,
        "ema": 0.0,
        "precision": Precision.fp32,
        "evaluations": 100_000,
    },
}

# What a resumed run may be given anew: its weights come out the same.
MAY_CHANGE = frozenset({"cache", "device", "evaluations", "tensorboard", "workers"})
# What it cannot be given, with the reason; everything else wants --force.
CANNOT_CHANGE = {
    "recipe": "it is where the other settings came from: give those",
    "backbone": "the saved weights are of the other network",
    "descriptors": "the saved branches belong to the other letters",
    "embedding_dim": "the saved branches have the other length",
    "backbone_weights": "they were loaded before the first step",
    "val_fraction": "the classes were held out at the start",
    "minutes": "they became epochs at the start: give --epochs",
}
