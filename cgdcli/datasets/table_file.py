"""A table of pictures: CSV, JSON lines or Parquet, one row a picture.

Columns: `path` (relative to the table's folder, or absolute) and `label`; if wanted `split`
(train, val or test; without it nothing is divided), `is_query` and `is_gallery` (both; for the
rows of val and test; all false in a split: all against all), and a box in pixels of the upright
picture, x,y,w,h or x1,y1,x2,y2, x2 and y2 the first column and row outside. Others are not read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.splits import SPLITS, Splits
from cgdcli.datasets.table import ImageTable
from cgdcli.datasets.table_rows import Row, bad_row, checked_text, read_rows
from cgdcli.errors import DatasetError
from cgdcli.images.cropping import Box
from cgdcli.images.finding import absolute_path
from cgdcli.words import counted

SPLIT_WORDS = {word: word for word in SPLITS} | {"valid": "val", "validation": "val"}
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0", "")
CORNERS, SIZED = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")
BOX_COLUMNS = (CORNERS, ("x_1", "y_1", "x_2", "y_2"), SIZED)  # the second is OML's spelling


@dataclass(frozen=True)
class _Picture:
    path: Path
    label: str
    split: str
    box: Box | None
    is_query: bool
    is_gallery: bool


def read_table(file: Path) -> Splits:
    """The splits of a table file; boxes that it has are cut out.

    Raises:
        DatasetError: the table cannot be read, lacks columns, or a row breaks a rule; which.
    """
    rows = list(read_rows(file))
    if not rows:
        raise DatasetError(
            f"the table `{file}` has no rows", hint="one row a picture: columns path,label"
        )
    columns = {column for row in rows for column in row.values}
    box_columns = _check_columns(file, columns)
    divided = "split" in columns or "is_query" in columns
    folder = absolute_path(file).parent
    pictures = [_picture(file, row, folder, box_columns, "split" in columns) for row in rows]
    _refuse_repeats(file, rows, pictures)
    train, val, test = (_table([p for p in pictures if p.split == split]) for split in SPLITS)
    notes = []
    cut = sum(picture.box is not None for picture in pictures)
    if cut:
        notes.append(f"{counted(cut, 'picture')} of {len(pictures)}: only the box is used")
    if not divided:
        return Splits(
            Dataset.table, file, train=_table(pictures), undivided=True, notes=tuple(notes)
        )
    return Splits(Dataset.table, file, train, val, test, notes=tuple(notes))


def _check_columns(file: Path, columns: set[str]) -> tuple[str, ...]:
    """The columns of the box, none where there is none."""
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DatasetError(
            f"`{file}` has the columns {', '.join(sorted(columns))}; `path` and `label` are wanted,"
            f" and {' and '.join(f'`{name}`' for name in missing)} is missing",
            hint="name them so in the first line: path,label",
        )
    if ("is_query" in columns) != ("is_gallery" in columns):
        given = "is_query" if "is_query" in columns else "is_gallery"
        raise DatasetError(
            f"`{file}` has `{given}` alone; `is_query` and `is_gallery` go together",
            hint="add the other column: which pictures are asked with, which are searched among",
        )
    for names in BOX_COLUMNS:
        there = [name for name in names if name in columns]
        if len(there) == len(names):
            return names
        if set(there) - {"x", "y"}:  # x and y alone may be anything
            raise DatasetError(
                f"`{file}` has {', '.join(there)} of a box; all of {', '.join(names)} are wanted",
                hint="add the others: x1,y1,x2,y2 or x,y,w,h in pixels",
            )
    return ()


def _picture(
    file: Path, row: Row, folder: Path, box_columns: Sequence[str], has_split: bool
) -> _Picture:
    path, label = (checked_text(file, row, name) for name in ("path", "label"))
    for name, value in (("path", path), ("label", label)):
        if not value:
            raise bad_row(file, row, f"`{name}` is empty", "fill it in, or remove the row")
    split = row.text("split").lower() if has_split else ("test" if _flagged(row) else "train")
    if split not in SPLIT_WORDS:
        raise bad_row(
            file,
            row,
            f"the split `{row.text('split')}` is unknown: train, val or test is wanted",
            "write one of the three words (valid and validation are val)",
        )
    flags = [flag_of(file, row, name) for name in ("is_query", "is_gallery")]
    return _Picture(
        folder / os.path.normpath(path),
        label,
        SPLIT_WORDS[split],
        _box(file, row, box_columns),
        *flags,
    )


def _flagged(row: Row) -> bool:
    """Without `split`, a table of queries and gallery is one to be tested on."""
    return "is_query" in row.values


def flag_of(file: Path, row: Row, column: str) -> bool:
    """Whether a row is what a column asks: true, yes or 1; false, no, 0 or nothing.

    Raises:
        DatasetError: it is another word.
    """
    text = row.text(column).lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise bad_row(
        file, row, f"`{column}` is `{text}`: true or false is wanted", "true, yes or 1; or nothing"
    )


def _box(file: Path, row: Row, columns: Sequence[str]) -> Box | None:
    texts = [row.text(column) for column in columns]
    if not any(texts):
        return None
    try:
        left, top, third, fourth = map(float, texts)
        if tuple(columns) == SIZED:
            third, fourth = left + third, top + fourth
        return Box.around(left, top, third, fourth)
    except ValueError as error:
        what = str(error)
        if not what.startswith("the box"):
            what = f"the box ({', '.join(texts)}) wants four numbers"
        raise bad_row(
            file, row, what, "in pixels: x1,y1,x2,y2 or x,y,w,h; or leave all four empty"
        ) from None


def _refuse_repeats(file: Path, rows: list[Row], pictures: list[_Picture]) -> None:
    """One picture, or box of one, is one row: twice, it would be its own nearest neighbour."""
    seen: dict[tuple[Path, Box | None], int] = {}
    for row, picture in zip(rows, pictures, strict=True):
        first = seen.setdefault((picture.path, picture.box), row.number)
        if first != row.number:
            raise bad_row(
                file,
                row,
                f"`{row.text('path')}` repeats row {first}",
                "keep one of them; two objects in one picture want two boxes",
            )


def _table(pictures: list[_Picture]) -> ImageTable | None:
    if not pictures:
        return None
    roles = pictures[0].split != "train" and any(p.is_query or p.is_gallery for p in pictures)
    return ImageTable(
        tuple(p.path for p in pictures),
        tuple(p.label for p in pictures),
        boxes=tuple(p.box for p in pictures) if any(p.box for p in pictures) else (),
        is_query=tuple(p.is_query for p in pictures) if roles else (),
        is_gallery=tuple(p.is_gallery for p in pictures) if roles else (),
    )
