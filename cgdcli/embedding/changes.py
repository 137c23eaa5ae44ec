"""What a folder has that its index has not, and the other way round."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from cgdcli.images.finding import FoundImage, Listing
from cgdcli.images.mirror import fetch
from cgdcli.index.records import Picture
from cgdcli.remote import shown

_BYTES_AT_ONCE = 1 << 20


@dataclass
class Changes:
    """From an index to what is found now.

    Attributes:
        todo: places in the listing to embed, in its order: new pictures, and those whose content is
            another.
        gone: rows to leave out: their pictures are not found, or have another content.
        described: rows that stay, with what is to be said of them anew: a picture that was renamed,
            touched, or has another label.
        changed, renamed, relabelled: how many of these have another content, another place, or
            another label at their old place.
    """

    todo: list[int] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    described: dict[int, Picture] = field(default_factory=dict)
    changed: int = 0
    renamed: int = 0
    relabelled: int = 0

    def __bool__(self) -> bool:
        return bool(self.todo or self.gone or self.described)


def find_changes(
    known: Iterable[tuple[int, Picture]],
    listing: Listing,
    labels: Sequence[str | None],
    *,
    done: AbstractSet[str] = frozenset(),
    verify: bool = False,
) -> Changes:
    """Compare rows with pictures: by size and time of change, and by content where these differ.

    A picture that is new but has the content of one that is gone is that one, renamed. Rows of
    pictures in folders that cannot be read stay.

    Args:
        known: row and picture of an index; a root is where it is now.
        labels: of the pictures of `listing`, in its order.
        done: pictures that were found unreadable in what is continued: not tried again.
        verify: compare the content of every picture.
    """
    changes = Changes()
    place_of = {str(image.file): place for place, image in enumerate(listing.images)}
    seen: set[int] = set()
    lost: dict[int, list[tuple[int, Picture]]] = {}
    for row, picture in known:
        path = str(picture.root / picture.path)
        place = place_of.get(path)
        if place is None or place in seen:
            if place is None and _is_below(path, listing.unreadable):
                continue
            changes.gone.add(row)
            lost.setdefault(picture.size or 0, []).append((row, picture))
            continue
        seen.add(place)
        image = listing.images[place]
        here = replace(picture, root=image.root, path=image.path, label=labels[place])
        now = _as_it_is(here, image, verify=verify)
        if now is None:
            changes.gone.add(row)
            changes.todo.append(place)
            changes.changed += 1
        elif now != picture:
            changes.described[row] = now
            changes.relabelled += now.label != picture.label
    new = [p for path, p in place_of.items() if p not in seen and shown(path) not in done]
    changes.todo += _without_renamed(new, listing, labels, lost, changes)
    changes.todo.sort()
    return changes


def _as_it_is(picture: Picture, image: FoundImage, *, verify: bool) -> Picture | None:
    """The picture with the size and time that its file has now; None if its content is another."""
    file = image.file
    if image.facts is not None:
        if not verify:
            return picture if image.facts == (picture.size, picture.mtime_ns) else None
        fetch(file)
    try:
        status = file.stat()
        same = (status.st_size, status.st_mtime_ns) == (picture.size, picture.mtime_ns)
        if same and not verify:
            return picture
        if picture.size is not None and status.st_size != picture.size:
            return None
        if _sha256(file) != picture.sha256:
            return None
    except OSError:
        return None  # reading it will say why
    return replace(picture, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _without_renamed(
    new: Sequence[int],
    listing: Listing,
    labels: Sequence[str | None],
    lost: dict[int, list[tuple[int, Picture]]],
    changes: Changes,
) -> list[int]:
    """New pictures but those that are lost ones under another name, whose rows are kept."""
    left = []
    for place in new:
        image = listing.images[place]
        found = _the_same(image.file, lost)
        if found is None:
            left.append(place)
            continue
        row, picture = found
        status = image.file.stat()
        changes.gone.discard(row)
        changes.renamed += 1
        changes.described[row] = Picture(
            image.root,
            image.path,
            labels[place],
            status.st_size,
            status.st_mtime_ns,
            picture.sha256,
        )
    return left


def _the_same(file: Path, lost: dict[int, list[tuple[int, Picture]]]) -> tuple[int, Picture] | None:
    """A lost row whose content the file has; it is then no longer lost."""
    try:
        candidates = lost.get(file.stat().st_size, [])
        if not candidates:
            return None
        content = _sha256(file)
    except OSError:
        return None
    for i, (_, picture) in enumerate(candidates):
        if picture.sha256 == content:
            return candidates.pop(i)
    return None


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
