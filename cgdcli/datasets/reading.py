"""Labelled pictures in any layout: recognised or named, and divided to train or to be judged on."""

import logging
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.cars import CARS
from cgdcli.datasets.cub import CUB
from cgdcli.datasets.folders import read_folder_to_judge, read_folders
from cgdcli.datasets.inshop import INSHOP
from cgdcli.datasets.sop import SOP
from cgdcli.datasets.splits import Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.datasets.table_file import read_table
from cgdcli.datasets.table_rows import TABLE_SUFFIXES
from cgdcli.errors import DatasetError
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")

LAYOUTS = {layout.kind: layout for layout in (CUB, CARS, SOP, INSHOP)}
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


def read_splits(data: Path, dataset: Dataset = Dataset.auto, crop_box: bool = False) -> Splits:
    """Read labelled pictures, none of which is opened or looked for.

    Args:
        data: a folder of classes, with or without splits; a table file; a benchmark's folder.
        dataset: the layout; `auto` recognises it.
        crop_box: cut out the boxes that a benchmark comes with; a table's are always cut out.

    Raises:
        DatasetError: it is not so laid out, or a list or table of it is damaged.
    """
    kind, home = recognise(data, dataset)
    if kind in LAYOUTS:
        splits = LAYOUTS[kind].read(home, crop_box)
        if dataset is Dataset.auto:
            title = LAYOUTS[kind].title
            return splits.with_notes(f"`{home}` is {title}; --dataset folders would read classes")
        return splits
    splits = read_table(data) if kind is Dataset.table else read_folders(data)
    if crop_box and not any(table.boxes for table in splits.tables.values()):
        raise DatasetError(
            f"`{data}` has no boxes, so --crop-box has nothing to cut out",
            hint="leave out --crop-box, or give a table with the columns x1,y1,x2,y2",
        )
    return splits


def recognise(data: Path, dataset: Dataset = Dataset.auto) -> tuple[Dataset, Path]:
    """The layout and where it is: `data`, or the folder in it that a benchmark unpacks to.

    Raises:
        DatasetError: the layout that was named is not there, or several benchmarks are.
    """
    if dataset in LAYOUTS:
        return dataset, LAYOUTS[dataset].home_or_error(data)
    if dataset is Dataset.table or (dataset is Dataset.auto and _is_table(data)):
        return Dataset.table, data
    found = {kind: layout.home(data) for kind, layout in LAYOUTS.items()}
    homes = {kind: home for kind, home in found.items() if home is not None}
    if dataset is Dataset.folders or not homes:
        return Dataset.folders, data
    if len(homes) > 1:
        titles = " and ".join(LAYOUTS[kind].title for kind in homes)
        raise DatasetError(
            f"`{data}` holds {titles}; one is wanted",
            hint=f"name it: {' or '.join(f'--dataset {kind}' for kind in homes)}",
        )
    return next(iter(homes.items()))


def read_training_data(
    folder: Path,
    *,
    val_fraction: float,
    seed: int,
    dataset: Dataset = Dataset.auto,
    crop_box: bool = False,
    held_out: Collection[str] | None = None,
) -> TrainingData:
    """Read any layout and decide what `best` is chosen on: never on `test`.

    Args:
        held_out: classes that an earlier reading held out, empty where it held out none; None to
            draw them.

    Raises:
        DatasetError: no pictures, fewer than two classes to train on, or a picture that a table
            or a benchmark's list names is not there.
    """
    splits = read_splits(folder, dataset, crop_box)
    tables = splits.tables
    train, val = splits.train, tables.get("val")
    if train is None or not len(train):
        raise _no_train(splits)
    _refuse_missing(splits)
    notes = list(splits.notes)
    names: tuple[str, ...] = ()
    if val is not None:
        judged_on = "val"
        shared = len(set(val.classes) & set(train.classes))
        if shared:
            notes.append(
                f"{shared} of {len(val.classes)} val classes are also in train: "
                "val is judged on classes that were seen"
            )
    else:
        train, val, names, judged_on, note = hold_out(train, val_fraction, seed, held_out)
        notes += [note]
    _check_trainable(folder, train)
    notes += _notes_on_singles(train)
    return TrainingData(train, val, tables.get("test"), judged_on, names, tuple(notes))


