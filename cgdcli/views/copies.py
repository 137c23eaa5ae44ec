"""The pictures of the hits as files of a folder, named by rank and similarity."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cgdcli.errors import OutputError
from cgdcli.files import fsync_file, fsync_folder
from cgdcli.images.mirror import fetch
from cgdcli.remote import LONGEST_NAME, place_of
from cgdcli.reports import CopyReport, Hit, QueryHits, SkippedImage

# What Windows refuses in a name, so that a folder can go to any disk.
_REFUSED = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
_LONGEST_SUFFIX = 16  # bytes; a longer one is no suffix but the end of a name


def check_folder(folder: Path, *, force: bool = False) -> None:
    """Refuse a folder that hits could not be copied to, before any work is done.

    Raises:
        OutputError: it cannot be made or written, or is not empty and `force` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"cannot copy hits to `{folder}`: it is a file, not a folder",
            hint="choose another place",
        )
    if not folder.parent.is_dir():
        raise OutputError(
            f"cannot copy hits to `{folder}`: the folder `{folder.parent}` does not exist",
            hint=f"create it first: mkdir -p '{folder.parent}'",
        )
    place = folder if folder.is_dir() else folder.parent
    if not os.access(place, os.W_OK):
        raise OutputError(
            f"cannot copy hits to `{folder}`: the folder `{place}` is not writable for you",
            hint="choose another folder, or ask for permission to write in this one",
        )
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise OutputError(
            f"the folder `{folder}` is not empty; hits are not mixed with what is there unasked",
            hint="choose another folder, or add --force to put them beside, replacing files of "
            "the same names",
        )


def copy_hits(
    results: Sequence[QueryHits], folder: Path, *, several: bool = False, force: bool = False
) -> CopyReport:
    """Copy the hits' pictures as `01_0.8312_name.jpg`: all that are there, or none.

    They come together under a temporary name: a new folder appears whole, in one that exists they
    appear one after the other, each whole. What else is in it stays.

    Args:
        several: give each query a folder of its own, `1_query`.

    Raises:
        OutputError: it cannot be written; nothing was copied.
    """
    check_folder(folder, force=force)
    missing: list[SkippedImage] = []
    copied = 0
    with _staged(folder) as staging:
        for number, result in enumerate(results, start=1):
            below = staging
            if several:
                below = staging / _query_folder(result, number, len(results))
                below.mkdir()
            digits = max(2, len(str(len(result.hits))))
            for hit in result.hits:
                why = _copy(hit, below / _copy_name(hit, digits))
                copied += why is None
                if why is not None:
                    missing.append(SkippedImage(hit.path, why))
    return CopyReport(folder, copied, tuple(missing))


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk of `folder`; on success it becomes that folder, or what is
    in it goes there."""
    there = folder.is_dir()
    staging = (folder if there else folder.parent) / f".{folder.name}.{os.getpid()}.tmp"
    try:
        staging.mkdir()
        yield staging
        if there:
            for file in [path for path in staging.rglob("*") if path.is_file()]:
                target = folder / file.relative_to(staging)
                target.parent.mkdir(exist_ok=True)
                file.replace(target)
                fsync_folder(target.parent)
        else:
            staging.replace(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise OutputError(
            f"cannot copy hits to `{folder}`: {error.strerror or error}",
            hint="check the free space and the permissions there",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy(hit: Hit, target: Path) -> str | None:
    """Why a picture cannot be copied; None where it was."""
    if hit.path == f"row:{hit.row}":
        return f"no table says which picture row {hit.row} is"
    try:
        source = fetch(place_of(hit.path)).open("rb")
    except OSError as error:
        return f"`{hit.path}` cannot be copied: {error.strerror or error}"
    with source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    fsync_file(target)
    return None


def _copy_name(hit: Hit, digits: int) -> str:
    return _fitting(f"{hit.rank:0{digits}}_{hit.similarity:.4f}_{Path(hit.path).name}")


def _query_folder(result: QueryHits, number: int, count: int) -> str:
    name = Path(result.name).stem if result.query == result.query_path else result.name
    return _fitting(f"{number:0{len(str(count))}}_{_REFUSED.sub('_', name)}")


def _fitting(name: str) -> str:
    """Cut to what a file system takes, before the suffix."""
    suffix = Path(name).suffix
    if len(os.fsencode(suffix)) > _LONGEST_SUFFIX:
        suffix = ""
    stem = name.removesuffix(suffix)
    while len(os.fsencode(stem + suffix)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + suffix
