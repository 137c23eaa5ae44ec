"""Job: is a dataset fit to train and to be judged on? Every picture is opened, none is changed."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgdcli.config import Dataset
from cgdcli.datasets.findings import (
    PICTURES,
    finding,
    held_out_findings,
    quick_findings,
    split_counts,
)
from cgdcli.datasets.reading import read_splits
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cropping import Box
from cgdcli.images.likeness import Glance, glance, near_pairs
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.reports import CheckReport, Finding

OnProgress = Callable[[int, int, int], None]
"""Called with pictures done, pictures in all, and how many of those done are broken."""


@dataclass(frozen=True)
class _Seen:
    """A picture that could be read, where it belongs and what it looks like."""

    path: Path
    box: Box | None
    split: str
    label: str
    look: Glance


def check_data(
    data: Path | str,
    *,
    dataset: Dataset = Dataset.auto,
    crop_box: bool = False,
    quick: bool = False,
    workers: int = 0,
    on_progress: OnProgress | None = None,
) -> CheckReport:
    """Check labelled pictures in any layout; see `datasets.reading.read_splits`.

    Args:
        quick: open no picture: counts, missing and empty files, classes, queries and gallery.
        workers: threads that decode; 0 for as many as there are cores, at most 8.

    Raises:
        DatasetError: the data cannot be read as a whole, so that nothing can be said of it.
    """
    started = time.monotonic()
    splits = read_splits(Path(data), dataset, crop_box)
    findings = quick_findings(splits.tables) + held_out_findings(splits)
    decoded = 0
    if not quick:
        known = {path for f in findings if f.kind in ("missing", "empty") for path in f.examples}
        threads = worker_count(workers)
        looked = _look(splits.tables, threads, on_progress)
        decoded = len(looked)
        findings += _broken(looked, known)
        seen = [one for one in looked if not one.look.reason]
        findings += _identical(seen) + _near(seen, threads)
    findings.sort(key=lambda f: f.severity != "error")
    return CheckReport(
        data=splits.source,
        dataset=splits.kind.value,
        sound=all(f.severity != "error" for f in findings),
        splits=split_counts(splits.tables),
        findings=tuple(findings),
        notes=splits.notes,
        decoded=decoded,
        seconds=time.monotonic() - started,
    )


def _look(
    tables: dict[str, ImageTable], workers: int, on_progress: OnProgress | None
) -> list[_Seen]:
    """Every picture of every split, each in its box."""
    items = [
        (table.paths[i], table.box(i), name, table.labels[i])
        for name, table in tables.items()
        for i in range(len(table))
    ]
    looked, broken = [], 0
    looks = read_ahead(lambda item: glance(item[0], item[1]), items, workers=workers)
    for item, look in zip(items, looks, strict=True):
        looked.append(_Seen(*item, look))
        broken += bool(look.reason)
        if on_progress:
            on_progress(len(looked), len(items), broken)
    return looked


def _broken(looked: list[_Seen], known: set[str]) -> list[Finding]:
    bad = [one for one in looked if one.look.reason and str(one.path) not in known]
    outside = [one for one in bad if "lies outside" in one.look.reason]
    broken = [one for one in bad if "lies outside" not in one.look.reason]
    cut = [one for one in looked if one.look.overhang]
    return [
        *finding(
            "broken",
            "error",
            (f"{one.path}: {one.look.reason}" for one in broken),
            PICTURES,
            "unreadable, and would be skipped",
            "restore or remove them",
        ),
        *finding(
            "box-outside",
            "error",
            (f"{one.path}: {one.look.reason}" for one in outside),
            ("box", "boxes"),
            "outside its picture, which would be skipped",
            "boxes are in pixels of the upright picture, from its upper left corner",
        ),
        *finding(
            "box-overhang",
            "warning",
            (f"{one.path}: {one.box and tuple(one.box)}" for one in cut),
            ("box", "boxes"),
            "over the edge of its picture, and cut off there",
            "nothing need be done if it is a pixel or two",
        ),
    ]


def _identical(seen: list[_Seen]) -> list[Finding]:
    """The same bytes more than once: in two splits any part of them, in one the same box."""
    files: defaultdict[str, list[_Seen]] = defaultdict(list)
    for one in seen:
        files[one.look.sha256].append(one)
    across = [shared for shared in map(_in_two_splits, files.values()) if shared]
    told = {id(one) for group in across for one in group}
    boxes: defaultdict[tuple[str, str, Box | None], list[_Seen]] = defaultdict(list)
    for one in seen:
        if id(one) not in told:
            boxes[one.look.sha256, one.split, one.box].append(one)
    labels, copies = [], []
    for group in boxes.values():
        if len({one.label for one in group}) > 1:
            labels.append(group)
        elif len(group) > 1:
            copies.append(group)
    return [
        *finding(
            "identical-across-splits",
            "error",
            map(_same, across),
            PICTURES,
            "in several splits, byte for byte: what is tested was trained on",
            "keep each in one split",
        ),
        *finding(
            "identical-labels",
            "warning",
            map(_same, labels),
            PICTURES,
            "with several labels, byte for byte: pushed apart and together",
            "decide for one label",
        ),
        *finding(
            "identical",
            "warning",
            map(_same, copies),
            PICTURES,
            "more than once in a class, byte for byte: each finds its copy",
            "keep one of each",
        ),
    ]


def _in_two_splits(same: list[_Seen]) -> list[_Seen]:
    """Of pictures with the same bytes those that share pixels with one of another split."""
    parts = {(one.split, one.box) for one in same}
    shared = {
        part
        for part in parts
        if any(split != part[0] and _overlap(box, part[1]) for split, box in parts)
    }
    return [one for one in same if (one.split, one.box) in shared]


def _overlap(one: Box | None, other: Box | None) -> bool:
    """Whether two parts of a picture share a pixel; None is all of it."""
    if one is None or other is None:
        return True
    wide = min(one.right, other.right) - max(one.left, other.left)
    high = min(one.bottom, other.bottom) - max(one.top, other.top)
    return wide > 0 and high > 0


def _is_told(one: _Seen, other: _Seen) -> bool:
    """Whether `_identical` names them together."""
    if one.look.sha256 != other.look.sha256:
        return False
    return one.box == other.box or (one.split != other.split and _overlap(one.box, other.box))


def _near(seen: list[_Seen], workers: int) -> list[Finding]:
    """Pictures that look the same to a perceptual hash, in two splits or under two labels."""
    if not seen:
        return []
    fields = np.stack([one.look.fields for one in seen])
    names = {key: i for i, key in enumerate(sorted({(one.split, one.label) for one in seen}))}
    groups = np.array([names[one.split, one.label] for one in seen])
    involved: dict[bool, dict[int, int]] = {True: {}, False: {}}
    for first, second in near_pairs(fields, groups, workers=workers):
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            if not _is_told(seen[i], seen[j]):
                involved[seen[i].split != seen[j].split].setdefault(j, i)
    across, labels = (
        [_same([seen[i], seen[j]]) for j, i in sorted(involved[apart].items())]
        for apart in (True, False)
    )
    return [
        *finding(
            "near-across-splits",
            "warning",
            across,
            PICTURES,
            "nearly the same as one of another split (scaled, recompressed, a burst)",
            "look at them; keep such pictures in one split",
        ),
        *finding(
            "near-labels",
            "warning",
            labels,
            PICTURES,
            "nearly the same as one with another label in its split",
            "look at them; one of the labels may be wrong",
        ),
    ]


def _same(group: list[_Seen]) -> str:
    return " = ".join(f"{one.path} ({one.split}, {one.label})" for one in group[:4]) + (
        f" and {len(group) - 4} more" if len(group) > 4 else ""
    )
