"""`--ray [ADDRESS]`: an option whose value may be left out, which Typer has none of."""

import re
from collections.abc import Sequence

# `auto`, `local`, ray://head:10001, 10.0.0.1:6379, [::1]:6379: nothing that a folder is called.
_ADDRESS = re.compile(r"auto|local|ray://\S+|[\w.\-]+:\d+|\[[\da-fA-F:]+\]:\d+")


def with_ray_address(arguments: Sequence[str]) -> list[str]:
    """The same line with an address after every `--ray` of `embed`: `auto` where none is there.

    What follows is an address if it looks like one, so that `cgd embed --ray imgs/` embeds imgs/;
    `--ray=ADDRESS` takes whatever it is.
    """
    given = list(arguments)
    if not given or given[0] != "embed":
        return given
    end = given.index("--") if "--" in given else len(given)
    filled = []
    for place, word in enumerate(given):
        filled.append(word)
        if word == "--ray" and place < end:
            following = given[place + 1] if place + 1 < end else ""
            if not _ADDRESS.fullmatch(following):
                filled[-1] = "--ray=auto"
    return filled
