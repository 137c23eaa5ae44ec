"""Class folders: the label of a picture is the folder it lies in.

Two layouts: `DATA/train/<class>/*` with `DATA/val/...` and/or `DATA/test/...`, or one folder of
classes, of which some are held out by CLASS, since retrieval is judged on classes never trained on.
"""

import csv
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError
from cgdcli.images.finding import FoundImage, find_images
from cgdcli.words import counted

SPLITS = ("train", "val", "test")
FEWEST_CLASSES_TO_HOLD_OUT = 10


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on, is judged on after each epoch, and is tested on once.

    Attributes:
        judged_on: `val`, `held-out classes`, or `train` (seen: no `best` is chosen from it).
        held_out: the classes taken out of train, when `judged_on` says so.
        notes: what a person should know, in words.
    """

    train: ImageTable
    val: ImageTable
    test: ImageTable | None
    judged_on: str
    held_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def read_class_folders(folder: Path) -> ImageTable:
    """The pictures of a folder of classes; a class's subfolders belong to it.

    Raises:
        DatasetError: the folder is missing, or holds no class with a picture.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DatasetError(
            f"`{folder}` {what}; a folder of class folders is wanted",
            hint="give the folder whose subfolders are the classes: DATA/<class>/*.jpg",
        )
    listing = find_images([folder])
    rows = [(image.file, _class_of(image)) for image in listing.images]
    labelled = [(path, label) for path, label in rows if label]
    if not labelled:
        if rows:
            found = f"has {counted(len(rows), 'picture')} but no class folders"
        elif listing.passed_over:
            found = f"has no picture in {counted(listing.passed_over, 'file')}"
        else:
            found = "is empty"
        raise DatasetError(
            f"`{folder}` {found}; pictures are wanted in one folder per class",
            hint=f"sort them into {folder}/<class>/, one folder for all that should match",
        )
    paths, labels = zip(*labelled, strict=True)
    return ImageTable(paths, labels, left_out=len(rows) - len(labelled))


def read_training_data(folder: Path, *, val_fraction: float, seed: int) -> TrainingData:
    """Read either layout and decide what `best` is chosen on: never on `test`.

    Raises:
        DatasetError: no pictures, or fewer than two classes to train on.
    """
    notes: list[str] = []
    if (folder / "train").is_dir():
        train = read_class_folders(folder / "train")
        val, test = (_read_split(folder / split) for split in ("val", "test"))
        ignored = _other_folders(folder)
        if ignored:
            notes.append(f"`{folder}` has a `train`; beside it {', '.join(ignored)} is not read")
    elif _has_only_splits(folder):
        raise DatasetError(
            f"`{folder}` has {' and '.join(_split_names(folder))} but no train",
            hint=f"put the classes to train on into {folder / 'train'}",
        )
    else:
        train, val, test = read_class_folders(folder), None, None
    if train.left_out:
        notes.append(
            f"left out, as they lie beside the class folders: {counted(train.left_out, 'picture')}"
        )
    held_out: tuple[str, ...] = ()
    if val is not None:
        judged_on = "val"
        shared = len(set(val.classes) & set(train.classes))
        if shared:
            notes.append(
                f"{shared} of {len(val.classes)} val classes are also in train: "
                "val is judged on classes that were seen"
            )
    else:
        train, val, held_out, judged_on, note = _hold_out(train, val_fraction, seed)
        notes += [note]
    _check_trainable(folder, train)
    notes += _notes_on_singles(train)
    return TrainingData(train, val, test, judged_on, held_out, tuple(notes))


def read_evaluation_data(folder: Path) -> tuple[ImageTable, str]:
    """Class folders to judge a model on; of a train/val/test layout its `test`, else its `val`."""
    if (folder / "train").is_dir() or _has_only_splits(folder):
        for split in ("test", "val"):
            if (folder / split).is_dir():
                return read_class_folders(folder / split), str(folder / split)
    return read_class_folders(folder), str(folder)


def hold_out_classes(classes: tuple[str, ...], fraction: float, seed: int) -> tuple[str, ...]:
    """Draw `fraction` of the classes by `seed`, at least two, and leave at least two; sorted."""
    count = min(max(2, round(fraction * len(classes))), len(classes) - 2)
    return tuple(sorted(random.Random(seed).sample(sorted(classes), count)))


