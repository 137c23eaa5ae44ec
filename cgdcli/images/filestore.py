"""Decoded pictures in a file that outlives its process.

A header, then one record after the other: what it is of, width, height, the source's size and time,
a checksum, the RGB bytes. Records are only ever appended. So a kill leaves whole records and at
most one that is cut short, which the next opening drops; what a crash of the machine leaves
unwritten is found by its checksum.

The system keeps in memory what fits of the file, as it would of a map. It is read without one: a
thread that waits for the disk then lets the others go on (a map's reader holds the interpreter's
lock), and a file that goes away from under it is an error, where a map's would end the process.
"""

import contextlib
import hashlib
import logging
import os
import struct
import threading
import zlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from PIL import Image

from cgdcli.images.cropping import Box

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger("cgdcli")

NAME = "pictures{}.cache"
_MAGIC = b"cgdpics1"
_HEADER = struct.Struct("<8sI")  # magic, side
_RECORD = struct.Struct("<4s16sIIQqI")  # mark, key, width, height, source's size, mtime_ns, crc32
_MARK = b"PICT"


class _Entry(NamedTuple):
    """Where a picture's bytes begin, and what they are of."""

    start: int
    width: int
    height: int
    source_size: int
    source_time: int
    checksum: int

    @property
    def size(self) -> int:
        return 3 * self.width * self.height


class FileStore:
    """Pictures in a file of a folder; a `Store`.

    Args:
        side: of the pictures, see `images.reducing`; those of another side are forgotten.
        rank: of this process, among those that keep pictures in the folder.

    Raises:
        OSError: the file cannot be opened or written, or another process of the rank has it.
    """

    def __init__(self, folder: Path, side: int, rank: int = 0) -> None:
        self.side = side
        self._lock = threading.Lock()
        self._entries: dict[bytes, _Entry] = {}
        self._trusted: set[bytes] = set()  # written here, or their checksum was looked at
        self.path = folder / NAME.format(rank or "")
        self._descriptor = _open(self.path)
        self._full = False
        self._end = self._take_up()

    def get(self, path: Path, box: Box | None) -> Image.Image | None:
        """See `Store`: the picture unless its file has changed since."""
        key = _key(path, box)
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            data = os.pread(self._descriptor, entry.size, entry.start)
        except OSError:
            data = b""
        if key not in self._trusted and _source(path) != entry[3:5]:
            data = b""
        if len(data) != entry.size or (
            key not in self._trusted and zlib.crc32(data) != entry.checksum
        ):
            self._entries.pop(key, None)  # it is read anew, and kept anew
            return None
        self._trusted.add(key)
        return Image.frombytes("RGB", (entry.width, entry.height), data)

    def put(self, path: Path, box: Box | None, image: Image.Image) -> None:
        """See `Store`; on a full disk the file is given up, so that the run keeps its room."""
        if self._full:
            return
        key, data = _key(path, box), image.tobytes()
        source = _source(path)
        checksum = zlib.crc32(data)
        record = _RECORD.pack(_MARK, key, *image.size, *source, checksum)
        with self._lock:
            if self._full:
                return
            try:
                _write_at(self._descriptor, record + data, self._end)
            except OSError as error:
                self._give_up(error)
                return
            start = self._end + _RECORD.size
            self._entries[key] = _Entry(start, *image.size, *source, checksum)
            self._trusted.add(key)
            self._end = start + len(data)

    def close(self) -> None:
        """See `Store`; the file stays for the next process."""
        os.close(self._descriptor)

    def _take_up(self) -> int:
        """Find the records that are there, drop what is cut short; where the next one begins."""
        size = os.fstat(self._descriptor).st_size
        found = os.pread(self._descriptor, _HEADER.size, 0)
        if found != _HEADER.pack(_MAGIC, self.side):
            os.ftruncate(self._descriptor, 0)
            _write_at(self._descriptor, _HEADER.pack(_MAGIC, self.side), 0)
            return _HEADER.size
        end = _HEADER.size
        while end + _RECORD.size <= size:
            mark, key, *rest = _RECORD.unpack(os.pread(self._descriptor, _RECORD.size, end))
            entry = _Entry(end + _RECORD.size, *rest)
            if mark != _MARK or entry.start + entry.size > size:
                break
            self._entries[key] = entry
            end = entry.start + entry.size
        os.ftruncate(self._descriptor, end)
        return end

    def _give_up(self, error: OSError) -> None:
        self._full = True
        self._entries = {}
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)  # gives the room back, though the file is open
            self.path.unlink()
        logger.warning(
            "decoded pictures cannot be kept in `%s`: %s; the file is removed, and pictures are "
            "decoded anew",
            self.path,
            error.strerror or error,
        )


def remove_stores(folder: Path) -> None:
    """Remove every file of decoded pictures from a folder that nobody trains in any more."""
    for file in folder.glob(NAME.format("*")):
        with contextlib.suppress(OSError):
            file.unlink()


def stored_bytes(folder: Path) -> int:
    """Bytes of the files of decoded pictures in a folder."""
    return sum(file.stat().st_size for file in folder.glob(NAME.format("*")))


def _open(path: Path) -> int:
    """Open and lock; the kernel gives the lock back when its process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OSError(f"another process has `{path.name}`") from error
    return descriptor


def _key(path: Path, box: Box | None) -> bytes:
    said = repr((os.fsencode(os.path.abspath(path)), None if box is None else tuple(box)))
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def _source(path: Path) -> tuple[int, int]:
    """Size and time of a picture's file; it has just been read, or was once."""
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    """All of it; a full disk may take a part before it says so."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written
