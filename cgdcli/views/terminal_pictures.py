"""Pictures in a terminal, by the protocol it speaks: kitty's, iTerm2's, sixel, or half blocks.

textual-image (extra `pictures`) draws all but iTerm2's: it counts on iTerm2's sixel, which has 256
colours and takes twice the bytes (of a photograph 12 and 23 kB, though at twice the resolution).
"""

import base64
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from PIL import Image
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import ControlType, Segment

from cgdcli.config import Thumbnails
from cgdcli.errors import CGDError, ConfigError
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.images.mirror import fetch
from cgdcli.remote import place_of
from cgdcli.views.thumbnails import thumbnail

# Cells, across and down: of half blocks, of two pixels each, more are needed to see anything.
_BOX = {Thumbnails.blocks: (20, 7)}
_PLAIN_BOX = (14, 5)
CELL = (10, 20)  # px, of the VT340, where a terminal does not say
# rich counts the width of text, not of what has a control code: this one does nothing.
_CONTROL = [(ControlType.CURSOR_FORWARD, 0)]


def can_draw() -> bool:
    """Whether the extra is installed."""
    return find_spec("textual_image") is not None


def terminal_pictures(
    paths: Iterable[str], protocol: Thumbnails, cell: tuple[int, int] = CELL
) -> dict[str, RenderableType]:
    """Each picture that can be read, as what rich prints, with an empty line below it.

    Args:
        protocol: one that draws.
        cell: width and height of a character in px.

    Raises:
        ConfigError: the extra is not installed.
    """
    draw = _drawer(protocol, cell)
    across, down = _BOX.get(protocol, _PLAIN_BOX)
    side = max(across * cell[0], down * cell[1])
    once = list(dict.fromkeys(paths))
    images = read_ahead(lambda path: _read(path, side), once, workers=worker_count(0))
    found = {}
    for path, image in zip(once, images, strict=True):
        if image is not None:
            found[path] = draw(image, *_cells(image.size, (across, down), cell))
    return found


def _read(path: str, side: int) -> Image.Image | None:
    try:
        return thumbnail(fetch(place_of(path)), side)
    except CGDError:  # its network fails: the table has its name
        return None


def _cells(size: tuple[int, int], box: tuple[int, int], cell: tuple[int, int]) -> tuple[int, int]:
    """How many cells across and down a picture takes that just fits the box."""
    scale = min(box[i] * cell[i] / size[i] for i in (0, 1))
    across, down = (max(1, round(scale * size[i] / cell[i])) for i in (0, 1))
    return across, down


def _drawer(
    protocol: Thumbnails, cell: tuple[int, int]
) -> Callable[[Image.Image, int, int], RenderableType]:
    if protocol is Thumbnails.iterm2:
        return InlineImage
    if not can_draw():
        raise ConfigError(
            f"--thumbnails {protocol} wants a package that is not installed (textual-image)",
            hint="pip install 'cgdcli[pictures]', or leave it out",
        )
    kinds = _renderables(cell)
    if protocol is Thumbnails.sixel:  # takes a line more, as ours does
        return kinds.SixelImage  # type: ignore[no-any-return]
    kind = kinds.TGPImage if protocol is Thumbnails.kitty else kinds.HalfcellImage
    return lambda *picture: Padding(kind(*picture), (0, 0, 1, 0))


def _renderables(cell: tuple[int, int]) -> Any:
    """The library, told what it would ask the terminal: `cli.terminal` has asked.

    It asks by stdin while it is imported, and fails where that is no terminal.
    """
    stdout, sys.__stdout__ = sys.__stdout__, None  # type: ignore[misc]
    try:
        from textual_image import _terminal

        _terminal.get_cell_size = lambda: _terminal.CellSize(*cell)
        from textual_image import renderable
    finally:
        sys.__stdout__ = stdout  # type: ignore[misc]
    return renderable


@dataclass(frozen=True)
class InlineImage:
    """A picture by iTerm2's protocol (https://iterm2.com/documentation-images.html).

    It takes a line more than `down`: from there the cursor goes up, draws and comes back, so that
    the picture may stand in the cell of a table.
    """

    image: Image.Image
    across: int
    down: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for _ in range(self.down):
            yield Segment(" " * self.across + "\n")
        data = io.BytesIO()
        self.image.save(data, format="JPEG", quality=80)
        text = base64.b64encode(data.getvalue()).decode("ascii")
        yield Segment("\x1b7", control=_CONTROL)
        yield Control.move(0, -self.down)
        yield Segment(
            f"\x1b]1337;File=inline=1;size={len(data.getvalue())};width={self.across};"
            f"height={self.down};preserveAspectRatio=0:{text}\x07",
            control=_CONTROL,
        )
        yield Segment("\x1b8", control=_CONTROL)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.across, self.across)
