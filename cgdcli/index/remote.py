"""An index at an address: copied to its place and read there, made there and sent.

The table is sent last and read as what says which version is there: its ETag. `.feats.npy.remote`
beside a copy keeps the one that the copy came from, or went to; as long as it is the same there,
what is here is newer or the same, an unfinished index included.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgdcli.errors import IndexFileError, MismatchError, OutputError
from cgdcli.files import write_text
from cgdcli.index.records import PART, hidden, sidecar
from cgdcli.index.replacing import header_there
from cgdcli.index.shards import part_named, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.locks import writer_lock
from cgdcli.remote import address_of, download, facts_of, info_of, opened, reported, shown, upload

TRIES = 3
SECONDS_FOR_ANOTHER = 600.0  # that copies the same index


def fetch_index(path: Path) -> Path:
    """Copy the index, or all parts of it, that `path` is the place of, where another is there now.

    Returns:
        The `.npy` as `EmbeddingIndex.open` takes it.

    Raises:
        IndexFileError: nothing is there.
        MismatchError: its two files are not of one index.
        DatasetError: it cannot be reached.
    """
    npy = path if path.suffix == ".npy" else path.with_name(path.stem + ".npy")
    if path.suffix not in (".npy", ".sqlite"):
        npy = path.with_name(path.name + ".npy")
    named = part_named(npy)
    if named is None and _fetch(npy):
        return npy
    parts = [shard.path(named[0]) for shard in shards(named[1].of)] if named else _parts_of(npy)
    found = [part for part in parts if _fetch(part)]
    if not found:
        raise IndexFileError(
            f"no index is at `{shown(npy)}`: its table `{sidecar(npy).name}` is not there",
            hint=f"make it: cgd embed IMAGES -o {shown(npy)}",
        )
    return found[0]


def fetch_target(npy: Path, *, rebuild: bool) -> None:
    """Copy what is to be refreshed; with `rebuild` halves of two indexes are let be.

    Raises:
        MismatchError: rows without a table are there, which are nobody's to write over.
        CGDError: as `fetch_index`.
    """
    try:
        there = _fetch(npy)
    except MismatchError:
        if not rebuild:
            raise
        return
    if not there and not _said(npy).get("sending") and info_of(npy) is not None:
        raise MismatchError(
            f"`{shown(npy)}` exists, without a table that says it is an index made by cgd",
            hint="nothing is written over it: choose another -o, or remove it yourself",
        )


def send_index(npy: Path) -> bool:
    """Copy a finished index to its address, rows first, unless it is what is there.

    Whoever reads in between has other rows than the table says, which its checksum tells.

    Raises:
        OutputError: it cannot be written there; it stays here, finished.
    """
    header = header_there(npy)
    said = _said(npy)
    if address_of(npy) is None or header is None or said.get("generation") == header.generation:
        return False
    left = f"it is finished in `{npy.parent}`: the same command sends it, and embeds nothing again"
    with writer_lock(npy, f"`{shown(npy)}`"):
        _say(npy, said | {"sending": True})
        upload(npy, left)
        upload(sidecar(npy), left)
        _say(npy, {"table": _version(npy), "generation": header.generation})
    return True


def _fetch(npy: Path) -> bool:
    """Copy one pair where it is not the one here; False where none is there."""
    if not _is_another(npy):
        return _said(npy).get("table") is not None and _version(npy) is not None
    with _waited_for(npy):
        if not _is_another(npy):  # by whom was waited for
            return True
        with tempfile.TemporaryDirectory(prefix=".", dir=npy.parent) as folder:
            copy = Path(folder) / npy.name
            said = _copied(npy, copy)
            copy.replace(npy)
            sidecar(copy).replace(sidecar(npy))
        _say(npy, said)
    return True


def _is_another(npy: Path) -> bool:
    version = _version(npy)
    here = (npy.exists() and sidecar(npy).exists()) or hidden(sidecar(npy), PART).exists()
    return version is not None and (version != _said(npy).get("table") or not here)


def _copied(npy: Path, copy: Path) -> dict[str, Any]:
    """Copy both files as they were at one time: again, if the table has changed meanwhile.

    Returns:
        What is to be said of the copy.
    """
    for _ in range(TRIES):
        before = _version(npy)
        both = download(npy, copy) and download(sidecar(npy), sidecar(copy))
        if before != _version(npy):
            continue
        with contextlib.suppress(MismatchError):
            if both:
                EmbeddingIndex.open_one(copy).close()
                header = header_there(copy)
                return {"table": before, "generation": header.generation if header else ""}
        break
    raise MismatchError(
        f"`{shown(npy)}` and its table are not of one index: it is being sent, or that was stopped",
        hint="wait until it is there; the command that made it, given again, sends it",
    )


def _parts_of(npy: Path) -> list[Path]:
    """The parts there of an index that is not there as one."""
    address = shown(npy.parent)
    fs, path = opened(address)
    names: list[str] = []
    with reported(address), contextlib.suppress(FileNotFoundError):
        names = [name.rpartition("/")[2] for name in fs.ls(path, detail=False)]
    named = [npy.with_name(name) for name in sorted(names) if name.endswith(".npy")]
    return [part for part in named if (part_named(part) or (None,))[0] == npy]


def _version(npy: Path) -> list[Any] | None:
    """What tells the table there from others; None where none is."""
    info = info_of(sidecar(npy))
    return None if info is None else list(facts_of(info))


def _said(npy: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        said: dict[str, Any] = json.loads(_note(npy).read_text())
        return said
    return {}


def _say(npy: Path, said: dict[str, Any]) -> None:
    write_text(_note(npy), json.dumps(said))


def _note(npy: Path) -> Path:
    return hidden(npy, "remote")


@contextlib.contextmanager
def _waited_for(npy: Path) -> Iterator[None]:
    """The writer's lock of a place, once another process that copies or makes the same is done."""
    npy.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + SECONDS_FOR_ANOTHER
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(writer_lock(npy, f"`{shown(npy)}`"))
                break
            except OutputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield
