"""Pages of memory that are a file's, given back once they were read.

Linux counts them as this process's until it takes them away; a file that was read from front to
back through a mapping is in memory whole. Elsewhere nothing is given back, and nothing breaks.
"""

import ctypes
import mmap
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Smaller tensors are not worth the reading of the process's table of mappings.
_AT_LEAST = 1 << 24
_DONT_NEED = 4
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+) ")


@dataclass(frozen=True)
class Pages:
    """The memory behind some bytes, from `start`; `clean` if it is an unchanged file's."""

    start: int
    clean: bool

    def release(self, offset: int, length: int) -> None:
        """Give back the whole pages of a part; the next look at them reads the file again."""
        if not self.clean:
            return
        first = -(-(self.start + offset) // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (self.start + offset + length) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            ctypes.CDLL(None).madvise(
                ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONT_NEED
            )


def pages_of(data: memoryview) -> Pages:
    """What is behind some bytes. Changed pages are this process's alone: they are never clean."""
    if len(data) < _AT_LEAST or not sys.platform.startswith("linux"):
        return Pages(0, clean=False)
    start = np.frombuffer(data, np.uint8).ctypes.data
    return Pages(start, _is_clean_file(start, start + len(data)))


def _is_clean_file(start: int, stop: int) -> bool:
    """Whether one mapping of a file holds the range, with no page written to since."""
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    for number, line in enumerate(lines):
        match = _MAPPING.match(line)
        if match and int(match[1], 16) <= start and stop <= int(match[2], 16):
            facts = dict(_fact(other) for other in lines[number + 1 : number + 24] if ":" in other)
            return match[3] != "0" and facts.get("Anonymous") == facts.get("Private_Dirty") == 0
    return False


def _fact(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(":")
    amount = rest.split()
    return name, int(amount[0]) if amount and amount[0].isdigit() else -1
