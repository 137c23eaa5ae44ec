"""Ranking losses of pytorch-metric-learning (the extra `losses`), one table of how each is made.

Its own defaults are not relied on: every setting comes from `config.losses`.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from cgdcli.config import RankingLoss
from cgdcli.config.losses import LOSSES
from cgdcli.errors import TrainingError
from cgdcli.training.drawing import drawing
from cgdcli.training.losses import References, TripletLoss, batch_hard_triplet, with_former

_PACKAGE = "pytorch_metric_learning"
# `active` of a loss without triplets: batch-hard ones, by this margin.
_WATCHED_MARGIN = 0.1


def require_losses(loss: RankingLoss) -> None:
    """Raise `TrainingError` if the loss needs a package that is not installed."""
    if not LOSSES[loss].in_core and importlib.util.find_spec(_PACKAGE) is None:
        core = ", ".join(name for name, facts in LOSSES.items() if facts.in_core)
        raise TrainingError(
            f"--loss {loss} needs the package pytorch-metric-learning, which is not installed; "
            f"without it there are {core}",
            hint="pip install 'cgdcli[losses]'",
        )


class MetricLearningLoss(nn.Module):
    """One of its losses with its miner, where it was published with one.

    What a loss owns (proxies, class weights, margins) are parameters of this module.

    Args:
        settings: all that `config.losses` has of it, by name.
        classes, dim: of what it owns.
        seed: of what a miner draws, with `step`, to be set before each: the same in every process,
            and after a resume.
    """

    def __init__(
        self, name: RankingLoss, settings: dict[str, float], *, classes: int, dim: int, seed: int
    ) -> None:
        super().__init__()
        require_losses(name)
        self.loss = _make_loss(name, settings, classes, dim)
        self.miner = _make_miner(name, settings)
        self.has_proxies = LOSSES[name].has_proxies
        self.seed, self.step = seed, 0

    def forward(
        self, embeddings: Tensor, labels: Tensor, former: References | None = None
    ) -> TripletLoss:
        """As `losses.batch_hard_triplet`; `active` is of batch-hard triplets at a margin of 0.1."""
        watched = batch_hard_triplet(embeddings.detach(), labels, former, margin=_WATCHED_MARGIN)
        if self.has_proxies:
            loss: Tensor = self.loss(embeddings, labels)
        else:
            references = () if former is None else with_former(embeddings, labels, former)
            pairs = self._pairs(embeddings, labels, references)
            loss = self.loss(embeddings, labels, pairs, *references)
        return TripletLoss(loss, watched.active)

    def _pairs(
        self, embeddings: Tensor, labels: Tensor, references: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        """Indices of pairs (4) or triplets (3) to learn from, no picture its own positive; None
        for all pairs of the batch."""
        if self.miner is not None:
            with drawing((self.seed, self.step), embeddings.device):
                found = self.miner(embeddings, labels, *references)
        elif references:
            found = _all_pairs(labels, references[1])
        else:
            return None
        anchors, positives, *rest = found
        other = anchors != positives  # the batch stands first among the references
        if len(rest) == 1:  # the negatives of triplets
            rest = [rest[0][other]]
        return (anchors[other], positives[other], *rest)


def _all_pairs(labels: Tensor, their_labels: Tensor) -> tuple[Tensor, ...]:
    same_BR = labels[:, None] == their_labels[None, :]
    return (*same_BR.nonzero(as_tuple=True), *(~same_BR).nonzero(as_tuple=True))


def _make_loss(name: RankingLoss, s: dict[str, float], classes: int, dim: int) -> nn.Module:
    from pytorch_metric_learning import losses as pml

    makers: dict[RankingLoss, Callable[[], Any]] = {
        RankingLoss.multi_similarity: lambda: pml.MultiSimilarityLoss(
            alpha=s["alpha"], beta=s["beta"], base=s["base"]
        ),
        RankingLoss.contrastive: lambda: pml.ContrastiveLoss(
            pos_margin=s["pos_margin"], neg_margin=s["neg_margin"]
        ),
        RankingLoss.margin: lambda: pml.MarginLoss(
            s["margin"], nu=0, beta=s["beta"], learn_beta=True, num_classes=classes
        ),
        RankingLoss.circle: lambda: pml.CircleLoss(m=s["m"], gamma=s["gamma"]),
        RankingLoss.supcon: lambda: pml.SupConLoss(temperature=s["temperature"]),
        RankingLoss.ntxent: lambda: pml.NTXentLoss(temperature=s["temperature"]),
        RankingLoss.proxy_anchor: lambda: pml.ProxyAnchorLoss(
            classes, dim, margin=s["margin"], alpha=s["alpha"]
        ),
        RankingLoss.arcface: lambda: pml.ArcFaceLoss(
            classes, dim, margin=s["margin"], scale=s["scale"]
        ),
        RankingLoss.cosface: lambda: pml.CosFaceLoss(
            classes, dim, margin=s["margin"], scale=s["scale"]
        ),
        RankingLoss.soft_triple: lambda: pml.SoftTripleLoss(
            classes,
            dim,
            centers_per_class=int(s["centers"]),
            la=s["lambda"],
            gamma=s["gamma"],
            margin=s["margin"],
        ),
    }
    return cast(nn.Module, makers[name]())


def _make_miner(name: RankingLoss, s: dict[str, float]) -> Any:
    """The miner that the loss was published with, or None."""
    from pytorch_metric_learning import miners as pml

    if name is RankingLoss.multi_similarity:
        return pml.MultiSimilarityMiner(epsilon=s["epsilon"])
    if name is RankingLoss.margin:
        return pml.DistanceWeightedMiner(s["cutoff"], s["nonzero_cutoff"])
    return None
