"""Reading an epoch's pictures ahead of the network, cropped and flipped."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgdcli.config import TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import ImageError
from cgdcli.images.cache import PictureCache, Store
from cgdcli.images.decoding import Pixels
from cgdcli.images.loading import one_ahead, read_ahead, worker_count
from cgdcli.images.transforms import erase, train_pixels
from cgdcli.training.sampler import ClassBatches

logger = logging.getLogger("cgdcli")


class BatchReader:
    """The batches of `ClassBatches` as pixels.

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
        *,
        pin: bool = False,
    ) -> None:
        self.table, self.batches, self.config = table, batches, config
        self.pictures = PictureCache(side)  # `keep_in` gives it a place
        self.skipped = {} if skipped is None else skipped
        self.pin = pin

    def keep_in(self, store: Store | None) -> None:
        """Keep decoded pictures there from now on; what was kept elsewhere is given back."""
        if self.pictures.store is not None:
            self.pictures.store.close()
        self.pictures.store = store

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 (B, H, W, 3) and labels (B,) of each batch with at least two readable pictures.

        The next one is put together while the caller computes.
        """
        return one_ahead(self._batches(number))

    def _batches(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self.batches.epoch(number)
        places = enumerate(picture for batch in batches for picture in batch)

        def read(item: tuple[int, int]) -> Pixels | None:
            return self._read(number, *item)

        workers = worker_count(self.config.workers)
        reads = read_ahead(read, places, workers=workers, ahead=2 * self.batches.batch_size)
        for batch in batches:
            pixels = [(next(reads), self.table.class_indices[picture]) for picture in batch]
            good = [(p, label) for p, label in pixels if p is not None]
            if len(good) < 2:  # no batch statistics, no pair
                continue
            shown = torch.from_numpy(np.stack([p for p, _ in good]))
            labels = torch.tensor([label for _, label in good])
            yield (shown.pin_memory(), labels.pin_memory()) if self.pin else (shown, labels)

    def _read(self, epoch: int, place: int, picture: int) -> Pixels | None:
        path = self.table.paths[picture]
        # Drawn from seed, epoch and place: the same whichever thread reads it, and after a resume.
        rng = np.random.default_rng((self.config.seed, epoch, place))
        try:
            image = self.pictures.picture(path, self.table.box(picture))
        except ImageError as error:
            if path not in self.skipped:
                self.skipped[path] = error.what
                logger.warning("skipped: %s", error.what)
            return None
        pixels = train_pixels(image, self.config.image_size, rng, self.config.crop_scale)
        if self.config.erasing and rng.random() < self.config.erasing:
            erase(pixels, rng)
        return pixels
