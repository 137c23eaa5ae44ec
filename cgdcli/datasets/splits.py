"""What every layout is read into: labelled pictures, by split."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cgdcli.config import Dataset
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import DatasetError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """Labelled pictures as a layout divides them.

    Attributes:
        source: the folder or file that was read.
        undivided: nothing said which split a picture is of; all of them are in `train`.
        notes: what a person should know, in words.
    """

    kind: Dataset
    source: Path
    train: ImageTable | None = None
    val: ImageTable | None = None
    test: ImageTable | None = None
    undivided: bool = False
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, ImageTable]:
        """The splits that there are, by name; `all` where nothing divides them."""
        found = {name: getattr(self, name) for name in SPLITS}
        if self.undivided:
            found = {"all": self.train}
        return {name: table for name, table in found.items() if table is not None}

    def with_notes(self, *notes: str) -> "Splits":
        """The same with more to say."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True)
class Layout:
    """A benchmark as it unpacks.

    Attributes:
        folders: names that the folder has when it is unpacked inside the one that was given.
        markers: sets of files below it; the layout is there when each file of one set is.
        read: the splits of a folder that has them; the second argument: cut out the boxes.
    """

    kind: Dataset
    title: str
    folders: tuple[str, ...]
    markers: tuple[tuple[str, ...], ...]
    read: Callable[[Path, bool], Splits]

    def home(self, folder: Path) -> Path | None:
        """`folder`, or the one in it that this benchmark unpacks to; None where it is not there."""
        for place in (folder, *(folder / name for name in self.folders)):
            for files in self.markers:
                if all((place / file).is_file() for file in files):
                    return place
        return None

    def home_or_error(self, folder: Path) -> Path:
        """As `home`.

        Raises:
            DatasetError: it is not there.
        """
        home = self.home(folder)
        if home is None:
            wanted = ", or ".join(" and ".join(files) for files in self.markers)
            inside = " or ".join(f"{name}/" for name in self.folders)
            raise DatasetError(
                f"`{folder}` is not {self.title} as it unpacks: {wanted} is wanted there"
                + (f", or in {inside} below it" if inside else ""),
                hint="give the folder that the archive was unpacked in, or leave out --dataset",
            )
        return home
