"""The network that a run begins with."""

import logging
from collections.abc import Sequence
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
        weights = [cast(nn.Linear, branch).weight for branch in model.branches]
        if config.head_start is HeadStart.orthogonal:
            for weight in weights:
                nn.init.orthogonal_(weight)
        elif config.head_start is HeadStart.centred and weights:
            draw_complementary_(weights)
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
def draw_complementary_(weights: Sequence[Tensor]) -> None:
    """Draw the projections of all branches in place, what one leaves out for another to keep.

    Descriptors of one map say much the same. Halves drawn by themselves overlap and miss some of it
    twice; halves of one orthogonal matrix keep all that is common (Cars196, 960 queries of held-out
    classes, four draws: R@1 77.5 and mAP@R 31.5 in the mean, 76.6 and 31.1 by themselves, 77.7 and
    31.6 unprojected).

    Args:
        weights: of each branch (d, C), C of 2 or more.
    """
    rows, channels = weights[0].shape
    together = max(1, channels // rows)
    for first in range(0, len(weights), together):
        group = weights[first : first + together]
        drawn = _drawn_centred(len(group) * rows, channels)
        for number, weight in enumerate(group):
            weight.copy_(drawn[number * rows : (number + 1) * rows])


def _drawn_centred(rows: int, channels: int) -> Tensor:
    """A random orthogonal matrix (rows, channels) of the vectors whose sum is 0: rows orthonormal
    where they are fewer than the channels, else an isometry of those vectors.

    Descriptors of maps that end with a ReLU are of one sign, and their mean over channels is what
    two pictures of anything share. As LayerNorm does before ProxyNCA++'s embedding (arXiv
    2004.01113), without its scale, which the L2 norm after it undoes.
    """
    drawn = torch.zeros(rows, channels)
    drawn[:, 1:] = nn.init.orthogonal_(torch.empty(rows, channels - 1))
    # The reflection of the first axis onto the vector of ones.
    mirror = torch.full((channels,), -(channels**-0.5))
    mirror[0] += 1
    mirror /= torch.linalg.vector_norm(mirror)
    return drawn - 2 * torch.outer(drawn @ mirror, mirror)


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
