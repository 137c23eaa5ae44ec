"""Writing files so that bad input or a kill never costs what was there before."""

import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from cgdcli.errors import OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_HOST = socket.gethostname()


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


@contextlib.contextmanager
def writer_lock(target: Path, called: str = "") -> Iterator[None]:
    """Hold `<target>.lock`, so that a second writer of the same output is told.

    The kernel gives the lock back when its process ends, however it ends. The file names host and
    pid for people; one left by another host is believed, since that host cannot be asked.

    Args:
        called: what is written, for an error's words; else the name `target`.

    Raises:
        OutputError: another process is writing `target`.
    """
    lock = lock_of(target)
    descriptor = _acquire(lock, target, called)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def writer_of(target: Path) -> str | None:
    """Who holds the lock of `target`, in words; None where nobody does."""
    try:
        descriptor = os.open(lock_of(target), os.O_RDWR)
    except OSError:
        return None
    try:
        owner = _owner(os.pread(descriptor, 4096, 0))
        free = _try_lock(descriptor, owner) and owner.get("host", _HOST) == _HOST
        return None if free else _words(owner)
    finally:
        os.close(descriptor)  # gives back what was locked just to try


def refuse_if_written(target: Path, called: str = "") -> None:
    """Raise what a second writer of `target` would be told.

    Raises:
        OutputError: another process is writing it.
    """
    by = writer_of(target)
    if by is not None:
        raise _being_written(target, by, called)


def _not_written(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write `{target}`: {error.strerror or error}",
        hint="check the free space and the permissions of that folder; nothing was replaced",
    )


def lock_of(target: Path) -> Path:
    """The file that says who writes `target`."""
    return target.with_name(target.name + ".lock")


def _words(owner: dict[str, Any]) -> str:
    return f"pid {owner['pid']} on {owner['host']}" if owner else "owner unknown"


def _being_written(target: Path, by: str, called: str) -> OutputError:
    return OutputError(
        f"{called or f'`{target}`'} is being written by another process ({by})",
        hint=f"wait for it; if it is gone for sure, remove `{lock_of(target)}`",
    )


def _acquire(lock: Path, target: Path, called: str) -> int:
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise OutputError(
                f"cannot write `{target}`: {error.strerror or error}",
                hint="choose a folder that exists and that you may write to",
            ) from error
        owner = _owner(os.pread(descriptor, 4096, 0))
        if not _try_lock(descriptor, owner) or owner.get("host", _HOST) != _HOST:
            os.close(descriptor)
            raise _being_written(target, _words(owner), called)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                break
        os.close(descriptor)  # its owner removed it between our opening and our locking
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": _HOST, "pid": os.getpid()}).encode(), 0)
    return descriptor


def _try_lock(descriptor: int, owner: dict[str, Any]) -> bool:
    """Lock without waiting; where the system has no flock (Windows), judge by the owner's pid."""
    if fcntl is None:
        return owner.get("pid") in (None, os.getpid()) or not _is_alive(int(owner["pid"]))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(text: bytes) -> dict[str, Any]:
    """Host and pid; empty where a writer was killed before it could say."""
    try:
        owner = json.loads(text)
        return {"host": str(owner["host"]), "pid": int(owner["pid"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)  # there is no other way to ask
    os.umask(mask)
    return mask
