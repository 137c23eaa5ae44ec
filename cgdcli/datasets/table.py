"""A table of labelled pictures."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from cgdcli.images.cropping import Box

Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageTable:
    """Pictures and the name of each one's class, in a fixed order.

    Attributes:
        left_out: pictures that lay beside the class folders and so have no label.
        boxes: the part of each picture that counts, None for all of it; empty: whole pictures.
        is_query, is_gallery: whether a picture is asked with, and searched among; it may be both.
            Both empty: every picture is both, all against all.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    left_out: int = 0
    boxes: tuple[Box | None, ...] = ()
    is_query: tuple[bool, ...] = ()
    is_gallery: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.labels)
        assert len(self.boxes) in (0, len(self.paths))
        assert len(self.is_query) == len(self.is_gallery)
        assert len(self.is_query) in (0, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def box(self, picture: int) -> Box | None:
        """The part of a picture that counts; None for all of it."""
        return self.boxes[picture] if self.boxes else None

    @property
    def queries(self) -> tuple[int, ...]:
        """The rows that are asked with."""
        return tuple(i for i in range(len(self)) if not self.is_query or self.is_query[i])

    @property
    def gallery(self) -> tuple[int, ...]:
        """The rows that are searched among."""
        return tuple(i for i in range(len(self)) if not self.is_gallery or self.is_gallery[i])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names sorted as text; the position is the class index, as in the reference."""
        return tuple(sorted(set(self.labels)))

    @cached_property
    def class_indices(self) -> tuple[int, ...]:
        """Index into `classes` of every picture."""
        index = {name: i for i, name in enumerate(self.classes)}
        return tuple(index[label] for label in self.labels)

    @property
    def gallery_counts(self) -> Counter[str]:
        """How many pictures of each class are searched among."""
        return Counter(self.labels[row] for row in self.gallery)

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

        def those(items: tuple[Item, ...]) -> tuple[Item, ...]:
            return tuple(items[i] for i in rows) if items else ()

        return ImageTable(
            those(self.paths),
            those(self.labels),
            boxes=those(self.boxes),
            is_query=those(self.is_query),
            is_gallery=those(self.is_gallery),
        )
