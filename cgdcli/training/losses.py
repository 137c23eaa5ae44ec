"""The losses. The two of CGD are as the reference has them at its last commit (leftthomas/CGD
utils.py): smoothed cross-entropy and batch-hard triplet.

Shape letters: B pictures of a batch, K classes, D dimensions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TripletLoss(NamedTuple):
    """`loss`, a scalar; `active`, the share of anchors whose loss is above 0, detached."""

    loss: Tensor
    active: Tensor


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


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, *, margin: float) -> TripletLoss:
    """Mean over all anchors of relu(hardest positive - hardest negative + margin), Euclidean.

    Hermans, Beyer & Leibe 2017 (arXiv 1703.07737), with the reference's edges: an anchor without
    a positive has positive distance 0 (its own); one without a negative takes its own largest
    distance for it. Distances are exact, not by matrix product: that gives identical unit rows a
    distance of up to 5e-4 (torch.cdist above 25 rows).

    Args:
        embeddings: (B, D) float32, unit rows in training.
        labels: (B,) int64.
    """
    distances_BB = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    same_BB = labels[:, None] == labels[None, :]
    # max and min, not amax and amin: among equal distances the gradient goes to one of them.
    positive = distances_BB.masked_fill(~same_BB, 0).max(1).values
    farthest = distances_BB.max(1, keepdim=True).values.expand_as(distances_BB)
    # Where the label is the same, the row's maximum stands in: it never beats a real negative.
    negative = torch.where(same_BB, farthest, distances_BB).min(1).values
    losses = (positive - negative + margin).relu()
    return TripletLoss(losses.mean(), (losses.detach() > 0).float().mean())
