"""Writing files so that bad input or a kill never costs what was there before."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from cgdcli.errors import OutputError


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
        fsync_file(temporary)
        temporary.replace(target)
        fsync_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write `{target}`: {error.strerror or error}",
            hint="check the free space and the permissions of that folder; nothing was replaced",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


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
def writer_lock(target: Path) -> Iterator[None]:
    """Hold `<target>.lock`, so that a second writer of the same output is told.

    The file names host and pid. A lock whose process is gone on this host is taken over; one of
    another host is believed, since that host cannot be asked.

    Raises:
        OutputError: another process is writing `target`.
    """
    lock = target.with_name(target.name + ".lock")
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    for _ in range(2):
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if not _owner_is_gone(lock):
                raise OutputError(
                    f"`{target}` is being written by another process ({_owner(lock)})",
                    hint=f"wait for it; if it is gone for sure, remove `{lock}`",
                ) from None
            lock.unlink(missing_ok=True)
            continue
        except OSError as error:
            raise OutputError(
                f"cannot write `{target}`: {error.strerror or error}",
                hint="choose a folder that exists and that you may write to",
            ) from error
        with os.fdopen(descriptor, "w") as handle:
            handle.write(mine)
        break
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _owner(lock: Path) -> str:
    try:
        owner = json.loads(lock.read_text())
        return f"pid {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "owner unknown"


def _owner_is_gone(lock: Path) -> bool:
    try:
        owner = json.loads(lock.read_text())
        host, pid = owner["host"], int(owner["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
