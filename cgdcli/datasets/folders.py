"""Class folders: the label of a picture is the folder it lies in.

Two layouts: `DATA/train/<class>/*` with `DATA/val/...` and/or `DATA/test/...`, or one folder of
classes, of which some are held out by CLASS, since retrieval is judged on classes never trained on.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.columns import PictureColumns
from cgdcli.datasets.splits import SPLITS, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError
from cgdcli.images.finding import FoundImage, find_images
from cgdcli.words import counted


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


def read_folders(folder: Path) -> Splits:
    """Either layout of class folders.

    Raises:
        DatasetError: no pictures in classes, in a split's folder that is there too.
    """
    if not (folder / "train").is_dir() and not _has_only_splits(folder):
        pool = read_class_folders(folder)
        return Splits(Dataset.folders, folder, train=pool, undivided=True, notes=_loose(pool))
    train, val, test = (_read_split(folder / split) for split in SPLITS)
    ignored = _other_folders(folder)
    notes = []
    if ignored:
        notes.append(f"`{folder}` has a `train`; beside it {', '.join(ignored)} is not read")
    notes += _loose(train)
    return Splits(Dataset.folders, folder, train, val, test, notes=tuple(notes))


def read_folder_to_judge(folder: Path) -> tuple[ImageTable, str]:
    """Class folders to judge a model on, and which: `test` of splits, else `val`, else `train`.

    The other splits are not read: a model is judged where train lies on another machine.

    Raises:
        DatasetError: as `read_class_folders`.
    """
    if (folder / "train").is_dir() or _has_only_splits(folder):
        chosen = next(split for split in reversed(SPLITS) if (folder / split).is_dir())
        return read_class_folders(folder / chosen), str(folder / chosen)
    return read_class_folders(folder), str(folder)


def folder_labels(
    images: Iterable[FoundImage], folders: Mapping[Path, Collection[str]] | None = None
) -> list[str | None]:
    """Labels for pictures to embed: the parent folder, where the folder given holds class folders.

    A folder holds class folders when its pictures lie in at least two folders below it. Pictures
    directly in the folder given, or in a split's (train, val, test), have no label.

    Args:
        folders: those below each root that hold pictures (`Listing.folders`), where `images` are
            some of them only: a picture has the label that it has among all.
    """
    images = list(images)
    if folders is None:
        found: dict[Path, set[str]] = {}
        for image in images:
            found.setdefault(image.root, set()).add(image.folder)
        folders = found
    classes = {root: _class_folders(names) for root, names in folders.items()}
    return [
        Path(image.folder).name if image.folder in classes[image.root] else None for image in images
    ]


def read_label_table(table: Path, images: Iterable[FoundImage]) -> list[str | None]:
    """Labels from a table with the columns `path` and `label`; paths relative to the table, the
    folder that was embedded, or absolute. A picture that is not in the table has no label.

    Args:
        table: as of `table_rows`; by another name it is taken for CSV.

    Raises:
        DatasetError: the file cannot be read, lacks one of the columns, a row names no picture, two
            rows of a picture differ, or not one of the pictures is in the table.
    """
    if not table.exists():
        raise DatasetError(
            f"there is no label table `{table}`",
            hint="--labels takes `folder`, `none` or a table with the columns path,label",
        )
    columns = PictureColumns.read(table, otherwise=".csv")
    return columns.text("label", ((image.path, str(image.file)) for image in images))


def _class_folders(names: Collection[str]) -> set[str]:
    """Of the folders below a root that hold pictures, those that are classes."""
    below = {name for name in names if name}
    only_splits = all(Path(name).parts[0] in SPLITS for name in below)
    classes = {name for name in below if not (only_splits and len(Path(name).parts) == 1)}
    return classes if len(below) > 1 else set()


def _class_of(image: FoundImage) -> str | None:
    parts = Path(image.path).parts
    return parts[0] if len(parts) > 1 else None


def _read_split(folder: Path) -> ImageTable | None:
    return read_class_folders(folder) if folder.is_dir() else None


def _loose(table: ImageTable | None) -> tuple[str, ...]:
    if table is None or not table.left_out:
        return ()
    loose = counted(table.left_out, "picture")
    return (f"left out, as they lie beside the class folders: {loose}",)


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