def read_evaluation_data(
    folder: Path, dataset: Dataset = Dataset.auto, crop_box: bool = False
) -> tuple[ImageTable, str]:
    """Pictures to judge a model on, and which: `test`, else `val`, else all there is.

    Raises:
        DatasetError: as `read_training_data`, but for what only training wants.
    """
    if not crop_box and recognise(folder, dataset)[0] is Dataset.folders:
        return read_folder_to_judge(folder)
    splits = read_splits(folder, dataset, crop_box)
    name, table = list(splits.tables.items())[-1]
    _refuse_missing(Splits(splits.kind, splits.source, test=table))
    for note in splits.notes:
        logger.info("%s", note)
    return table, str(splits.source) if splits.undivided else f"{splits.source} ({name})"


def hold_out_classes(classes: tuple[str, ...], fraction: float, seed: int) -> tuple[str, ...]:
    """Draw `fraction` of the classes by `seed`, at least two, and leave at least two; sorted."""
    count = min(max(2, round(fraction * len(classes))), len(classes) - 2)
    return tuple(sorted(random.Random(seed).sample(sorted(classes), count)))


def hold_out(
    table: ImageTable, fraction: float, seed: int, wanted: Collection[str] | None = None
) -> tuple[ImageTable, ImageTable, tuple[str, ...], str, str]:
    """Divide train where there is no val: train, val, the classes of val, what it is, and why.

    Args:
        wanted: the classes to hold out, as `read_training_data` takes them.
    """
    count = len(table.classes)
    if wanted is None and fraction > 0 and count >= FEWEST_CLASSES_TO_HOLD_OUT:
        wanted = hold_out_classes(table.classes, fraction, seed)
    held_out = tuple(name for name in table.classes if name in (wanted or ()))
    if not held_out:
        why = "--val-fraction 0" if fraction == 0 else f"{count} classes are too few"
        why = "none of the classes that were is there" if wanted else why
        note = (
            f"no class is held out ({why}): Recall is measured on the pictures trained on, "
            "which flatters, and no `best` is chosen"
        )
        return table, table, (), "train", note
    train, val = table.split_off(frozenset(held_out))
    note = f"{len(held_out)} of {count} classes ({len(val)} pictures) are held out to choose `best`"
    return train, val, held_out, "held-out classes", note


def _is_table(data: Path) -> bool:
    return not data.is_dir() and data.suffix.lower() in TABLE_SUFFIXES


def _no_train(splits: Splits) -> DatasetError:
    hint = "a table wants rows whose split is train"
    if splits.kind is Dataset.folders:
        hint = f"put the classes to train on into {splits.source / 'train'}"
    elif splits.kind is not Dataset.table:
        hint = "unpack the archive again"
    return DatasetError(
        f"`{splits.source}` has {' and '.join(splits.tables) or 'no picture'} but no train",
        hint=hint,
    )


def _refuse_missing(splits: Splits) -> None:
    """Pictures of a list need not be there; those of class folders were found."""
    if splits.kind is Dataset.folders:
        return
    paths = [path for table in splits.tables.values() for path in table.paths]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        hint = "unpack the pictures beside the lists"
        if splits.kind is Dataset.table:
            hint = "paths are absolute or from the table's folder; correct the rows or remove them"
        raise DatasetError(
            f"`{splits.source}` names `{missing[0]}`, which does not exist; {len(missing)} of "
            f"{counted(len(paths), 'picture')} do not",
            hint=f"{hint}; `cgd check {splits.source}` lists them",
        )


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
