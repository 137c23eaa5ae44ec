"""Pictures decoded once and kept in memory, where they fit."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images.cropping import Box
from cgdcli.launch import processes_here

Read = Callable[[Path, Box | None], Image.Image]
# Of the memory that is free, so much may be filled with pictures.
_SHARE = 0.25
# A kept picture's shorter side, in times of the network's input: crops need more than they show.
SIDES = (2.0, 1.5, 1.25)
_SAMPLE = 32


class PictureCache:
    """Reads pictures through `read`, and keeps them reduced to a shorter side of `side` pixels.

    What comes back is the same whether it was kept or read anew, so nothing depends on the order.

    Args:
        side: longest that a shorter side may be; None to keep nothing and reduce nothing.
    """

    def __init__(self, read: Read, side: int | None) -> None:
        self._read, self.side = read, side
        self._kept: dict[tuple[Path, Box | None], Image.Image] = {}
        self._lock = threading.Lock()

    def picture(self, path: Path, box: Box | None = None) -> Image.Image:
        """The RGB picture, or the box of it; whoever gets it must not change it.

        Raises:
            ImageError: as `read` does; nothing is kept of a picture that cannot be read.
        """
        if self.side is None:
            return self._read(path, box)
        kept = self._kept.get((path, box))
        if kept is None:
            kept = reduce_to(self._read(path, box), self.side)
            with self._lock:
                self._kept[path, box] = kept
        return kept


def reduce_to(image: Image.Image, side: int) -> Image.Image:
    """The picture with its shorter side brought down to `side` pixels, its aspect kept."""
    shorter = min(image.size)
    if shorter <= side:
        return image
    scale = side / shorter
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def side_that_fits(
    pictures: Sequence[tuple[Path, Box | None]],
    read: Read,
    image_size: int,
    free: int | None = None,
) -> int | None:
    """The largest of `SIDES` at which all pictures fit, by a sample of them; None if none does.

    Args:
        free: bytes of free memory; None to ask the system. Processes that torchrun started on one
            machine share them, and each comes to keep every picture.
    """
    free = free_memory() // processes_here() if free is None else free
    shapes = []
    for path, box in pictures[:: max(1, len(pictures) // _SAMPLE)][:_SAMPLE]:
        try:
            shapes.append(read(path, box).size)
        except ImageError:
            continue  # told of when it is wanted
    for times in SIDES if shapes else ():
        side = round(image_size * times)
        kept = [reduced_bytes(width, height, side) for width, height in shapes]
        if len(pictures) * sum(kept) / len(kept) <= _SHARE * free:
            return side
    return None


def reduced_bytes(width: int, height: int, side: int) -> float:
    """Bytes of a picture of that size once it is kept: Pillow takes four a pixel."""
    scale = min(1.0, side / min(width, height))
    return 4 * width * height * scale**2


def free_memory() -> int:
    """Bytes that this process may still take without swapping; 0 where the system does not say."""
    limits = [_first_number("/sys/fs/cgroup/memory.max")]
    used = _first_number("/sys/fs/cgroup/memory.current") or 0
    allowed = [limit - used for limit in limits if limit]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable"))
        return min([int(found.split()[1]) * 1024, *allowed])
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _first_number(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError):
        return None
    return int(text) if text.isdigit() else None
