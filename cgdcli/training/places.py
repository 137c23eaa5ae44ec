"""Where a run keeps its decoded pictures: asked at each start, since the result is the same."""

import logging
import shutil
from pathlib import Path

from cgdcli.config import Cache, TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import OutputError
from cgdcli.images.cache import (
    DISK_SHARE,
    MEMORY_SHARE,
    MemoryStore,
    Place,
    Store,
    free_memory,
    place_that_fits,
)
from cgdcli.images.filestore import FileStore, stored_bytes
from cgdcli.launch import processes_here

logger = logging.getLogger("cgdcli")

_GB, _MB = 1e9, 1e6


def choose_place(config: TrainConfig, table: ImageTable, side: int, run: Path) -> Place:
    """Where this process keeps them; it comes to keep all of them, and those that torchrun started
    on this machine do likewise.

    Args:
        side: see `images.cache`.
        run: its folder, which need not be there yet.

    Raises:
        OutputError: a file of them is asked for, and does not fit the disk.
    """
    pictures = [(path, table.box(i)) for i, path in enumerate(table.paths)]
    here = processes_here()
    memory, disk = free_memory() // here, _free_disk(run) // here
    place = place_that_fits(pictures, side, config.cache, memory=memory, disk=disk)
    if place.kind is Cache.memory and place.size > memory:
        logger.warning(
            "--cache memory: the pictures take %.1f GB, and %.1f GB are free",
            place.size / _GB,
            memory / _GB,
        )
    if place.kind is Cache.disk and place.size > disk:
        raise OutputError(
            f"--cache disk: the pictures take {place.size / _GB:.1f} GB in `{run}`, and "
            f"{disk / _GB:.1f} GB are free there",
            hint="make room, choose another place with --runs DIR, or --cache none",
        )
    return place


def place_words(place: Place, config: TrainConfig) -> str:
    """What becomes of decoded pictures."""
    size = f"{place.size / _GB:.1f} GB" if place.size > _GB else f"{place.size / _MB:.0f} MB"
    if place.kind is Cache.memory:
        return f"pictures are decoded once and kept in memory ({size})"
    if place.kind is Cache.disk:
        return (
            f"pictures are decoded once and kept in a file of the run ({size}), which is removed "
            "when it has finished"
        )
    words = "pictures are decoded anew each time"
    if config.cache is Cache.auto:
        words += (
            f": {size} do not fit {MEMORY_SHARE:.0%} of the free memory, nor a file "
            f"{DISK_SHARE:.0%} of the free disk"
        )
    return words


def open_store(place: Place, run: Path, side: int, rank: int = 0) -> Store | None:
    """Where pictures are kept, ready; None where nothing is.

    Args:
        rank: of this process, among those that train the run; each has a file of its own.

    Raises:
        OutputError: the file cannot be opened.
    """
    if place.kind is Cache.memory:
        return MemoryStore()
    if place.kind is not Cache.disk:
        return None
    if rank and not run.is_dir():  # another machine, which does not see the run's folder
        logger.warning("`%s` is not on this machine: pictures are decoded anew each time", run)
        return None
    try:
        return FileStore(run, side, rank)
    except OSError as error:
        raise OutputError(
            f"decoded pictures cannot be kept in `{run}`: {error.strerror or error}",
            hint="make room there, or --cache none",
        ) from error


def _free_disk(run: Path) -> int:
    """Bytes for decoded pictures, those that a stopped run has already kept among them."""
    place = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    return shutil.disk_usage(place).free + (stored_bytes(run) if place == run else 0)