def folder_labels(images: Iterable[FoundImage]) -> list[str | None]:
    """Labels for pictures to embed: the parent folder, where the folder given holds class folders.

    A folder holds class folders when its pictures lie in at least two folders below it. Pictures
    directly in the folder given, or in a split's (train, val, test), have no label.
    """
    images = list(images)
    parents: dict[Path, set[Path]] = {}
    for image in images:
        parents.setdefault(image.root, set()).add(Path(image.path).parent)
    labels: list[str | None] = []
    for image in images:
        below, parent = parents[image.root] - {Path()}, Path(image.path).parent
        only_splits = all(folder.parts[0] in SPLITS for folder in below)
        is_class = (
            len(below) > 1 and parent in below and not (only_splits and len(parent.parts) == 1)
        )
        labels.append(parent.name if is_class else None)
    return labels


def read_label_table(table: Path, images: Iterable[FoundImage]) -> list[str | None]:
    """Labels from a CSV file with a header row `path,label`; paths relative to the CSV, the folder
    that was embedded, or absolute. A picture that is not in the table has no label.

    Raises:
        DatasetError: the file cannot be read or lacks the two columns.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:  # Excel begins with a mark
            reader = csv.DictReader(handle)
            columns = list(reader.fieldnames or ())
            if not {"path", "label"} <= set(columns):
                raise DatasetError(
                    f"`{table}` has the columns {', '.join(columns) or '(none)'}; `path` and "
                    "`label` are wanted",
                    hint="write a first line: path,label",
                )
            by_path = {os.path.normpath(row["path"]): row["label"] or None for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"cannot read the label table `{table}`: {getattr(error, 'strerror', None) or error}",
            hint="--labels takes `folder`, `none` or a CSV file with columns path,label",
        ) from error
    labels, matched = [], 0
    for image in images:
        beside = os.path.relpath(image.file, table.absolute().parent)
        found = [by_path[n] for n in (image.path, beside, str(image.file)) if n in by_path]
        labels.append(found[0] if found else None)
        matched += bool(found)
    if not matched:
        raise DatasetError(
            f"not one of the {len(by_path)} paths in `{table}` is a picture that was found",
            hint="write paths as they stand below the folder to embed, or from the table's folder",
        )
    return labels


def _class_of(image: FoundImage) -> str | None:
    parts = Path(image.path).parts
    return parts[0] if len(parts) > 1 else None


def _read_split(folder: Path) -> ImageTable | None:
    return read_class_folders(folder) if folder.is_dir() else None


def _split_names(folder: Path) -> list[str]:
    return [split for split in SPLITS if (folder / split).is_dir()]


def _has_only_splits(folder: Path) -> bool:
    return folder.is_dir() and bool(_split_names(folder)) and not _other_folders(folder)


def _other_folders(folder: Path) -> list[str]:
    return sorted(
        f"`{entry.name}`"
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name not in SPLITS and not entry.name.startswith(".")
    )


def _hold_out(
    table: ImageTable, fraction: float, seed: int
) -> tuple[ImageTable, ImageTable, tuple[str, ...], str, str]:
    count = len(table.classes)
    if fraction == 0 or count < FEWEST_CLASSES_TO_HOLD_OUT:
        why = "--val-fraction 0" if fraction == 0 else f"{count} classes are too few"
        note = (
            f"no class is held out ({why}): Recall is measured on the pictures trained on, "
            "which flatters, and no `best` is chosen"
        )
        return table, table, (), "train", note
    held_out = hold_out_classes(table.classes, fraction, seed)
    train, val = table.split_off(frozenset(held_out))
    note = f"{len(held_out)} of {count} classes ({len(val)} pictures) are held out to choose `best`"
    return train, val, held_out, "held-out classes", note


def _check_trainable(folder: Path, train: ImageTable) -> None:
    if len(train.classes) < 2:
        raise DatasetError(
            f"`{folder}` has {counted(len(train.classes), 'class', 'classes')} to train on; at "
            "least 2 are wanted, since the network learns from what differs",
            hint="add a second class folder",
        )
    if len(train.single_classes) == len(train.classes):
        raise DatasetError(
            f"each of the {len(train.classes)} classes in `{folder}` has a single picture; "
            "at least one class with two is wanted, since the network learns from pairs that match",
            hint="put the pictures that should match into one folder",
        )


def _notes_on_singles(train: ImageTable) -> list[str]:
    singles = train.single_classes
    if not singles:
        return []
    shown = ", ".join(singles[:3]) + (" ..." if len(singles) > 3 else "")
    return [
        f"{counted(len(singles), 'class has', 'classes have')} one picture ({shown}): used as "
        "negatives and for the classifier, never as a matching pair"
    ]
