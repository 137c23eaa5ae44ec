"""Which split each picture of an index is of: by the folders it lies in, or as data says."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from cgdcli.config import Dataset
from cgdcli.datasets.reading import read_splits
from cgdcli.datasets.splits import SPLITS
from cgdcli.errors import DatasetError
from cgdcli.index.records import Picture
from cgdcli.index.store import EmbeddingIndex


class SplitsOfIndex:
    """Of an index, the split of each row.

    Without `data` it is the folder train, val or test directly below the one that was embedded, as
    `cgd train` reads it, or the embedded folder itself where it is called so. With `data` it is
    what a table's column `split`, a benchmark's lists or other folders say of the same files.

    Raises:
        DatasetError: the data cannot be read, is not divided, or names no picture of the index.
    """

    def __init__(
        self, index: EmbeddingIndex, data: Path | None = None, dataset: Dataset = Dataset.auto
    ) -> None:
        self.index, self.data = index, data
        self._named = {} if data is None else _splits_by_file(data, dataset)
        self.counts = Counter(split for split in self._every() if split is not None)
        if data is not None and not self.counts:
            raise DatasetError(
                f"`{data}` names {len(self._named)} pictures, and none of them is one of "
                f"`{index.path}`",
                hint="name the data that was embedded, at the place where it is now",
            )

    @property
    def known_by(self) -> str | None:
        """What says the splits; None where nothing does."""
        if self.data is not None:
            return str(self.data)
        return "folders" if self.counts else None

    def of(self, row: int, picture: Picture | None) -> str | None:
        """The split of a row's picture; None where nothing says."""
        if picture is None:
            return None
        if self.data is None:
            return _split_by_folder(picture)
        recorded = self._named.get(_key(picture.root / picture.path))
        if recorded is not None:
            return recorded
        file = self.index.file(row)  # the index may have moved with its pictures
        return None if file is None else self._named.get(_key(file))

    def _every(self) -> Iterator[str | None]:
        for row, picture in self.index.pictures():
            yield self.of(row, picture)


def _split_by_folder(picture: Picture) -> str | None:
    parts = PurePath(picture.path).parts
    if len(parts) > 1 and parts[0] in SPLITS:
        return parts[0]
    return picture.root.name if picture.root.name in SPLITS else None


def _splits_by_file(data: Path, dataset: Dataset) -> dict[str, str]:
    splits = read_splits(data, dataset)
    if splits.undivided or len(splits.tables) < 2:
        raise DatasetError(
            f"`{data}` does not divide its pictures into train, val and test",
            hint="a table wants a column `split`; folders are train/, val/ and test/",
        )
    return {_key(path): name for name, table in splits.tables.items() for path in table.paths}


def _key(path: Path) -> str:
    return os.path.realpath(path)
