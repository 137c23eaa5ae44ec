"""What can be said of labelled pictures without opening one: quick enough for every training."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from cgdcli.config import TrainConfig
from cgdcli.datasets.reading import TrainingData, hold_out
from cgdcli.datasets.splits import Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError
from cgdcli.reports import Finding, SplitCount
from cgdcli.words import counted

EXAMPLES_KEPT = 1_000
FILES, PICTURES = ("file", "files"), ("picture", "pictures")
HELD_OUT = "the held-out classes"  # of train, where there is no val
_REFUSED = ("no-roles", "no-partner")  # by training: a figure would be without meaning
_HOLD_OUT_OTHERS = "hold out others by another --seed or --val-fraction, or add pictures of them"
Tables = Mapping[str, ImageTable]


def finding(
    kind: str,
    severity: str,
    found: Iterable[object],
    nouns: tuple[str, str],
    what: str,
    hint: str,
) -> list[Finding]:
    """One finding, `3 pictures: what`, or none where nothing was found."""
    listed = list(found)
    if not listed:
        return []
    examples = tuple(map(str, listed[:EXAMPLES_KEPT]))
    text = f"{counted(len(listed), *nouns)}: {what}"
    return [Finding(kind, severity, len(listed), text, hint, examples)]


def split_counts(tables: Tables) -> tuple[SplitCount, ...]:
    """How large each split is."""
    return tuple(
        SplitCount(
            name,
            len(table),
            len(table.classes),
            len(table.queries),
            len(table.gallery),
            sum(box is not None for box in table.boxes),
        )
        for name, table in tables.items()
    )


def quick_findings(tables: Tables) -> list[Finding]:
    """Everything that asks for no decoding: files that are not there or empty, classes, roles."""
    found = file_findings(tables)
    for one, other in combinations(tables, 2):
        found += _overlap(one, tables[one], other, tables[other])
    for name, table in tables.items():
        found += _of_split(name, table)
    return found


def held_out_findings(splits: Splits) -> list[Finding]:
    """What `cgd train` would refuse of the classes that it holds out by default, without a val."""
    if splits.train is None or splits.val is not None:
        return []
    fraction, seed = TrainConfig.val_fraction, TrainConfig.seed
    train, val, held_out, *_ = hold_out(splits.train, fraction, seed)
    if not held_out:
        return []
    found = [one for one in _of_split(HELD_OUT, val) if one.kind in _REFUSED]
    if len(train.single_classes) == len(train.classes):
        what = f"with one picture, out of {len(train.classes)}: no two match to learn from"
        others = ("class beside the held-out", "classes beside the held-out")
        found += finding("no-pair", "error", train.single_classes, others, what, _HOLD_OUT_OTHERS)
    drawn = f"holds out by default (--val-fraction {fraction:g} --seed {seed}), it refuses to begin"
    return [replace(one, what=f"{one.what}; with what `cgd train` {drawn}") for one in found]


def file_findings(tables: Tables) -> list[Finding]:
    """Files that are missing, and those of 0 bytes."""
    paths = {path for table in tables.values() for path in table.paths}
    sizes = {path: _size(path) for path in paths}
    missing = sorted(path for path, size in sizes.items() if size is None)
    empty = sorted(path for path, size in sizes.items() if size == 0)
    return [
        *finding(
            "missing",
            "error",
            missing,
            FILES,
            "named by the data, but not there",
            "restore them, or correct the table or list",
        ),
        *finding(
            "empty",
            "error",
            empty,
            FILES,
            "empty (0 bytes), and would be skipped",
            "restore or remove them",
        ),
    ]


def ready_to_train(data: TrainingData) -> TrainingData:
    """The quick check before the first step: what it finds is added to the notes.

    Raises:
        DatasetError: what training is judged by would be without meaning.
    """
    tables = {"train": data.train}
    if data.judged_on != "train":  # else it is train again
        tables["val" if data.judged_on == "val" else HELD_OUT] = data.val
    if data.test is not None:
        tables["test"] = data.test
    found = quick_findings(tables)
    for one in found:
        if one.kind in _REFUSED:
            raise DatasetError(one.what, hint=one.hint)
    # What reading the data has said is not said again.
    said = _singles("train", data.train) + _overlap("train", data.train, "val", data.val)
    told = [one for one in found if one not in said]
    return replace(data, notes=(*data.notes, *(f"{f.what}: {f.hint}" for f in told)))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # the second: no file can have that name
        return None


def _of_split(name: str, table: ImageTable) -> list[Finding]:
    return _roles(name, table) if table.is_query else _singles(name, table)


def _overlap(one: str, first: ImageTable, other: str, second: ImageTable) -> list[Finding]:
    shared = sorted(set(first.classes) & set(second.classes))
    every = len(shared) == len(second.classes)
    if one == "train" and not every:
        severity, why = "error", f"figures on {other} mix classes seen in training with new ones"
    elif one == "train":
        severity, why = "warning", f"figures on {other} are of classes seen in training"
    else:
        severity, why = "warning", f"a model chosen on {one} is chosen for them"
    return finding(
        "class-overlap",
        severity,
        shared,
        (f"class of {other}", f"classes of {other}"),
        f"also in {one}, out of {len(second.classes)}: {why}",
        "for retrieval of new things, give each class to one split",
    )


def _singles(name: str, table: ImageTable) -> list[Finding]:
    singles, nouns = table.single_classes, (f"class of {name}", f"classes of {name}")
    hint = "add pictures of them, or leave them out"
    kind, severity = "single", "warning"
    effect = "a query of theirs has nothing to find, and is a miss"
    if name == "train":
        effect = "they are never a matching pair"
    elif name != "all" and len(singles) == len(table.classes):  # `all`: not divided yet
        kind, severity = "no-partner", "error"
        effect = "no query has anything to find, so Recall is 0 whatever the model"
        if name == HELD_OUT:
            hint = _HOLD_OUT_OTHERS
    what = f"with one picture, out of {len(table.classes)}: {effect}"
    return finding(kind, severity, singles, nouns, what, hint)


def _roles(name: str, table: ImageTable) -> list[Finding]:
    """Of a split with queries and a gallery: whether each query has something to find."""
    if not table.queries or not table.gallery:
        lacking = "query" if not table.queries else "picture of the gallery"
        return finding(
            "no-roles",
            "error",
            [name],
            ("split", "splits"),
            f"{name} has no {lacking}, so there is nothing to measure",
            "mark some with is_query and some with is_gallery, or none at all: all against all",
        )
    stored = table.gallery_counts
    asked = {row: table.labels[row] for row in table.queries}
    lonely = [row for row, label in asked.items() if stored[label] <= table.is_gallery[row]]
    labels = sorted({table.labels[row] for row in lonely})
    none = len(lonely) == len(asked)
    idle = [table.paths[row] for row in sorted({*range(len(table))} - {*asked, *table.gallery})]
    return finding(
        "no-role",
        "warning",
        idle,
        PICTURES,
        f"of {name} neither query nor gallery, and so without use",
        "set is_query or is_gallery, or take them out",
    ) + finding(
        "no-roles" if none else "query-without-gallery",
        "error",
        labels,
        (f"label of {name} queries", f"labels of {name} queries"),
        f"missing from the gallery; {len(lonely)} of {len(asked)} queries have it, each a miss",
        "add gallery pictures of them, or take the queries out",
    )
