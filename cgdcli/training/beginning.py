"""The network that a run begins with."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from cgdcli.config import HeadStart, TrainConfig
from cgdcli.errors import CheckpointError
from cgdcli.model.backbones import backbone_transform
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import load_strictly
from cgdcli.weights.loading import download_backbone_weights, read_backbone_weights

logger = logging.getLogger("cgdcli")

_LARGEST_WITHOUT_NORM = 3e-4


def initial_model(config: TrainConfig, classes: int) -> CGD:
    """The network before training: heads drawn by the seed, the backbone's weights as asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CGD(
            replace(
                config.model_config(classes),
                transform=backbone_transform(config.backbone, config.image_size),
            )
        )
        if config.head_start is HeadStart.orthogonal:
            for branch in model.branches:
                nn.init.orthogonal_(cast(nn.Linear, branch).weight)
    if config.backbone_weights == "none":
        return model
    if config.backbone_weights == "default":
        trunk = download_backbone_weights(config.backbone, config.image_size)
    elif Path(config.backbone_weights).is_file():
        file = Path(config.backbone_weights)
        trunk = read_backbone_weights(file, config.backbone, config.image_size)
    else:
        raise CheckpointError(
            f"--backbone-weights `{config.backbone_weights}` is not a file; `default`, `none` or a "
            "weights file is wanted",
            hint="check the path",
        )
    load_strictly(model.backbone, trunk, f"--backbone-weights {config.backbone_weights}")
    _warn_of_rate(model, config)
    return model


def _warn_of_rate(model: CGD, config: TrainConfig) -> None:
    """The default rate was chosen on ResNets; published recipes for ViTs take a hundredth of it."""
    norms = (m for m in model.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if config.learning_rate > _LARGEST_WITHOUT_NORM and next(norms, None) is None:
        logger.warning(
            "%s has no BatchNorm: such networks are fine-tuned at a --learning-rate of 1e-5 to "
            "1e-4, and %g may undo what its weights know",
            config.backbone,
            config.learning_rate,
        )
