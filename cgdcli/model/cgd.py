"""The CGD network, shared by every command (arXiv 1903.10663; reference leftthomas/CGD).

Shape letters: B pictures, C channels of the last map, n descriptors, D embedding dimension,
K classes.

picture -> backbone -> map -> one branch per descriptor -> concatenated, L2 -> embedding
                                \\ first descriptor -> auxiliary classifier (training only)
"""

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgdcli.config import RESNETS, CGDConfig, Head
from cgdcli.model.backbones import make_trunk
from cgdcli.model.descriptors import pool
from cgdcli.reports import ModelInfo

EXPONENTS = (1.0, 8.0)


class CGDOutput(NamedTuple):
    """`embedding` (B, D), unit rows; `logits` (B, K), or None without an auxiliary classifier."""

    embedding: Tensor
    logits: Tensor | None


class CGD(nn.Module):
    """Combination of multiple global descriptors.

    Without projections (`embedding_dim` None) a branch is its descriptor itself, so D = n C and a
    pretrained backbone is a usable model at once.

    Parameter names: `backbone.<torchvision's or timm's name>`, `branches.<i>.weight` (D/n, C)
    and, where the config's head has one, `.bias`; where p is learned, `exponents.G` and `.W`,
    scalars; `classifier.batch_norm.*`, `classifier.linear.*`.
    """

    def __init__(self, config: CGDConfig) -> None:
        super().__init__()
        self.config = config
        self.info: ModelInfo | None = None  # set by `weights.loading.load_model`
        self.backbone = make_trunk(config.backbone, config.stride, config.transform.image_size)
        channels = self.backbone.channels
        count = len(config.descriptors)
        self.embedding_dim = config.embedding_dim or count * channels
        self.branches = nn.ModuleList()
        if config.embedding_dim is not None:
            self.branches.extend(
                nn.Linear(
                    channels, config.embedding_dim // count, bias=config.head(i) is not Head.linear
                )
                for i in range(count)
            )
        weighted = [letter for letter in config.descriptors if letter in "GW"]
        self.exponents = nn.ParameterDict(
            {letter: torch.tensor(config.gem_p) for letter in weighted if config.learned_p}
        )
        self.classifier = AuxiliaryClassifier(channels, config.classes) if config.classes else None

    @property
    def blocks(self) -> list[tuple[str, int, int]]:
        """Columns of each branch in the embedding: (letter, start, stop)."""
        return self.config.blocks(self.embedding_dim)

    def forward(self, images: Tensor) -> CGDOutput:
        """Normalized pictures (B, 3, H, W) to embedding and logits.

        The backbone may run under autocast; pooling, projections and norms run in float32.
        """
        return self.head(self.backbone(images))

    def head(self, feature_map: Tensor) -> CGDOutput:
        """A map (B, C, H', W') to embedding and logits."""
        embedding, first = self.describe(feature_map)
        return CGDOutput(embedding, self.classify(first))

    def describe(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, C, H', W') to the embedding (B, D) and the first descriptor (B, C)."""
        with torch.autocast(feature_map.device.type, enabled=False):
            pooled = [self.pool(feature_map, letter) for letter in self.config.descriptors]
            parts = [self.branch(i, vector) for i, vector in enumerate(pooled)]
            return F.normalize(torch.cat(parts, dim=1)), pooled[0]

    def classify(self, first: Tensor) -> Tensor | None:
        """The first descriptor (B, C) to logits (B, K); None without an auxiliary classifier."""
        if self.classifier is None:
            return None
        with torch.autocast(first.device.type, enabled=False):
            return cast(Tensor, self.classifier(first))

    def pool(self, feature_map: Tensor, letter: str) -> Tensor:
        """A map (B, C, H', W') to a descriptor (B, C), with this network's p."""
        p = self.exponents.get(letter, self.config.gem_p)
        # ResNets as the reference has it; their maps end with a ReLU, which others' need not.
        return pool(feature_map, letter, p=p, clamped=self.config.backbone not in RESNETS)

    @torch.no_grad()
    def bound_exponents(self) -> None:
        """Bring learned exponents back between 1, the mean, and 8, nearly the maximum."""
        for p in self.exponents.values():
            p.clamp_(*EXPONENTS)

    def branch(self, i: int, vector: Tensor) -> Tensor:
        """A pooled descriptor (B, C) to its unit block (B, D/n)."""
        if not self.branches:
            return F.normalize(vector)
        if self.config.head(i) is Head.whitening:
            vector = F.normalize(vector)
        return F.normalize(self.branches[i](vector))

    @torch.inference_mode()
    def embed(self, pixels: Tensor) -> Tensor:
        """Embed pictures in eval mode, whatever mode the model is in.

        Args:
            pixels: uint8 (B, H, W, 3), RGB, already resized (`images.transforms.eval_pixels`).

        Returns:
            float32 (B, D), unit rows. One picture alone gives what it gives in any batch.
        """
        modes = {module: module.training for module in self.modules()}  # frozen norms, too
        self.eval()
        try:
            images = normalize_pixels(pixels.to(next(self.parameters()).device), self.config)
            return cast(Tensor, self(images).embedding)
        finally:
            for module, training in modes.items():
                module.training = training


class AuxiliaryClassifier(nn.Module):
    """Classes from the first descriptor: BatchNorm1d, then Linear. Only for training."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, descriptor: Tensor) -> Tensor:
        """(B, C) -> (B, K)."""
        return cast(Tensor, self.linear(self.batch_norm(descriptor)))


class PixelsToEmbedding(nn.Module):
    """The network as others run it: uint8 (B, S, S, 3) to unit rows (B, D), nothing beside."""

    def __init__(self, network: CGD) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        images = normalize_pixels(pixels, self.network.config)
        return cast(Tensor, self.network(images).embedding)


def normalize_pixels(pixels: Tensor, config: CGDConfig) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W): scaled to [0, 1], less the mean, by the std."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device)
        for values in (config.transform.mean, config.transform.std)
    )
    scaled = (pixels.to(torch.float32) / 255 - mean) / std
    return scaled.permute(0, 3, 1, 2).contiguous()


def freeze_batch_norm(model: CGD) -> None:
    """Keep the backbone's BatchNorm statistics while training (weight and bias still learn).

    To be called after every `model.train()`, as the reference does at the start of an epoch.
    """
    for module in model.backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # timm's have kinds of their own
            module.eval()


def meta_model(config: CGDConfig) -> CGD:
    """The network without memory behind its tensors: names and shapes, at once."""
    with torch.device("meta"):
        return CGD(config)


def empty_model(config: CGDConfig) -> CGD:
    """The network to be filled from a whole `state_dict` by `assign=True`; no memory is taken and
    no random number drawn for what that brings.

    Some of timm's networks have tables that no file holds: those trunks are built in earnest.
    """
    model = meta_model(config)
    kept = model.state_dict().keys()
    if any(name not in kept for name, _ in model.named_buffers()):
        with torch.random.fork_rng(devices=[]):
            model.backbone = make_trunk(config.backbone, config.stride, config.transform.image_size)
    return model


def same_structure(model: CGD) -> CGD:
    """A second network on the same tensors, to be given others by `assign=True`."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
