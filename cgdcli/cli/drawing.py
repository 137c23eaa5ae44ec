"""Pictures beside the hits of a table: whether, and by which protocol."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cgdcli.cli.output import Output
from cgdcli.cli.terminal import ask_terminal
from cgdcli.config import Thumbnails

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cgdcli.reports import QueryHits

DRAWN = 100  # pictures: a longer table is not for looking at
NARROW = 60  # columns of a terminal, of which pictures would leave too few


def drawn(
    out: Output, results: "Sequence[QueryHits]", wanted: Thumbnails
) -> "dict[str, RenderableType] | None":
    """The first pictures by their path; None where there are to be none.

    Raises:
        ConfigError: a protocol is named, and the extra is not installed.
    """
    if wanted is Thumbnails.off:
        return None
    why_not = _why_not(out, wanted)
    if why_not:
        if wanted is not Thumbnails.auto:
            out.say(f"note: no thumbnails: {why_not}")
        return None
    from cgdcli.views.terminal_pictures import CELL, can_draw, terminal_pictures

    if wanted is Thumbnails.auto and not can_draw():
        return None
    answer = ask_terminal()
    protocol: Thumbnails | None = wanted
    if wanted is Thumbnails.auto:
        protocol = _affordable(answer.protocol, out.stdout.color_system)
    if protocol is None:
        return None
    paths = [result.query_path for result in results if result.query_path is not None]
    paths += [hit.path for result in results for hit in result.hits]
    return terminal_pictures(list(dict.fromkeys(paths))[:DRAWN], protocol, answer.cell or CELL)


def _affordable(protocol: Thumbnails, colours: str | None) -> Thumbnails | None:
    """What is left with so many colours, in rich's words: kitty's placeholders name their picture
    by a colour of 24 bits, and blocks of 16 colours show nothing."""
    if protocol is Thumbnails.kitty and colours != "truecolor":
        protocol = Thumbnails.blocks
    if protocol is Thumbnails.blocks and colours not in ("256", "truecolor"):
        return None
    return protocol


def _why_not(out: Output, wanted: Thumbnails) -> str | None:
    if not sys.stdout.isatty():
        return "stdout is not a terminal"
    if os.environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    if wanted is Thumbnails.kitty and out.stdout.color_system != "truecolor":
        return "kitty's want colours of 24 bits (COLORTERM=truecolor)"
    if wanted is not Thumbnails.auto:
        return None
    return "the terminal is too narrow" if out.stdout.width < NARROW else None
