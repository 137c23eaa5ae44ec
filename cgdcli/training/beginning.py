"""The network that a run begins with."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

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
        for branch in model.branches:
            weight = cast(nn.Linear, branch).weight
            if config.head_start is HeadStart.orthogonal:
                nn.init.orthogonal_(weight)
            elif config.head_start is HeadStart.centred:
                draw_centred_(weight)
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


@torch.no_grad()
def draw_centred_(weight: Tensor) -> None:
    """Draw an orthogonal matrix of the vectors whose sum is 0, in place.

    Descriptors of maps that end with a ReLU are of one sign, and their mean over channels is what
    two pictures of anything share. As LayerNorm does before ProxyNCA++'s embedding (arXiv
    2004.01113), without its scale, which the L2 norm after it undoes.

    Args:
        weight: (d, C), C of 2 or more. Rows become orthonormal where d < C, else columns are an
            isometry of the vectors whose sum is 0.
    """
    channels = weight.shape[1]
    weight[:, 0] = 0
    weight[:, 1:] = nn.init.orthogonal_(weight.new_empty(len(weight), channels - 1))
    # The reflection of the first axis onto the vector of ones.
    mirror = torch.full_like(weight[0], -(channels**-0.5))
    mirror[0] += 1
    mirror /= torch.linalg.vector_norm(mirror)
    weight -= 2 * torch.outer(weight @ mirror, mirror)


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
