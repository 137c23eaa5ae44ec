"""What is learned from a batch: the classifier's, the triplet's and the proxies' loss, summed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgdcli.config import TrainConfig
from cgdcli.model.cgd import CGDOutput
from cgdcli.training.losses import batch_hard_triplet, normalized_softmax, smoothed_cross_entropy


@dataclass(frozen=True)
class StepLosses:
    """The losses of one batch: `total` with gradient, the others detached scalars.

    Attributes:
        parts: class, triplet and proxy loss before their weights; 0 where one has no weight.
        active: share of triplets whose loss is above 0.
        accuracy: of the auxiliary classifier.
        distance: mean Euclidean distance of the batch's embeddings: near 0 they have collapsed.
    """

    total: Tensor
    class_loss: Tensor
    triplet_loss: Tensor
    proxy_loss: Tensor
    active: Tensor
    accuracy: Tensor
    distance: Tensor

    def figures(self) -> Tensor:
        """All of them, float64 on the CPU, in the order of `FIGURES`."""
        return torch.stack([getattr(self, name).detach() for name in FIGURES]).cpu().double()


FIGURES = (
    *("total", "class_loss", "triplet_loss", "proxy_loss", "active", "accuracy", "distance"),
)


class Objective(nn.Module):
    """The losses with what they learn: one proxy a class, in the space of the embedding.

    Args:
        classes, dim: of the proxies; there are none where their loss has no weight.
    """

    def __init__(self, config: TrainConfig, classes: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.proxies: nn.Parameter | None = None
        if config.proxy_weight:
            self.proxies = nn.Parameter(torch.randn(classes, dim) / dim**0.5)

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
        triplet = batch_hard_triplet(output.embedding, labels, margin=c.margin)
        proxy_loss = none
        if self.proxies is not None:
            proxy_loss = normalized_softmax(
                output.embedding, self.proxies, labels, temperature=c.proxy_temperature
            )
        total = (
            c.class_weight * class_loss
            + c.triplet_weight * triplet.loss
            + c.proxy_weight * proxy_loss
        )
        return StepLosses(
            total,
            class_loss,
            triplet.loss,
            proxy_loss,
            triplet.active,
            accuracy,
            mean_distance(output.embedding),
        )


def mean_distance(embeddings: Tensor) -> Tensor:
    """Mean Euclidean distance of all pairs of unit rows (B, D), detached."""
    rows = embeddings.detach()
    return (2 - 2 * rows @ F.normalize(rows).T).clamp(min=0).sqrt().mean()
