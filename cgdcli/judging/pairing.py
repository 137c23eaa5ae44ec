"""Job: which of two indexes of the same pictures retrieves better, paired, with an interval."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RECALL_RANKS
from cgdcli.datasets.columns import PictureColumns
from cgdcli.errors import MismatchError
from cgdcli.evaluation.of_index import LabelledRows, judge_labelled, labelled_rows
from cgdcli.evaluation.scoring import check_ranks
from cgdcli.evaluation.tables import Roles
from cgdcli.index.records import Picture
from cgdcli.index.scanning import picked
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.judging.differences import paired_differences
from cgdcli.remote import shown
from cgdcli.reports import ComparedIndexes

# A difference on a few pictures that two indexes happen to share is none of the indexes.
LEAST_SHARED = 0.5  # of the smaller index
Places = NDArray[np.int64]


def compare_index_quality(
    first: EmbeddingIndex | Path | str,
    second: EmbeddingIndex | Path | str,
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    table: Path | str | None = None,
    ignore_same: str | None = None,
) -> ComparedIndexes:
    """Measure how much better `second` retrieves than `first` on the pictures that both have.

    Queries and gallery of both are the labelled pictures that both have, so that the two answer the
    same questions. Rows are matched by the paths of their pictures, as recorded or below the folder
    that was embedded, or by content where more agree so. A picture whose label differs is left out.

    Args:
        table, ignore_same: as of `evaluation.evaluate`, for the pictures of `first`.

    Raises:
        MismatchError: less than half of the smaller index's labelled pictures are in both.
        DatasetError: one has no labels, or the table does not fit.
    """
    check_ranks(ranks)
    columns = None if table is None else PictureColumns.read(Path(table))
    one = labelled_rows(open_index(first), columns=columns, ignore_same=ignore_same)
    other = labelled_rows(open_index(second))
    matched_by, of_one, of_other = _matched(one, other)
    same = np.array(
        [one.labels[i] == other.labels[j] for i, j in zip(of_one, of_other, strict=True)],
        dtype=np.bool_,
    )
    _check_enough(one, other, int(same.sum()), int((~same).sum()))
    a, b = _those(one, of_one[same]), _those(other, of_other[same])
    b = replace(b, roles=a.roles)
    judged, judged_b = judge_labelled(a, ranks), judge_labelled(b, ranks)
    labels = judged.labels
    return ComparedIndexes(
        shown(one.index.path),
        shown(other.index.path),
        matched_by,
        queries=len(labels),
        gallery=judged.scores.gallery,
        classes=len(set(labels.tolist())),
        only_first=len(one.labels) - len(of_one),
        only_second=len(other.labels) - len(of_other),
        relabelled=int((~same).sum()),
        differences=paired_differences(judged.scores, judged_b.scores, labels),
        ignore_same=ignore_same or "",
    )


def _matched(one: LabelledRows, other: LabelledRows) -> tuple[str, Places, Places]:
    """By what, and the places of the same pictures in both, in the order of the first."""
    pictures, of_other = _pictures(one), _pictures(other)
    known = all(picture.sha256 for picture in (*pictures, *of_other))
    found: dict[str, tuple[Places, Places]] = {}
    for name, key in (("place", _place), ("path", _path), ("content", _content)):
        keys = [[key(p, known) for p in side] for side in (pictures, of_other)]
        found[name] = _common(*keys)
    best = max(found, key=lambda name: len(found[name][0]))  # of equal ones the first
    return "content" if best == "content" else "path", *found[best]


def _pictures(labelled: LabelledRows) -> list[Picture]:
    wanted = set(labelled.numbers.tolist())
    return [picture for row, picture in labelled.index.pictures() if row in wanted]


def _place(picture: Picture, known: bool) -> str:
    """A file that was changed between the two is another picture."""
    return f"{picture.root / picture.path}\0{picture.sha256 if known else ''}"


def _path(picture: Picture, known: bool) -> str:
    return f"{picture.path}\0{picture.sha256 if known else ''}"


def _content(picture: Picture, known: bool) -> str | None:
    return picture.sha256


def _common(keys: Sequence[str | None], of_other: Sequence[str | None]) -> tuple[Places, Places]:
    """Places of the keys that both have; of a key that stands twice, one after the other."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(of_other):
        if key is not None:
            places.setdefault(key, []).append(place)
    for found in places.values():
        found.reverse()
    pairs = [(i, places[key].pop()) for i, key in enumerate(keys) if key and places.get(key)]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _check_enough(one: LabelledRows, other: LabelledRows, shared: int, relabelled: int) -> None:
    sizes = [len(labelled.labels) for labelled in (one, other)]
    if shared >= max(1, LEAST_SHARED * min(sizes)):
        return
    under = f", and {relabelled} more under different labels" if relabelled else ""
    raise MismatchError(
        f"`{shown(one.index.path)}` has {sizes[0]} labelled pictures, "
        f"`{shown(other.index.path)}` {sizes[1]}; "
        f"{shared} are in both with the same label{under}: a paired difference wants the same "
        "pictures, at least half of the smaller index",
        hint="embed the same folder with both models, then compare the two indexes",
    )


def _those(labelled: LabelledRows, places: Places) -> LabelledRows:
    """Some of the rows, in a given order."""
    roles = labelled.roles
    groups = roles.groups
    return LabelledRows(
        labelled.index,
        labelled.numbers[places],
        picked(labelled.rows, places),
        tuple(labelled.labels[i] for i in places.tolist()),
        Roles(
            None if roles.asks is None else roles.asks[places],
            None if roles.stored is None else roles.stored[places],
            None if groups is None else tuple(groups[i] for i in places.tolist()),
        ),
    )
