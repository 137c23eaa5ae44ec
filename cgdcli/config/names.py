"""Words that can be chosen among: stride modes, heads, losses, devices."""

from enum import StrEnum


class StrideMode(StrEnum):
    """Which stage of a ResNet gives up its stride of 2; keys and shapes are the same in all three.
    Other backbones have `standard` alone."""

    layer3 = "layer3"
    layer4 = "layer4"
    standard = "standard"


class TrainStride(StrEnum):
    """The same for training, where `auto` is what trains best: `layer3`, or what there is."""

    auto = "auto"
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


class HeadStart(StrEnum):
    """How the branches' projections are drawn.

    `orthogonal`: rows orthonormal. `centred`: orthogonal to the vector of ones as well, so that a
    descriptor's mean over its channels, which all pictures have in common, counts for nothing, and
    what one branch leaves out another keeps. `uniform`: as PyTorch draws them.
    """

    centred = "centred"
    orthogonal = "orthogonal"
    uniform = "uniform"


class Strict(StrEnum):
    """What a conversion insists on: every entry, or every one but the classifier's."""

    exact = "exact"
    inference = "inference"


class Foreign(StrEnum):
    """Whose names a checkpoint can be written back under."""

    reference = "reference"
    torchvision = "torchvision"
    timm = "timm"


class Recipe(StrEnum):
    """How to train: cgd's own way, or the reference's."""

    default = "default"
    reference = "reference"


class RankingLoss(StrEnum):
    """What ranks embeddings; `config.losses` has the settings of each."""

    batch_hard = "batch-hard"
    batch_all = "batch-all"
    soft_margin = "soft-margin"
    multi_similarity = "multi-similarity"
    contrastive = "contrastive"
    margin = "margin"
    circle = "circle"
    supcon = "supcon"
    ntxent = "ntxent"
    proxy_anchor = "proxy-anchor"
    arcface = "arcface"
    cosface = "cosface"
    soft_triple = "soft-triple"


class Optimizer(StrEnum):
    """PyTorch's Adam, with decoupled weight decay or without."""

    adamw = "adamw"
    adam = "adam"


class Schedule(StrEnum):
    """How learning rates fall."""

    cosine = "cosine"
    steps = "steps"


class BatchNorm(StrEnum):
    """Statistics of the backbone's BatchNorm while training; its weights and biases learn."""

    frozen = "frozen"
    trained = "trained"


class Precision(StrEnum):
    """What the backbone computes in; descriptors, heads, norms and losses are float32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class EmbedPrecision(StrEnum):
    """What the layers of the backbone compute in where pictures are embedded; `int8`: what a
    calibration on some of them lets be (`engines.quantizing`)."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class EngineName(StrEnum):
    """What computes embeddings; `auto`: OpenVINO on a CPU where it is installed, else PyTorch."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"


class Cache(StrEnum):
    """Where decoded pictures are kept."""

    auto = "auto"
    memory = "memory"
    disk = "disk"
    none = "none"


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


class Thumbnails(StrEnum):
    """Pictures in a terminal; `auto`: by what it answers, `blocks` where that is nothing better."""

    auto = "auto"
    off = "off"
    blocks = "blocks"
    kitty = "kitty"
    iterm2 = "iterm2"
    sixel = "sixel"


DESCRIPTOR_NAMES = {
    "S": "SPoC (mean)",
    "M": "MAC (max)",
    "G": "GeM (generalized mean)",
    "R": "R-MAC (regional maxima)",
    "C": "CroW (weighted sum pooling)",
    "W": "weighted GeM (CroW's spatial weights)",
}
RECALL_RANKS = (1, 2, 4, 8)
