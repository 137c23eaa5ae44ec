"""Pictures decoded once and kept, in memory or in a file, where they fit."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from cgdcli.config import Cache
from cgdcli.errors import ImageError
from cgdcli.images.cropping import Box, inside
from cgdcli.images.decoding import read_bytes, upright_size
from cgdcli.images.reducing import read_reduced, reduced_size

# Of what is free, so much may be filled with pictures.
MEMORY_SHARE, DISK_SHARE = 0.25, 0.5
# A kept picture's shorter side, in times of the network's input: crops need more than they show.
SIDE = 2.0
_SAMPLE = 32
# Bytes of a pixel: Pillow's in memory, and in a file.
_IN_MEMORY, _IN_A_FILE = 4, 3


class Store(Protocol):
    """Where pictures are kept."""

    def get(self, path: Path, box: Box | None) -> Image.Image | None:
        """What was kept; None where nothing was, or it is no longer good."""

    def put(self, path: Path, box: Box | None, image: Image.Image) -> None:
        """Keep a picture."""

    def close(self) -> None:
        """Give back what is held."""


class MemoryStore:
    """Pictures in memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, Box | None], Image.Image] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, box: Box | None) -> Image.Image | None:
        """See `Store`."""
        return self._kept.get((path, box))

    def put(self, path: Path, box: Box | None, image: Image.Image) -> None:
        """See `Store`."""
        with self._lock:
            self._kept[path, box] = image

    def close(self) -> None:
        """See `Store`."""
        self._kept = {}


class PictureCache:
    """Reads pictures with a shorter side of at most `side` pixels, through a store if there is one.

    What comes back is the same whether it was kept or read anew, so nothing depends on the order.
    """

    def __init__(self, side: int, store: Store | None = None) -> None:
        self.side, self.store = side, store

    def picture(self, path: Path, box: Box | None = None) -> Image.Image:
        """The RGB picture, or the box of it; whoever gets it must not change it.

        Raises:
            ImageError: it cannot be read; nothing is kept of such a one.
        """
        if self.store is None:
            return read_reduced(path, box, self.side)
        kept = self.store.get(path, box)
        if kept is None:
            kept = read_reduced(path, box, self.side)
            self.store.put(path, box, kept)
        return kept


@dataclass(frozen=True)
class Place:
    """Where the pictures of a run will be kept.

    Attributes:
        kind: memory, disk or none.
        size: bytes that they take there, estimated; of `none` what they would take in memory.
    """

    kind: Cache
    size: int


def place_that_fits(
    pictures: Sequence[tuple[Path, Box | None]],
    side: int,
    wanted: Cache,
    *,
    memory: int,
    disk: int,
) -> Place:
    """Where to keep pictures; `auto` takes the first of memory, disk and none in which they fit.

    Args:
        side: see `PictureCache`.
        memory, disk: bytes that are free.
    """
    pixels = _pixels(pictures, side)
    sizes = {
        Cache.memory: pixels * _IN_MEMORY,
        Cache.disk: pixels * _IN_A_FILE,
        Cache.none: pixels * _IN_MEMORY,
    }
    if wanted is Cache.auto:
        wanted = Cache.none
        if 0 < sizes[Cache.memory] <= MEMORY_SHARE * memory:
            wanted = Cache.memory
        elif 0 < sizes[Cache.disk] <= DISK_SHARE * disk:
            wanted = Cache.disk
    return Place(wanted, sizes[wanted])


def _pixels(pictures: Sequence[tuple[Path, Box | None]], side: int) -> int:
    """Of all pictures once they are reduced, by the headers of a sample."""
    found = []
    for path, box in pictures[:: max(1, len(pictures) // _SAMPLE)][:_SAMPLE]:
        try:
            width, height = upright_size(read_bytes(path), path)
            if box is not None:
                left, top, right, bottom = inside(box, width, height, path)
                width, height = right - left, bottom - top
        except ImageError:
            continue  # told of when it is wanted
        across, down = reduced_size(width, height, side)
        found.append(across * down)
    return round(len(pictures) * sum(found) / len(found)) if found else 0


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take without swapping; 0 where the system does not say.

    The limits of its control groups count (containers, jobs of a cluster; version 2), and what
    they hold of files that could be dropped counts as free.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable"))
        return min([int(found.split()[1]) * 1024, *_allowed(proc, cgroups)])
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _allowed(proc: Path, cgroups: Path) -> list[int]:
    """What the control group of this process, and each above it, has left."""
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    left = []
    for group in (cgroups / own, *(cgroups / own).parents):
        limit = _number(group / "memory.max")
        if limit is not None:
            used = _number(group / "memory.current") or 0
            used -= _number(group / "memory.stat", "inactive_file") or 0
            left.append(max(0, limit - used))
    return left


def _number(file: Path, name: str = "") -> int | None:
    """The number in a file, or after a name in it; None where there is none (`max`)."""
    try:
        words = file.read_text(encoding="ascii").split()
    except OSError:
        return None
    place = words.index(name) + 1 if name in words else 0
    return int(words[place]) if words and words[place].isdigit() else None
