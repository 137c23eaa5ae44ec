"""The losses of the core. The two of CGD are as the reference has them at its last commit
(leftthomas/CGD utils.py): smoothed cross-entropy and batch-hard triplet.

Shape letters: B pictures of a batch, K classes, D dimensions, R references: what the pictures of
a batch are compared with, the batch itself first, then embeddings of former batches.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TripletLoss(NamedTuple):
    """`loss`, a scalar; `active`, the share of anchors or triplets that still learn, detached."""

    loss: Tensor
    active: Tensor


class References(NamedTuple):
    """Embeddings of former batches, (M, D) float32 without gradient, and their labels (M,)."""

    embeddings: Tensor
    labels: Tensor


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, *, smoothing: float, temperature: float
) -> Tensor:
    """Cross-entropy of logits / temperature: (1 - s) NLL + s times the mean over ALL classes.

    Args:
        logits: (B, K) float.
        labels: (B,) int64 class indices.
    """
    return F.cross_entropy(logits / temperature, labels, label_smoothing=smoothing)


def normalized_softmax(
    embeddings: Tensor, proxies: Tensor, labels: Tensor, *, temperature: float
) -> Tensor:
    """Cross-entropy of cosines to class proxies over a temperature (Zhai & Wu 2019, arXiv
    1811.12649; Movshovitz-Attias et al. 2017 for proxies).

    Args:
        embeddings: (B, D) float32, unit rows.
        proxies: (K, D) float32, of any length.
        labels: (B,) int64.
    """
    return F.cross_entropy(embeddings @ F.normalize(proxies).T / temperature, labels)


def batch_hard_triplet(
    embeddings: Tensor, labels: Tensor, former: References | None = None, *, margin: float
) -> TripletLoss:
    """Mean over all anchors of relu(hardest positive - hardest negative + margin), Euclidean.

    Hermans, Beyer & Leibe 2017 (arXiv 1703.07737), with the reference's edges: an anchor without
    a positive has positive distance 0 (its own); one without a negative takes its own largest
    distance for it. `active` is the share of anchors whose loss is above 0.

    Args:
        embeddings: (B, D) float32, unit rows in training.
        labels: (B,) int64.
        former: further ones to compare with.
    """
    distances_BR, same_BR = _compared(embeddings, labels, former)
    # max and min, not amax and amin: among equal distances the gradient goes to one of them.
    positive = distances_BR.masked_fill(~same_BR, 0).max(1).values
    farthest = distances_BR.max(1, keepdim=True).values.expand_as(distances_BR)
    # Where the label is the same, the row's maximum stands in: it never beats a real negative.
    negative = torch.where(same_BR, farthest, distances_BR).min(1).values
    losses = (positive - negative + margin).relu()
    return TripletLoss(losses.mean(), (losses.detach() > 0).float().mean())


def soft_margin_triplet(
    embeddings: Tensor, labels: Tensor, former: References | None = None
) -> TripletLoss:
    """Mean of log(1 + exp(hardest positive - hardest negative)), Euclidean (Hermans et al. 2017).

    Over anchors that have a positive and a negative. `active` is the share of those whose hardest
    positive is no nearer than their hardest negative.

    Args: as of `batch_hard_triplet`.
    """
    distances_BR, same_BR = _compared(embeddings, labels, former)
    others_BR = same_BR & ~_itself(same_BR)
    positive = distances_BR.masked_fill(~others_BR, 0).max(1).values
    farthest = distances_BR.max(1, keepdim=True).values.expand_as(distances_BR)
    negative = torch.where(same_BR, farthest, distances_BR).min(1).values
    anchors = others_BR.any(1) & ~same_BR.all(1)
    count = anchors.sum().clamp(min=1)
    losses = F.softplus(positive - negative) * anchors
    active = (positive >= negative) & anchors
    return TripletLoss(losses.sum() / count, (active.sum() / count).detach())


def batch_all_triplet(
    embeddings: Tensor, labels: Tensor, former: References | None = None, *, margin: float
) -> TripletLoss:
    """Mean of positive - negative + margin over all triplets in which it is above 0 (Hermans et
    al. 2017, batch all, the active ones averaged). `active` is their share of all triplets.

    The sum over B R R triplets is taken from each anchor's sorted negatives: those nearer than a
    positive and the margin are a beginning of them, whose sum is a difference of running sums.
    They are kept in float64, in which that difference is exact to float32.

    Args: as of `batch_hard_triplet`.
    """
    distances_BR, same_BR = _compared(embeddings, labels, former)
    distances_BR = distances_BR.double()
    positive_BR = same_BR & ~_itself(same_BR)
    negatives_BR = distances_BR.masked_fill(same_BR, torch.inf).sort(1).values
    sums_BR = F.pad(negatives_BR.cumsum(1), (1, 0))
    limits_BR = distances_BR + margin
    counts_BR = torch.searchsorted(negatives_BR.detach(), limits_BR.detach())
    losses_BR = counts_BR * limits_BR - sums_BR.gather(1, counts_BR)
    active = counts_BR[positive_BR].sum()
    triplets = (positive_BR.sum(1) * (~same_BR).sum(1)).sum()
    loss = losses_BR[positive_BR].sum() / active.clamp(min=1)
    return TripletLoss(loss.to(embeddings.dtype), (active / triplets.clamp(min=1)).float())


def _compared(
    embeddings: Tensor, labels: Tensor, former: References | None
) -> tuple[Tensor, Tensor]:
    """Euclidean distances to the references, and where the label is the same; both (B, R).

    Distances are exact, not by matrix product: that gives identical unit rows a distance of up to
    5e-4 (torch.cdist above 25 rows).
    """
    others, their_labels = with_former(embeddings, labels, former)
    distances_BR = torch.cdist(embeddings, others, compute_mode="donot_use_mm_for_euclid_dist")
    return distances_BR, labels[:, None] == their_labels[None, :]


def with_former(
    embeddings: Tensor, labels: Tensor, former: References | None
) -> tuple[Tensor, Tensor]:
    """All references, (R, D) and (R,): the batch itself, then the former ones."""
    if former is None:
        return embeddings, labels
    return torch.cat([embeddings, former.embeddings]), torch.cat([labels, former.labels])


def _itself(same: Tensor) -> Tensor:
    """Where a picture of the batch meets itself."""
    return torch.eye(*same.shape, dtype=torch.bool, device=same.device)
