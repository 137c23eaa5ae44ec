"""One writer of a file or folder at a time, on one machine or on several that share a disk."""

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cgdcli.errors import OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_HOST = socket.gethostname()
# Who holds a lock touches it so often, in seconds; of another host nothing else can be seen.
_BEAT = 15.0
# A lock of another host that was not touched for so long has no owner any more.
SILENT = 120.0
# Two hosts may take over the same lock at once; by then each sees which of them wrote last.
_SETTLED = 5.0


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process holds, unless another host took it over meanwhile.

    Attributes:
        text: what this process wrote into it.
    """

    target: Path
    called: str
    text: bytes

    @property
    def is_ours(self) -> bool:
        """Whether nobody else wrote into it. One that was removed is nobody's."""
        return self._said() == self.text

    def check(self) -> None:
        """To be asked before something is written: this process may have been frozen for long.

        Raises:
            OutputError: another host took it for gone, and writes.
        """
        said = self._said()
        if said != self.text:
            raise _being_written(self.target, _words(_owner(said)), self.called)

    def _said(self) -> bytes:
        try:
            return lock_of(self.target).read_bytes()
        except OSError:
            return self.text


@contextlib.contextmanager
def writer_lock(target: Path, called: str = "") -> Iterator[HeldLock]:
    """Hold `<target>.lock`, so that a second writer of the same output is told.

    The kernel gives the lock back when its process ends, however it ends. The file names host and
    pid for people. Another host's process cannot be asked: as long as its lock is touched, it is
    believed (a node that failed, a container that began again under another name, leave theirs).

    Args:
        called: what is written, for an error's words; else the name `target`.

    Raises:
        OutputError: another process is writing `target`.
    """
    descriptor, held = _acquire(lock_of(target), target, called)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(held, ended), daemon=True, name="cgd-lock")
    beating.start()
    try:
        yield held
    finally:
        ended.set()
        beating.join()
        if held.is_ours:
            lock_of(target).unlink(missing_ok=True)
        os.close(descriptor)


def writer_of(target: Path) -> str | None:
    """Who holds the lock of `target`, in words; None where nobody does."""
    try:
        descriptor = os.open(lock_of(target), os.O_RDWR)
    except OSError:
        return None
    try:
        owner = _owner(os.pread(descriptor, 4096, 0))
        return None if _is_free(descriptor, lock_of(target), owner) else _words(owner)
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


def lock_of(target: Path) -> Path:
    """The file that says who writes `target`."""
    return target.with_name(target.name + ".lock")


def _words(owner: dict[str, Any]) -> str:
    return f"pid {owner['pid']} on {owner['host']}" if owner else "owner unknown"


def _being_written(target: Path, by: str, called: str) -> OutputError:
    return OutputError(
        f"{called or f'`{target}`'} is being written by another process ({by})",
        hint=f"wait for it; if it is gone for sure, remove `{lock_of(target)}` (of another "
        f"machine: that is done by itself {SILENT / 60:g} minutes after its last sign of life)",
    )


def _acquire(lock: Path, target: Path, called: str) -> tuple[int, HeldLock]:
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise OutputError(
                f"cannot write `{target}`: {error.strerror or error}",
                hint="choose a folder that exists and that you may write to",
            ) from error
        owner = _owner(os.pread(descriptor, 4096, 0))
        if not _is_free(descriptor, lock, owner):
            os.close(descriptor)
            raise _being_written(target, _words(owner), called)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                break
        os.close(descriptor)  # its owner removed it between our opening and our locking
    held = HeldLock(target, called, _signed(descriptor))
    if owner.get("host", _HOST) != _HOST:
        time.sleep(_SETTLED)
        try:
            held.check()
        except OutputError:
            os.close(descriptor)
            raise
    return descriptor, held


def _signed(descriptor: int) -> bytes:
    """What a lock says from here on; nothing on a full disk: it holds without a name in it."""
    mine = {"host": _HOST, "pid": os.getpid(), "token": secrets.token_hex(8)}
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine).encode(), 0)
    return os.pread(descriptor, 4096, 0)


def _beat(held: HeldLock, ended: threading.Event) -> None:
    """Touch the lock until its owner has ended, or it is another's."""
    while not ended.wait(_BEAT):
        if held.is_ours:
            with contextlib.suppress(OSError):
                os.utime(lock_of(held.target))


def _is_free(descriptor: int, lock: Path, owner: dict[str, Any]) -> bool:
    """Whether nobody holds a lock; then this process does, until it closes the descriptor."""
    if owner.get("host", _HOST) == _HOST:
        return _try_lock(descriptor, owner)
    # A kernel may know nothing of another machine's lock: its word alone is not enough.
    return _silence(descriptor, lock) > SILENT and (fcntl is None or _try_lock(descriptor, owner))


def _silence(descriptor: int, lock: Path) -> float:
    """Seconds since the lock was touched, by the clock of the disk that it is on."""
    try:
        with tempfile.TemporaryFile(dir=lock.parent) as now:
            return os.fstat(now.fileno()).st_mtime - os.fstat(descriptor).st_mtime
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime


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
