"""A table of labelled pictures."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class ImageTable:
    """Pictures and the name of each one's class, in a fixed order.

    `left_out` counts pictures that lay beside the class folders and so have no label.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    left_out: int = 0

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.labels)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names sorted as text; the position is the class index, as in the reference."""
        return tuple(sorted(set(self.labels)))

    @cached_property
    def class_indices(self) -> tuple[int, ...]:
        """Index into `classes` of every picture."""
        index = {name: i for i, name in enumerate(self.classes)}
        return tuple(index[label] for label in self.labels)

    @cached_property
    def single_classes(self) -> tuple[str, ...]:
        """Classes with one picture: no positive pair, never a hit."""
        counts = Counter(self.labels)
        return tuple(name for name in self.classes if counts[name] == 1)

    def split_off(self, classes: frozenset[str]) -> tuple["ImageTable", "ImageTable"]:
        """The pictures of the other classes, and those of `classes`."""
        inside = [label in classes for label in self.labels]
        return self._where([not i for i in inside]), self._where(inside)

    def _where(self, keep: list[bool]) -> "ImageTable":
        rows = [i for i, wanted in enumerate(keep) if wanted]
        return ImageTable(tuple(self.paths[i] for i in rows), tuple(self.labels[i] for i in rows))
