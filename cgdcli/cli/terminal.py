"""What the terminal can show, by its own answer."""

import contextlib
import os
import re
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from cgdcli.config import Thumbnails

termios: ModuleType | None
try:
    import fcntl
    import termios
    import tty
except ImportError:  # Windows
    termios = None

# Its name and version; a cell's size; and last its attributes, which every terminal answers, so
# that one that knows nothing of the others need not be waited for.
_QUESTIONS = b"\x1b[>q\x1b[16t\x1b[c"
_NAME = re.compile(rb"\x1bP>\|([^\x1b]*)\x1b\\")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_SIXEL = b"4"
PATIENCE_SECONDS = 1.0  # a slow network between; a silent terminal costs it once


@dataclass(frozen=True)
class TerminalAnswer:
    """Which protocol to draw by, and the width and height of a character in px, if it says."""

    protocol: Thumbnails = Thumbnails.blocks
    cell: tuple[int, int] | None = None


def ask_terminal(patience: float = PATIENCE_SECONDS) -> TerminalAnswer:
    """Ask the terminal that this process belongs to, by its own device: stdin may be a pipe.

    One that does not answer gets half blocks.
    """
    if termios is None:
        return TerminalAnswer()
    try:
        with _device() as device:
            if device is None:
                return TerminalAnswer()
            size = _pixels_of_a_cell(device)
            with _raw(device):
                os.write(device, _QUESTIONS)
                answer = _read(device, patience)
    except (OSError, termios.error):  # it was closed meanwhile
        return TerminalAnswer()
    return understood(answer, size)


def understood(answer: bytes, cell: tuple[int, int] | None = None) -> TerminalAnswer:
    """What a terminal's answers mean.

    A picture stands in text by kitty's placeholders, which kitty has since 0.28, and Ghostty.
    Others that answer to kitty's graphics (WezTerm, Konsole) have none, but sixel.
    """
    attributes, named = _ATTRIBUTES.search(answer), _NAME.search(answer)
    name = named[1] if named else b""
    said = _CELL.search(answer)
    if cell is None and said is not None and int(said[1]) and int(said[2]):
        cell = int(said[2]), int(said[1])
    protocol = Thumbnails.blocks
    if name.startswith(b"iTerm2"):
        protocol = Thumbnails.iterm2
    elif attributes is not None and _SIXEL in attributes[1].split(b";"):
        protocol = Thumbnails.sixel
    elif _has_placeholders(name):
        protocol = Thumbnails.kitty
    return TerminalAnswer(protocol, cell)


def _has_placeholders(name: bytes) -> bool:
    kitty = re.match(rb"kitty\((\d+)\.(\d+)", name)
    return name.startswith(b"ghostty") or (
        kitty is not None and (int(kitty[1]), int(kitty[2])) >= (0, 28)
    )


@contextlib.contextmanager
def _device() -> Iterator[int | None]:
    """The terminal, unless this process is in its background: asking would stop it."""
    try:
        device = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        yield None
        return
    try:
        in_front = os.tcgetpgrp(device) == os.getpgrp()
        yield device if in_front else None
    finally:
        os.close(device)


@contextlib.contextmanager
def _raw(device: int) -> Iterator[None]:
    assert termios is not None
    before = termios.tcgetattr(device)
    tty.setcbreak(device, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(device, termios.TCSANOW, before)


def _read(device: int, patience: float) -> bytes:
    answer, until = b"", time.monotonic() + patience
    while not _ATTRIBUTES.search(answer):
        left = until - time.monotonic()
        if left <= 0 or not select.select([device], [], [], left)[0]:
            break
        more = os.read(device, 1024)
        if not more:
            break
        answer += more
    return answer


def _pixels_of_a_cell(device: int) -> tuple[int, int] | None:
    assert termios is not None
    packed = fcntl.ioctl(device, termios.TIOCGWINSZ, b"\0" * 8)
    lines, columns, width, height = struct.unpack("HHHH", packed)
    if not (lines and columns and width >= columns and height >= lines):
        return None
    return width // columns, height // lines
