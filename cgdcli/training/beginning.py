"""The network that a run begins with."""

from pathlib import Path

import torch

from cgdcli.config import TrainConfig
from cgdcli.errors import CheckpointError
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import load_strictly
from cgdcli.weights.loading import download_backbone_weights, read_backbone_weights


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
