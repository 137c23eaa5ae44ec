"""Which pictures a run trains and is judged on, as a list that a later start is compared with."""

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.words import counted

_EXAMPLES = 3


class Listed(NamedTuple):
    """One picture of one split: its path below the data's folder, box, roles and bytes as text.

    A picture that was replaced has another size, nearly always; its time tells of copies, too.
    """

    split: str
    label: str
    place: str
    box: str = ""
    role: str = ""
    size: str = ""


def list_pictures(data: TrainingData, folder: Path) -> tuple[Listed, ...]:
    """Everything that decides what is shown and judged, in order; first what is judged on."""
    rows = [Listed("", data.judged_on, "")]
    tables = {"train": data.train, "val": data.val, "test": data.test}
    if data.judged_on == "train":  # val is train again
        del tables["val"]
    for split, table in tables.items():
        rows += _rows(split, table, folder) if table is not None else []
    return tuple(rows)


def held_out_classes(pictures: Sequence[Listed]) -> tuple[str, ...]:
    """The classes that were held out of train; none where val was there, or too few classes."""
    if not pictures or pictures[0].label != "held-out classes":
        return ()
    return tuple(sorted({row.label for row in pictures if row.split == "val"}))


def digest(pictures: Sequence[Listed]) -> str:
    """SHA-256 of the list, in hex."""
    return hashlib.sha256(_text(pictures)).hexdigest()


def pack(pictures: Sequence[Listed]) -> Tensor:
    """The list as uint8 (bytes,), compressed: a state file holds tensors."""
    return torch.frombuffer(bytearray(zlib.compress(_text(pictures))), dtype=torch.uint8)


def unpack(packed: Tensor) -> tuple[Listed, ...]:
    """Back from `pack`."""
    text = zlib.decompress(packed.numpy().tobytes()).decode(errors="surrogateescape")
    fields = text.split("\0")[:-1]
    width = len(Listed._fields)
    return tuple(Listed(*fields[i : i + width]) for i in range(0, len(fields), width))


@dataclass(frozen=True)
class PictureChanges:
    """How a later list differs from an earlier one.

    Attributes:
        added, removed: places. relabelled, moved: `place: old -> new`, of labels and splits.
        replaced: places whose file has another size. recut: whose box or role is another.
        new_classes, gone_classes: of train.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    relabelled: tuple[str, ...]
    moved: tuple[str, ...]
    replaced: tuple[str, ...]
    recut: tuple[str, ...]
    new_classes: tuple[str, ...]
    gone_classes: tuple[str, ...]

    def words(self) -> str:
        """`2 pictures added (a/1.jpg, a/2.jpg), 1 removed (b/3.jpg)`."""
        kinds = (
            (self.added, "added"),
            (self.removed, "removed"),
            (self.relabelled, "with another label"),
            (self.moved, "in another split"),
            (self.replaced, "with other contents"),
            (self.recut, "with another box or role"),
        )
        parts = [
            f"{counted(len(found), 'picture')} {what} ({examples(found)})"
            for found, what in kinds
            if found
        ]
        return ", ".join(parts) or "the same pictures, in another order"


def compare(before: Sequence[Listed], now: Sequence[Listed]) -> PictureChanges:
    """What changed from one list to a later one."""
    old, new = _by_place(before), _by_place(now)
    relabelled, moved, replaced, recut = [], [], [], []
    for place in sorted(old.keys() & new.keys()):
        one, other = old[place], new[place]
        labels, splits = (
            tuple(", ".join(sorted({getattr(row, field) for row in rows})) for rows in (one, other))
            for field in ("label", "split")
        )
        if labels[0] != labels[1]:
            relabelled.append(f"{place}: {labels[0]} -> {labels[1]}")
        elif splits[0] != splits[1]:
            moved.append(f"{place}: {splits[0]} -> {splits[1]}")
        elif {row.size for row in one} != {row.size for row in other}:
            replaced.append(place)
        elif sorted(one) != sorted(other):
            recut.append(place)
    classes = [{row.label for row in rows if row.split == "train"} for rows in (before, now)]
    return PictureChanges(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(relabelled),
        tuple(moved),
        tuple(replaced),
        tuple(recut),
        tuple(sorted(classes[1] - classes[0])),
        tuple(sorted(classes[0] - classes[1])),
    )


def examples(names: Sequence[str]) -> str:
    """The first few, and `...` where there are more."""
    return ", ".join(names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")


def _rows(split: str, table: ImageTable, folder: Path) -> list[Listed]:
    rows = []
    for i, (path, label) in enumerate(zip(table.paths, table.labels, strict=True)):
        box = table.box(i)
        role = ""
        if table.is_query:
            role = "query" * table.is_query[i] + "gallery" * table.is_gallery[i]
        place = os.path.relpath(path, folder)
        cut = "" if box is None else str(tuple(box))
        rows.append(Listed(split, label, place, cut, role, _size(path)))
    return rows


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:  # the check of the data says it
        return ""


def _text(pictures: Sequence[Listed]) -> bytes:
    return "".join(f"{field}\0" for row in pictures for field in row).encode(
        errors="surrogateescape"
    )


def _by_place(pictures: Sequence[Listed]) -> dict[str, list[Listed]]:
    found = defaultdict(list)
    for row in pictures:
        if row.split:
            found[row.place].append(row)
    return found
