"""Writing files so that bad input or a kill never costs what was there before."""

import contextlib
import glob
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cgdcli.errors import OutputError

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


def user_cache() -> Path:
    """The folder of cgd in what the system has for files that can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.path.abspath(base)) / "cgd"


def check_output(target: Path, *, force: bool = False, what: str = "output") -> None:
    """Refuse an output that could not be written at the end, before any work is done.

    Raises:
        OutputError: the folder is missing or not writable, the target is a folder, or it exists
            and `force` is not set.
    """
    folder = target.parent
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"cannot write {what} `{target}`: `{folder}` is a file, not a folder",
            hint="choose another place",
        )
    if not folder.is_dir():
        raise OutputError(
            f"cannot write {what} `{target}`: the folder `{folder}` does not exist",
            hint=f"create it first: mkdir -p '{folder}'",
        )
    if target.is_dir():
        raise OutputError(
            f"cannot write {what} `{target}`: it is a folder; a file name is wanted",
            hint="name a file in it, or another name",
        )
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"cannot write {what} `{target}`: the folder `{folder}` is not writable for you",
            hint="choose another folder, or ask for permission to write in this one",
        )
    if target.exists() and not force:
        raise OutputError(
            f"{what} `{target}` exists; nothing is overwritten unasked",
            hint="add --force to replace it, or choose another name",
        )


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside `target`; on success fsync it and rename it to `target`.

    On any exception, Ctrl-C included, the temporary file is removed and `target` is untouched.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        # Some writers (safetensors) make private files; a model is shared as the umask says.
        temporary.chmod(0o666 & ~_umask())
        fsync_file(temporary)
        temporary.replace(target)
        fsync_folder(target.parent)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_files(first: Path, *others: Path) -> Iterator[Path]:
    """Yield a temporary folder beside files that mean something only together; what is written
    there under their names is fsynced on success and renamed into place.

    A reader opens `first`: it goes before the others are replaced and comes after them, so that at
    no moment, that of a kill included, it lies beside another writing's. On any exception before
    that nothing is replaced.
    """
    folder = first.with_name(f".{first.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir()
        yield folder
        for target in (first, *others):
            (folder / target.name).chmod(0o666 & ~_umask())
            fsync_file(folder / target.name)
        if others:
            first.unlink(missing_ok=True)
            fsync_folder(first.parent)
        for target in (*others, first):
            (folder / target.name).replace(target)
            fsync_folder(first.parent)
    except OSError as error:
        raise _not_written(first, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(*targets: Path) -> None:
    """Remove what writers of `targets` left that were killed: by whoever holds their lock."""
    for target in targets:
        for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            with contextlib.suppress(OSError):
                left.unlink()


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fsync_file(path: Path) -> None:
    """Force the contents of `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Force the names in `folder` to the disk; where the system cannot (Windows), do nothing."""
    with contextlib.suppress(OSError):
        fsync_file(folder)


def _not_written(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write `{target}`: {error.strerror or error}",
        hint="check the free space and the permissions of that folder; nothing was replaced",
    )


def _umask() -> int:
    mask = os.umask(0)  # there is no other way to ask
    os.umask(mask)
    return mask
