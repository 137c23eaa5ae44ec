"""M-per-class batches: a pure function of seed and epoch, so that a resumed run sees the same."""

from collections import deque
from collections.abc import Sequence
from math import ceil

import numpy as np

# A batch of one class would have no negative, one of a single picture no batch statistics.
CLASSES_AT_LEAST = 2


class ClassBatches:
    """Batches of `per_class` pictures of as many classes as fit into `batch_size`.

    Classes are drawn without replacement until all were used, pictures of a class likewise; a
    class with fewer pictures gives what it has, and further classes fill the batch. An epoch has
    as many batches as the pictures fill, and at least as many as all classes need: every class
    is seen in every epoch. With fewer classes than a batch holds, batches are smaller. (The
    reference's sampler loops for ever there.)

    Args:
        labels: class index of every picture; at least two classes, so that every batch has two.
    """

    steps: int  # batches of an epoch; a shorter run may lower it before the first

    def __init__(
        self, labels: Sequence[int], *, batch_size: int, per_class: int, seed: int
    ) -> None:
        self.per_class, self.seed = per_class, seed
        self.pictures: dict[int, list[int]] = {}
        for picture, label in enumerate(labels):
            self.pictures.setdefault(label, []).append(picture)
        if len(self.pictures) < 2:
            raise ValueError(f"want at least 2 classes, got {len(self.pictures)}")
        gives = sum(min(per_class, len(group)) for group in self.pictures.values())
        self.batch_size = min(batch_size, gives)
        # A batch may end up to per_class - 1 short of full, rather than cut a class to one picture.
        fullest = max(1, self.batch_size - per_class + 1)
        self.steps = max(len(labels) // self.batch_size, ceil(gives / fullest), 1)

    @property
    def smallest(self) -> int:
        """Pictures of any batch at the least: its last one may be left out, being no pair."""
        return max(CLASSES_AT_LEAST, self.batch_size - 1)

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch: lists of picture numbers."""
        rng = np.random.default_rng((self.seed, number))
        classes: deque[int] = deque()
        waiting = {label: deque[int]() for label in self.pictures}
        return [self._batch(rng, classes, waiting) for _ in range(self.steps)]

    def _batch(
        self,
        rng: np.random.Generator,
        classes: deque[int],
        waiting: dict[int, deque[int]],
    ) -> list[int]:
        batch: list[int] = []
        used: set[int] = set()
        put_back: list[int] = []
        while len(used) < len(self.pictures):
            room = self.batch_size - len(batch)
            if room < 2 and len(used) >= CLASSES_AT_LEAST:
                break
            if not classes:
                classes.extend(rng.permutation(sorted(self.pictures)).tolist())
            label = classes.popleft()
            if label in used:  # a new round began inside this batch
                put_back.append(label)
                continue
            used.add(label)
            if not batch:  # the first class leaves room for a pair of a second
                room = max(1, self.batch_size - 2)
            wanted = min(self.per_class, room)
            batch += self._draw(rng, label, wanted, waiting[label])
        classes.extendleft(reversed(put_back))
        return batch

    def _draw(
        self, rng: np.random.Generator, label: int, wanted: int, waiting: deque[int]
    ) -> list[int]:
        """`wanted` different pictures of a class, those not yet shown first."""
        group = self.pictures[label]
        if len(group) <= wanted:
            return list(group)
        drawn: list[int] = []
        while len(drawn) < wanted:
            if not waiting:
                fresh = rng.permutation(group).tolist()
                waiting.extend([p for p in fresh if p not in drawn])
            drawn.append(waiting.popleft())
        return drawn
