"""Embeddings of former batches (cross-batch memory, XBM: Wang et al. 2020, arXiv 1912.06798)."""

import torch
from torch import Tensor, nn

from cgdcli.training.losses import References


class Memory(nn.Module):
    """The last `size` embeddings and labels, as they were when their batch was learned from.

    Everything is a buffer, so that a run that is taken up again has the same.

    Args:
        size: embeddings, at least 1.
        dim: of an embedding.
    """

    embeddings: Tensor
    labels: Tensor
    taken: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("embeddings", torch.zeros(size, dim))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("taken", torch.tensor(0))

    def former(self) -> References | None:
        """What is in it, in no particular order; None before anything was taken.

        Views: `take` changes them. `with_former` copies, so that no gradient sees that.
        """
        filled = min(int(self.taken), self.size)
        return References(self.embeddings[:filled], self.labels[:filled]) if filled else None

    @torch.no_grad()
    def take(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put a batch, (B, D) and (B,), in the place of the oldest; of a larger one its end."""
        embeddings, labels = embeddings[-self.size :], labels[-self.size :]
        places = (int(self.taken) + torch.arange(len(labels))) % self.size
        places = places.to(self.labels.device)
        self.embeddings[places] = embeddings.to(self.embeddings.dtype)
        self.labels[places] = labels
        self.taken += len(labels)
