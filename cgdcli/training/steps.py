"""One step: the network to begin with, the losses of a batch, the optimizer and its schedule."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cgdcli.config import TrainConfig
from cgdcli.errors import CheckpointError
from cgdcli.model.cgd import CGD
from cgdcli.training.losses import batch_hard_triplet, smoothed_cross_entropy
from cgdcli.weights.checkpoint import load_strictly
from cgdcli.weights.loading import download_backbone_weights, read_backbone_weights


@dataclass(frozen=True)
class StepLosses:
    """The losses of one batch: scalars with gradient, and detached figures."""

    total: Tensor
    class_loss: Tensor
    triplet_loss: Tensor
    active: Tensor
    accuracy: Tensor


def step_losses(model: CGD, images: Tensor, labels: Tensor, config: TrainConfig) -> StepLosses:
    """Forward pass and both losses, weighted 1 : 1. images (B, 3, H, W), labels (B,) int64."""
    output = model(images)
    class_loss = smoothed_cross_entropy(
        output.logits, labels, smoothing=config.smoothing, temperature=config.temperature
    )
    triplet = batch_hard_triplet(output.embedding, labels, margin=config.margin)
    accuracy = (output.logits.detach().argmax(1) == labels).float().mean()
    total = class_loss + triplet.loss
    return StepLosses(total, class_loss, triplet.loss, triplet.active, accuracy)


def make_optimizer(model: CGD, config: TrainConfig) -> torch.optim.Adam:
    """The reference's: Adam over all parameters, no weight decay."""
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Of epoch 1, 2, ...: a tenth after 60 % and a hundredth after 80 % of the epochs."""
    first = max(1, int(0.6 * config.epochs))  # a run of one epoch keeps the rate asked for
    second = max(first + 1, int(0.8 * config.epochs))
    passed = (epoch > first) + (epoch > second)
    return config.learning_rate * 0.1**passed


def initial_model(config: TrainConfig, classes: int) -> CGD:
    """The network before training: heads drawn by the seed, the backbone's weights as asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CGD(config.model_config(classes))
    if config.backbone_weights == "none":
        return model
    if config.backbone_weights == "default":
        trunk = download_backbone_weights(config.backbone)
    elif Path(config.backbone_weights).is_file():
        trunk = read_backbone_weights(Path(config.backbone_weights), config.backbone)
    else:
        raise CheckpointError(
            f"--backbone-weights `{config.backbone_weights}` is not a file; `default`, `none` or a "
            "weights file is wanted",
            hint="check the path",
        )
    load_strictly(model.backbone, trunk, f"--backbone-weights {config.backbone_weights}")
    return model
