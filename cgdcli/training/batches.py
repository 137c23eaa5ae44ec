"""Reading an epoch's pictures ahead of the network, cropped and flipped."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgdcli.config import TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import ConfigError, ImageError
from cgdcli.images.cache import PictureCache, Store
from cgdcli.images.decoding import Pixels
from cgdcli.images.loading import one_ahead, read_ahead, worker_count
from cgdcli.images.transforms import erase, train_pixels
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.sampler import ClassBatches

logger = logging.getLogger("cgdcli")


def shared_batches(
    table: ImageTable, config: TrainConfig, batch_size: int, processes: Processes
) -> ClassBatches:
    """The batches of a run, the same whatever the number of processes that share each of them.

    Args:
        batch_size: the config's, or what was measured for it.

    Raises:
        ConfigError: a process would have nothing to do.
    """
    batches = ClassBatches(
        table.class_indices,
        batch_size=batch_size,
        per_class=config.per_class,
        seed=config.seed,
    )
    if processes.size <= batches.smallest:
        return batches
    few = f"a step has {batches.smallest} pictures at the least, too few for {processes.size} "
    fewer = f"start at most {batches.smallest} processes"
    if batches.batch_size < batch_size:
        few += f"processes: {len(table.classes)} classes give no more at --per-class "
        error = ConfigError(f"{few}{config.per_class}", hint=f"{fewer}, or raise --per-class")
    else:
        hint = f"--batch-size {processes.size + 1} or more, or {fewer}"
        error = ConfigError(f"{few}processes, of which each wants one", hint=hint)
    raise processes.agreed(error)


def share_skipped(skipped: dict[Path, str], processes: Processes) -> None:
    """Let every process know what any of them could not read; the first one says it."""
    for theirs in processes.gather(dict(skipped)):
        for path, what in theirs.items():
            if path not in skipped:
                skipped[path] = what
                if processes.first:
                    logger.warning("skipped: %s", what)


class Batch(NamedTuple):
    """What this process has of a batch, which may be nothing.

    Attributes:
        pixels: uint8 (B, H, W, 3).
        labels: int64 (B,).
        sizes: B of every process, by rank.
        number: its place in the epoch, from 0.
    """

    pixels: Tensor
    labels: Tensor
    sizes: tuple[int, ...]
    number: int


class BatchReader:
    """The batches of `ClassBatches` as pixels; of several processes each reads its part of all.

    Args:
        side: shorter side of the pictures that crops are cut from, see `images.reducing`.
        skipped: takes up the pictures that could not be read, and why.
        pin: batches in memory that a GPU copies from by itself.
    """

    def __init__(
        self,
        table: ImageTable,
        batches: ClassBatches,
        config: TrainConfig,
        side: int,
        skipped: dict[Path, str] | None = None,
        processes: Processes = ALONE,
        *,
        pin: bool = False,
    ) -> None:
        self.table, self.batches, self.config = table, batches, config
        self.processes = processes
        self.pictures = PictureCache(side)  # `keep_in` gives it a place
        self.skipped = {} if skipped is None else skipped
        self.pin = pin

    def keep_in(self, store: Store | None) -> None:
        """Keep decoded pictures there from now on; what was kept elsewhere is given back."""
        if self.pictures.store is not None:
            self.pictures.store.close()
        self.pictures.store = store

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Each batch of which, over all processes, at least two pictures are readable.

        Args:
            first: batches of the epoch to leave out.

        The next one is put together while the caller computes; what processes tell each other is
        told between the caller's steps.
        """
        own = one_ahead(self._own_parts(number, first))
        for place, (pixels, labels) in enumerate(own, start=first):
            sizes = self.processes.sizes(len(labels))
            if sum(sizes) >= 2:  # else there are no batch statistics and no pair
                yield Batch(pixels, labels, sizes, place)

    def first_ones(self) -> Iterator[Pixels | None]:
        """The pictures that this process reads first, one by one, read ahead as in an epoch."""
        places = (item for part in self._parts(1) for item in part)
        workers = worker_count(self.config.workers)
        return read_ahead(lambda item: self._read(1, *item), places, workers=workers)

    def _own_parts(self, number: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels and labels of this process's readable pictures of each batch."""
        parts = self._parts(number)[first:]

        def read(item: tuple[int, int]) -> Pixels | None:
            return self._read(number, *item)

        workers = worker_count(self.config.workers)
        places = (item for part in parts for item in part)
        reads = read_ahead(read, places, workers=workers, ahead=2 * max(map(len, parts), default=0))
        size = self.config.image_size
        for part in parts:
            read_ones = [(next(reads), self.table.class_indices[picture]) for _, picture in part]
            good = [(p, label) for p, label in read_ones if p is not None]
            stacked = np.stack([p for p, _ in good]) if good else np.empty((0, size, size, 3), "u1")
            pixels = torch.from_numpy(stacked)
            labels = torch.tensor([label for _, label in good], dtype=torch.int64)
            yield (pixels.pin_memory(), labels.pin_memory()) if self.pin else (pixels, labels)

    def _parts(self, number: int) -> list[list[tuple[int, int]]]:
        """Of each batch this process's part: place in the whole epoch, and picture."""
        parts, start = [], 0
        for batch in self.batches.epoch(number):
            parts.append([(start + i, batch[i]) for i in self.processes.part(len(batch))])
            start += len(batch)
        return parts

    def _read(self, epoch: int, place: int, picture: int) -> Pixels | None:
        path = self.table.paths[picture]
        # Drawn from seed, epoch and place: the same whichever thread reads it, and after a resume.
        rng = np.random.default_rng((self.config.seed, epoch, place))
        try:
            image = self.pictures.picture(path, self.table.box(picture))
        except ImageError as error:
            if path not in self.skipped:
                self.skipped[path] = error.what
                if self.processes.first:  # of the others it learns after the epoch
                    logger.warning("skipped: %s", error.what)
            return None
        pixels = train_pixels(image, self.config.image_size, rng, self.config.crop_scale)
        if self.config.erasing and rng.random() < self.config.erasing:
            erase(pixels, rng)
        return pixels
