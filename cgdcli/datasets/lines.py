"""The lists that benchmarks come with: lines of words apart by blanks."""

from collections.abc import Iterator
from pathlib import Path

from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box
from cgdcli.words import counted


def read_lines(file: Path, words: int, *, skip: int = 0) -> Iterator[list[str]]:
    """The words of each line that is not empty, after the first `skip` lines.

    Raises:
        DatasetError: the file cannot be read, or a line has another number of words.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"cannot read `{file}`: {getattr(error, 'strerror', None) or error}",
            hint="unpack the archive again",
        ) from error
    for number, line in enumerate(lines[skip:], start=skip + 1):
        parts = line.split()
        if parts and len(parts) != words:
            raise DatasetError(
                f"line {number} of `{file}` has {counted(len(parts), 'word')}; {words} are wanted",
                hint="unpack the archive again",
            )
        if parts:
            yield parts


def whole_number(text: str, file: Path) -> int:
    """A number of a list.

    Raises:
        DatasetError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise DatasetError(
            f"`{text}` in `{file}` is not a whole number", hint="unpack the archive again"
        ) from None


def listed_box(words: list[str], file: Path, *, sized: bool = False) -> Box:
    """A box from its four numbers x1 y1 x2 y2, or with `sized` x y width height.

    Raises:
        DatasetError: they are no numbers, or no box.
    """
    try:
        left, top, third, fourth = map(float, words)
        return (
            Box.around(left, top, left + third, top + fourth)
            if sized
            else Box.around(left, top, third, fourth)
        )
    except ValueError as error:
        raise DatasetError(f"in `{file}`: {error}", hint="unpack the archive again") from error
