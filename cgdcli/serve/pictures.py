"""Pictures of the index, small, by row."""

import asyncio
import io
import logging
import queue
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cgdcli.errors import CGDError
from cgdcli.images.mirror import fetch
from cgdcli.index.store import EmbeddingIndex
from cgdcli.serve.searching import Searching
from cgdcli.views.thumbnails import thumbnail

logger = logging.getLogger("cgdcli")

KEPT_BYTES = 64 * 2**20
QUALITY = 82


class Thumbnails:
    """Makes them when they are asked for, and keeps the last ones.

    Args:
        decoding: its threads decode, as few as memory has room for large pictures.
    """

    def __init__(self, searching: Searching, decoding: ThreadPoolExecutor) -> None:
        self.searching, self.decoding = searching, decoding
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    async def jpeg(self, row: int, size: int, of: str | None = None) -> bytes | None:
        """A JPEG whose longer side has at most `size` px; None where there is no such picture.

        Args:
            of: the generation of the index whose row is meant; None: of the one there now.

        Raises:
            RenewedError: the index was renewed since.
        """
        if of is not None and (kept := self._found((of, row, size))):
            return kept
        file, generation = await self._file(row, of)
        data = self._found((generation, row, size)) if of is None else None
        if data is not None:
            return data
        if file is not None:
            loop = asyncio.get_running_loop()
            if await asyncio.to_thread(_is_here, file):
                data = await loop.run_in_executor(self.decoding, _jpeg, file, size)
        if data is not None:
            self._keep((generation, row, size), data)
        return data

    def _found(self, key: tuple[str, int, int]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    async def _file(self, row: int, of: str | None) -> tuple[Path | None, str]:
        """And the generation of the index that has it."""

        def find(index: EmbeddingIndex) -> tuple[Path | None, str]:
            self.searching.check_generation(of)
            file = index.file(row) if 0 <= row < len(index) else None
            return file, self.searching.facts.generation

        while True:
            try:
                found: tuple[Path | None, str]
                found = await asyncio.wrap_future(self.searching.call(find))
                return found
            except queue.Full:
                await asyncio.sleep(0.02)

    def _keep(self, key: tuple[str, int, int], data: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def _is_here(file: Path) -> bool:
    """Copied from its address, where it has one."""
    try:
        return fetch(file).exists()
    except CGDError as error:
        logger.warning("%s", error.what)
        return False


def _jpeg(file: Path, size: int) -> bytes | None:
    image = thumbnail(file, size)
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
