"""Which pictures of an index are the same, or nearly so."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class DuplicateImage(Report):
    """One picture of a group.

    Attributes:
        path: as the user would name it; `row:N` where no table says.
        bytes: of its file when it was embedded.
        split: that it is of, where that is known.
        state: empty; `gone` where no file is there now, `changed` where it is of another size or
            time than when it was embedded, `same file` where another row is of that very file. None
            of these is kept for another, or spare.
        kept, spare: whether it is one to keep, or another one that is kept is as good.
        similarity: to the kept picture `of_row`; of a kept one 1, to itself. None where nothing
            says what is kept.
    """

    row: int
    path: str
    label: str | None
    split: str | None
    bytes: int | None
    state: str
    kept: bool
    spare: bool
    of_row: int | None
    similarity: float | None


@dataclass(frozen=True)
class DuplicateGroup(Report):
    """Pictures that are joined by similarities at or above the threshold; kept ones first.

    Attributes:
        smallest, largest: similarity of two of them; a smallest below the threshold says that some
            are joined by others between them alone (`chain`).
        exact: all are one file, byte for byte.
        splits: that its pictures are of; more than one is a leak, but in a chain that is too long.
        too_long: a chain of so many that it says nothing of duplicates; none of it is spare. Files
            in it that are equal byte for byte are in a group of their own, too.
    """

    smallest: float
    largest: float
    exact: bool
    splits: tuple[str, ...]
    chain: bool
    too_long: bool
    images: tuple[DuplicateImage, ...]

    @property
    def leaks(self) -> bool:
        """Whether a picture of one split is a duplicate of another split's."""
        return len(self.splits) > 1 and not self.too_long

    @property
    def spare(self) -> tuple[DuplicateImage, ...]:
        """The pictures that could go."""
        return tuple(image for image in self.images if image.spare)


@dataclass(frozen=True)
class DuplicatesReport(Report):
    """The groups of an index: those across splits first, exact copies before others, the most alike
    first; chains that are too long last.

    Attributes:
        splits: how many rows each split has, where the splits are known.
        split_by: what said so: `folders`, or the data that was named; None where nothing did.
    """

    index: Path
    rows: int
    threshold: float
    groups: tuple[DuplicateGroup, ...]
    splits: dict[str, int]
    split_by: str | None
    seconds: float

    @cached_property
    def leaks(self) -> int:
        """Groups across splits."""
        return sum(group.leaks for group in self.groups)

    @cached_property
    def spare(self) -> int:
        """Pictures that could go."""
        return sum(len(group.spare) for group in self.groups)
