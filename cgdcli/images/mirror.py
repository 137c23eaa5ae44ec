"""Pictures at an address: listed there, copied to their places when they are wanted."""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgdcli.errors import DatasetError
from cgdcli.images.loading import read_ahead
from cgdcli.remote import (
    address_of,
    can_be_named,
    download,
    facts_of,
    info_of,
    opened,
    reported,
    shown,
)

# Waiting for a network is not computing: at 50 ms a copy, 16 at a time are 320 a second.
COPIES_AT_ONCE = 16
SECONDS_OF_A_DEAD_COPY = 86_400.0

Facts = tuple[int | None, int | None]


@dataclass
class RemoteListing:
    """What is at an address.

    Attributes:
        root: the place of the folder.
        facts: by path below it, size and stamp (`remote.facts_of`) of every visible object.
        unnamed: addresses that no file can be named like, with the reason.
    """

    root: Path
    facts: dict[str, Facts] = field(default_factory=dict)
    unnamed: dict[str, str] = field(default_factory=dict)


def list_remote(source: Path) -> RemoteListing:
    """List a folder, or the single picture, that `source` is the place of; copies of what is gone
    or has changed are removed, so that a copy that is there is the newest.

    Memory grows with the number of names while the listing is under way.

    Raises:
        DatasetError: it cannot be reached.
    """
    address = shown(source)
    fs, path = opened(address)
    base = path.rstrip("/")
    with reported(address):
        try:
            found: dict[str, Any] = fs.find(path, detail=True)
        except FileNotFoundError:
            found = {}
    if not found or set(found) == {path}:
        return _single(source)
    listing = RemoteListing(source)
    for name, info in found.items():
        below = name.removeprefix(base).removeprefix("/")
        parts = below.split("/")
        if not below or below.endswith("/"):
            continue  # the mark of an empty folder
        if not all(map(can_be_named, parts)):
            listing.unnamed[f"{address}/{below}"] = "no file can have this name"
        elif not any(part.startswith(".") for part in parts):
            listing.facts[str(Path(*parts))] = facts_of(info)
    _complete(fs, base, listing)
    _remove_old(source, listing.facts)
    return listing


def fetched(files: Sequence[Path]) -> Iterable[Path]:
    """The same files in order, each once its copy is there; those on a disk as they are.

    One that is gone since it was listed is not there, as a file that was removed.

    Raises:
        DatasetError: the network fails, after the driver's own retries.
    """
    if not any(map(address_of, files)):
        return files
    return read_ahead(fetch, files, workers=COPIES_AT_ONCE, ahead=4 * COPIES_AT_ONCE)


def fetch(file: Path) -> Path:
    """Copy one picture, if it is a place where no copy is yet."""
    if address_of(file) is not None and not file.exists():
        download(file)
    return file


def _single(source: Path) -> RemoteListing:
    info = info_of(source)
    if info is None:
        raise DatasetError(
            f"nothing is at `{shown(source)}`; a picture or a folder of pictures is wanted",
            hint="check the spelling and the endpoint (AWS_ENDPOINT_URL); patterns (*) are for "
            "folders of a disk: name a folder, and --exclude",
        )
    facts = {source.name: facts_of(info)}
    if source.exists() and _facts_here(source) != facts[source.name]:
        source.unlink()
    return RemoteListing(source.parent, facts)


def _complete(fs: Any, base: str, listing: RemoteListing) -> None:
    """Ask for the facts of each object where a listing has none, as an https server's."""
    bare = [name for name, (_, stamp) in listing.facts.items() if stamp is None]
    if not bare:
        return

    def ask(name: str) -> Facts:
        with reported(f"{shown(listing.root)}/{name}"):
            return facts_of(fs.info(f"{base}/{name.replace(os.sep, '/')}"))

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        listing.facts.update(zip(bare, pool.map(ask, bare), strict=True))


def _remove_old(source: Path, facts: dict[str, Facts]) -> None:
    from cgdcli.images.finding import IMAGE_SUFFIXES

    for folder, _, names in os.walk(source):
        for name in names:
            file = Path(folder, name)
            if name.startswith("."):
                _remove_dead(file)
            elif file.suffix.lower() in IMAGE_SUFFIXES:
                wanted = facts.get(os.path.relpath(file, source))
                if wanted is None or wanted[1] is None or _facts_here(file) != wanted:
                    file.unlink(missing_ok=True)


def _facts_here(file: Path) -> Facts:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _remove_dead(file: Path) -> None:
    """Half a copy, whose process was killed; indexes under way have longer names."""
    half = len(file.name) == 38 and file.suffix == ".part"
    if half and time.time() - file.stat().st_mtime > SECONDS_OF_A_DEAD_COPY:
        file.unlink(missing_ok=True)
