"""Job: which pictures of an index are the same, or nearly so, and which of them could go."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cgdcli.auditing.splits import SplitsOfIndex
from cgdcli.config import Dataset, DuplicatesConfig
from cgdcli.index.alike import (
    Components,
    OnProgress,
    Places,
    connect_alike,
    extremes,
    first_of,
    groups_of,
    keepers,
)
from cgdcli.index.exact import TIE_BAND
from cgdcli.index.records import Picture
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.remote import address_of
from cgdcli.reports import DuplicateGroup, DuplicateImage, DuplicatesReport
from cgdcli.retrieval import display_path

# A chain of more pictures says that the threshold is low for them, not what is a copy of what.
LONGEST_CHAIN = 1_000
_BEST_SPLIT = ("test", "val")


@dataclass(frozen=True)
class _Member:
    """A picture of a group as it is now; `file` is the path without links, empty where unknown."""

    row: int
    picture: Picture | None
    path: str
    split: str | None
    state: str = ""
    file: str = ""
    is_link: bool = False

    def rank(self) -> tuple[bool, bool, int, int, int]:
        """Sorts those to be kept first; see `find_duplicates`."""
        split = _BEST_SPLIT.index(self.split) if self.split in _BEST_SPLIT else len(_BEST_SPLIT)
        size = (self.picture.size if self.picture else None) or 0
        return bool(self.state), self.is_link, split, -size, self.row


def find_duplicates(
    index: EmbeddingIndex | Path | str,
    config: DuplicatesConfig | None = None,
    *,
    splits: Path | str | None = None,
    dataset: Dataset = Dataset.auto,
    root: Path | None = None,
    on_progress: OnProgress | None = None,
) -> DuplicatesReport:
    """Group the rows of an index that are alike; files that are equal byte for byte always.

    Groups are connected components: see `index.alike`, also for the memory that it takes. Each pair
    of rows is compared, so that the time grows with the square of them.

    A chain of more than `LONGEST_CHAIN` pictures is no group of duplicates: it is told as one, and
    copies in it that are equal byte for byte are groups of their own beside it.

    Of a group one picture is kept, and others for those that it is not like: every other one is at
    least as similar as the threshold to a kept one. Kept are, in this order, files rather than
    links; of test, then of val, since what is tested on should stay as it is and not be trained on;
    the larger file, which has rather not been scaled or compressed again; the earlier row. A file
    that is gone or has changed since it was embedded is not kept for another.

    Args:
        splits: what says which split a picture is of; None for the folders that it lies in. See
            `auditing.splits`.
        dataset: how `splits` is laid out.
        root: where to look for the index's pictures first.

    Raises:
        DatasetError: `splits` cannot be read or is of other pictures.
    """
    started, config = time.monotonic(), config or DuplicatesConfig()
    stored = open_index(index, root)
    of_index = SplitsOfIndex(stored, None if splits is None else Path(splits), dataset)
    components = Components(len(stored))
    content = _first_of_content(stored)
    components.join(content, np.arange(len(stored)))
    connect_alike(stored.rows, config.threshold, components, on_progress=on_progress)
    groups = []
    for rows in groups_of(components):
        groups.append(_group(stored, rows, config.threshold, of_index))
        if groups[-1].too_long:
            groups += [
                _group(stored, copies, config.threshold, of_index)
                for copies in _copies_in(rows, content)
            ]
    groups.sort(key=lambda g: (g.too_long, not g.leaks, not g.exact, -g.smallest))
    return DuplicatesReport(
        stored.path,
        len(stored),
        config.threshold,
        tuple(groups),
        dict(sorted(of_index.counts.items())),
        of_index.known_by,
        time.monotonic() - started,
    )


def _first_of_content(index: EmbeddingIndex) -> Places:
    """For each row the first whose file has the same SHA-256; its own where none is known.

    By the first 64 bits of it: two of a million files share them by chance once in 4e7 indexes.
    """
    known = np.zeros(len(index), np.uint64)
    for row, picture in index.pictures():
        known[row] = int(picture.sha256[:16], 16) if picture.sha256 else 0
    first = first_of(known)
    return np.where(known == 0, np.arange(len(index)), first)


def _copies_in(rows: Places, content: Places) -> list[Places]:
    """The rows of one file among some, file by file, by the `content` of all rows."""
    order = rows[np.argsort(content[rows], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(content[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _group(
    index: EmbeddingIndex, rows: Places, threshold: float, splits: SplitsOfIndex
) -> DuplicateGroup:
    found = sorted((_member(index, row, splits) for row in rows.tolist()), key=_Member.rank)
    members = _without_same_files(found)
    content = {member.picture.sha256 if member.picture else None for member in members}
    smallest, largest = extremes(index.rows, rows)
    exact = len(content) == 1 and None not in content
    chain = smallest < threshold - TIE_BAND and not exact  # which is of float32 products
    too_long = chain and len(members) > LONGEST_CHAIN
    return DuplicateGroup(
        smallest=smallest,
        largest=largest,
        exact=exact,
        splits=tuple(sorted({member.split for member in members if member.split})),
        chain=chain,
        too_long=too_long,
        images=_images(index, members, threshold, known=not too_long, exact=exact),
    )


def _member(index: EmbeddingIndex, row: int, splits: SplitsOfIndex) -> _Member:
    picture, file = index.picture(row), index.file(row)
    split = splits.of(row, picture)
    if picture is None or file is None:
        return _Member(row, picture, f"row:{row}", split)
    if address_of(file) is not None:
        return _Member(row, picture, display_path(file), split)
    real, is_link = os.path.realpath(file), file.is_symlink()
    return _Member(row, picture, display_path(file), split, _state(file, picture), real, is_link)


def _without_same_files(members: Sequence[_Member]) -> list[_Member]:
    """Two rows of one file, by a folder that is a link: whoever removes one has removed both."""
    seen, found = set[str](), []
    for member in members:
        twice = bool(member.file) and not member.is_link and member.file in seen
        found.append(replace(member, state=member.state or "same file") if twice else member)
        seen.add(member.file)
    return found


def _state(file: Path, picture: Picture) -> str:
    """Whether a file is what was embedded, as far as size and time tell."""
    try:
        now = file.stat()
    except OSError:
        return "gone"
    same = (picture.size in (None, now.st_size)) and picture.mtime_ns in (None, now.st_mtime_ns)
    return "" if same else "changed"


def _images(
    index: EmbeddingIndex,
    members: Sequence[_Member],
    threshold: float,
    *,
    known: bool,
    exact: bool,
) -> tuple[DuplicateImage, ...]:
    """Kept ones first, each followed by those that it is kept for.

    Args:
        known: say which are kept; else, of a chain that is too long, none is.
        exact: all are one file: it is kept once, whatever its rows are.
    """
    there = [member for member in members if not member.state]
    rows = np.array([member.row for member in there], dtype=np.int64)
    kept, similarity = np.full(len(there), -1), np.full(len(there), np.nan)
    if known and there:
        kept, similarity = keepers(index.rows, rows, -1.0 if exact else threshold)
    order = np.lexsort((np.arange(len(there)), kept))
    images = [
        _image(
            there[i],
            kept=known and int(kept[i]) == i,
            spare=known and int(kept[i]) != i,
            of_row=int(rows[kept[i]]) if known else None,
            similarity=float(similarity[i]) if known else None,
        )
        for i in order.tolist()
    ]
    return (*images, *(_image(member) for member in members if member.state))


def _image(
    member: _Member,
    *,
    kept: bool = False,
    spare: bool = False,
    of_row: int | None = None,
    similarity: float | None = None,
) -> DuplicateImage:
    picture = member.picture
    return DuplicateImage(
        member.row,
        member.path,
        None if picture is None else picture.label,
        member.split,
        None if picture is None else picture.size,
        member.state,
        kept,
        spare,
        of_row,
        similarity,
    )
