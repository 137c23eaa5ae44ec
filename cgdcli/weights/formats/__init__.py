"""Foreign formats, one file each: pure renaming tables, no files and no tensors.

A format says whether a set of names is its own, and what each name is called here.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One foreign way of naming.

    Attributes:
        recognises: whether a file's names are of this format.
        rename: our name for a foreign one, or None for a name the format does not know.
        drop: why a known name is left out, or None to keep it.
    """

    name: str
    recognises: Callable[[Collection[str]], bool]
    rename: Callable[[str], str | None]
    drop: Callable[[str], str | None]
