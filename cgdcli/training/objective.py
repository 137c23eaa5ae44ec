"""What is learned from a batch: the classifier's, the ranking and the proxies' loss, summed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgdcli.config import RankingLoss, TrainConfig
from cgdcli.config.losses import LOSSES, loss_settings
from cgdcli.model.cgd import CGDOutput
from cgdcli.training.former import Memory
from cgdcli.training.losses import (
    References,
    TripletLoss,
    batch_all_triplet,
    batch_hard_triplet,
    normalized_softmax,
    smoothed_cross_entropy,
    soft_margin_triplet,
)
from cgdcli.training.metric_learning import MetricLearningLoss


@dataclass(frozen=True)
class StepLosses:
    """The losses of one batch: `total` with gradient, the others detached scalars.

    Attributes:
        class_loss, ranking_loss, proxy_loss: before their weights; 0 where there is none.
        active: share of triplets whose loss is above 0; see `losses` and `metric_learning`.
        accuracy: of the auxiliary classifier.
        distance: mean Euclidean distance of the batch's embeddings: near 0 they have collapsed.
    """

    total: Tensor
    class_loss: Tensor
    ranking_loss: Tensor
    proxy_loss: Tensor
    active: Tensor
    accuracy: Tensor
    distance: Tensor

    def figures(self) -> Tensor:
        """All of them, float64 on the CPU, in the order of `FIGURES`."""
        return torch.stack([getattr(self, name).detach() for name in FIGURES]).cpu().double()


FIGURES = (
    *("total", "class_loss", "ranking_loss", "proxy_loss", "active", "accuracy", "distance"),
)


class Objective(nn.Module):
    """The losses with what they learn and keep: one proxy a class, what the ranking loss owns,
    embeddings of former batches.

    Args:
        classes, dim: of the proxies; there are none where their loss has no weight.
    """

    def __init__(self, config: TrainConfig, classes: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.proxies: nn.Parameter | None = None
        if config.proxy_weight:
            self.proxies = nn.Parameter(torch.randn(classes, dim) / dim**0.5)
        self.ranking: MetricLearningLoss | None = None
        if not LOSSES[config.loss].in_core:
            settings = loss_settings(config.loss, config.loss_settings)
            self.ranking = MetricLearningLoss(
                config.loss, settings, classes=classes, dim=dim, seed=config.seed
            )
        self.memory = Memory(config.memory, dim) if config.memory else None
        self._remembers = False

    def begin_step(self, number: int, steps: int) -> None:
        """To be called before the losses of a step; `number` of the run's `steps` came before."""
        self._remembers = number >= self.config.memory_start * steps
        if self.ranking is not None:
            self.ranking.step = number

    def forward(self, output: CGDOutput, labels: Tensor) -> StepLosses:
        """Losses of embeddings (B, D) and logits (B, K) for labels (B,) int64."""
        c, none = self.config, output.embedding.new_zeros(())
        class_loss, accuracy = none, none
        if output.logits is not None:
            accuracy = (output.logits.detach().argmax(1) == labels).float().mean()
            if c.class_weight:
                class_loss = smoothed_cross_entropy(
                    output.logits, labels, smoothing=c.smoothing, temperature=c.temperature
                )
        ranking = self._ranking_loss(output.embedding, labels)
        proxy_loss = none
        if self.proxies is not None:
            proxy_loss = normalized_softmax(
                output.embedding, self.proxies, labels, temperature=c.proxy_temperature
            )
        total = (
            c.class_weight * class_loss
            + c.ranking_weight * ranking.loss
            + c.proxy_weight * proxy_loss
        )
        return StepLosses(
            total,
            class_loss,
            ranking.loss,
            proxy_loss,
            ranking.active,
            accuracy,
            mean_distance(output.embedding),
        )

    def _ranking_loss(self, embeddings: Tensor, labels: Tensor) -> TripletLoss:
        memory = self.memory if self._remembers else None
        former = memory.former() if memory is not None else None
        loss = self._compare(embeddings, labels, former)
        if memory is not None:
            memory.take(embeddings.detach(), labels)
        return loss

    def _compare(
        self, embeddings: Tensor, labels: Tensor, former: References | None
    ) -> TripletLoss:
        if self.ranking is not None:
            found: TripletLoss = self.ranking(embeddings, labels, former)
            return found
        if self.config.loss is RankingLoss.soft_margin:
            return soft_margin_triplet(embeddings, labels, former)
        kind = (
            batch_all_triplet if self.config.loss is RankingLoss.batch_all else batch_hard_triplet
        )
        return kind(embeddings, labels, former, margin=self.config.margin)


def mean_distance(embeddings: Tensor) -> Tensor:
    """Mean Euclidean distance of all pairs of unit rows (B, D), detached."""
    rows = embeddings.detach()
    return (2 - 2 * rows @ F.normalize(rows).T).clamp(min=0).sqrt().mean()
