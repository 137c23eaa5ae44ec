"""Learning rates over a run, and the optimizer that has them."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from cgdcli.config import Optimizer, Schedule, TrainConfig
from cgdcli.model.cgd import CGD
from cgdcli.training.objective import Objective

# After its rest the backbone's rate rises over this share of the run.
_RISE = 0.03
_LEAST = 0.01


def make_optimizer(model: CGD, objective: Objective, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over backbone, projections, auxiliary classifier, learned p and proxies, each at its own
    rate (`group["rate"]`); what has none is left out.

    Weight decay is for matrices and filters alone (as in timm and fastai): decayed norms and
    biases only rescale what follows them.
    """
    rate, decay = config.learning_rate, config.weight_decay
    classifier = [] if model.classifier is None else model.classifier.parameters()
    groups = [
        *_groups("backbone", model.backbone.parameters(), rate, decay),
        *_groups("heads", model.branches.parameters(), rate * config.head_rate, decay),
        *_groups("classifier", classifier, rate * config.classifier_rate, decay),
        *_groups("p", model.exponents.parameters(), rate * config.p_rate, 0.0),
        *_groups("proxies", objective.parameters(), rate * config.proxy_rate, 0.0),
    ]
    kind = torch.optim.AdamW if config.optimizer is Optimizer.adamw else torch.optim.Adam
    return kind(groups, lr=rate)


def set_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, done: float) -> None:
    """Set every group's rate for the step that begins when the share `done` of the run is over."""
    for group in optimizer.param_groups:
        share = factor(config, done)
        if group["part"] == "backbone":
            share *= backbone_factor(config, done)
        group["lr"] = group["rate"] * share


def factor(config: TrainConfig, done: float) -> float:
    """Every part's rate as a share of its first; full while the backbone rests."""
    if config.schedule is Schedule.steps:
        # The reference's milestones; a run of a single epoch keeps its rate.
        return 1.0 if done < 0.6 else 0.1 if done < 0.8 else 0.01
    if done < config.resting:
        return 1.0
    way = (done - config.resting) / (1 - config.resting)
    return _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * way))


def backbone_factor(config: TrainConfig, done: float) -> float:
    """0 while the backbone rests, then rising to 1."""
    if not config.resting:
        return 1.0
    return min(1.0, max(0.0, (done - config.resting) / _RISE))


def _groups(
    part: str, parameters: Iterable[nn.Parameter], rate: float, decay: float
) -> list[dict[str, object]]:
    known = list(parameters) if rate else []
    decayed = [p for p in known if p.ndim > 1 and decay]
    plain = [p for p in known if p.ndim <= 1 or not decay]
    return [
        {"params": members, "lr": rate, "rate": rate, "weight_decay": amount, "part": part}
        for members, amount in ((decayed, decay), (plain, 0.0))
        if members
    ]
