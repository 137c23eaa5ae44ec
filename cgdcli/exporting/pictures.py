"""Pictures that a graph is tried on: some of the user's own, or drawn ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cgdcli.config import ExportConfig
from cgdcli.errors import DatasetError, ImageError
from cgdcli.images.decoding import Pixels, read_image
from cgdcli.images.finding import find_images
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.images.transforms import enough_to_resize, eval_pixels
from cgdcli.reports import SkippedImage

_FINEST = 16


@dataclass
class Sample:
    """Pictures of one folder, or drawn where that is None; `skipped` grows as they are read."""

    image_size: int
    folder: Path | None
    files: tuple[Path, ...] = ()
    drawn: int = 0
    skipped: list[SkippedImage] = field(default_factory=list)

    def pixels(self) -> Iterator[Pixels]:
        """uint8 (S, S, 3) of each that can be read, in order, read ahead in threads."""
        if self.folder is None:
            yield from drawn_pictures(self.drawn, self.image_size)
            return
        for read in read_ahead(self._read, self.files, workers=worker_count(0)):
            if isinstance(read, SkippedImage):
                self.skipped.append(read)
            else:
                yield read

    def _read(self, file: Path) -> Pixels | SkippedImage:
        try:
            image, _ = read_image(file, at_least=enough_to_resize(self.image_size))
            return eval_pixels(image, self.image_size)
        except ImageError as error:
            return SkippedImage(str(file), error.what.replace(f"`{file}` ", ""))


def sample_of(folder: Path | None, image_size: int, config: ExportConfig) -> Sample:
    """Some pictures of a folder, evenly spaced.

    Raises:
        DatasetError: it holds fewer than two.
    """
    if folder is None:
        return Sample(image_size, None, drawn=config.drawn)
    files = [image.file for image in find_images([folder]).images]
    if len(files) < 2:
        raise DatasetError(
            f"`{folder}` holds {'one picture' if files else 'no pictures'}; the nearest of two or "
            "more is compared",
            hint="name a folder with pictures in it or below it, or leave --images out",
        )
    places = np.linspace(0, len(files) - 1, min(config.pictures, len(files))).round().astype(int)
    return Sample(image_size, folder, tuple(files[i] for i in places))


def drawn_pictures(count: int, image_size: int) -> Iterator[Pixels]:
    """Clouds of colour, coarse to fine, the same every time: unlike noise, they differ in what a
    network sees of them."""
    rng = np.random.default_rng(0)
    for number in range(count):
        side = 2 + number % (_FINEST - 1)
        spots = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        yield eval_pixels(Image.fromarray(spots), image_size)


def noise(count: int, image_size: int) -> Pixels:
    """uint8 (count, S, S, 3): noise, of which from three on one is black and one is white."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, image_size, image_size, 3), dtype=np.uint8)
    if count > 2:
        pixels[-2], pixels[-1] = 0, 255
    return pixels
