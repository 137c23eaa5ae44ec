"""What can be asked with: a picture in a file, in the index, at an address, on stdin.

- `row:12`: a row of the index, as it is.
- a file whose content is a picture of the index: its row; no network is wanted for it.
- any other file: embedded, by the model that made the index.
- `-`: a picture on stdin; `clipboard`: the one that was copied last.
- `https://host/picture.jpg`, `s3://bucket/picture.jpg` (extra `cloud`) and what fsspec has.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Device
from cgdcli.engines import Engine
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.images.incoming import is_elsewhere, kept, received
from cgdcli.index.store import EmbeddingIndex
from cgdcli.networks import Model
from cgdcli.querying import query_engine
from cgdcli.remote import shown
from cgdcli.reports import SkippedImage
from cgdcli.retrieval.places import display_path

_ROW = re.compile(r"row:(\d{1,4000})")  # Python reads no longer numbers


@dataclass(frozen=True)
class Query:
    """One question: a row, and the rows of the index that are the query itself."""

    name: str
    row: NDArray[np.float32]
    label: str | None
    path: str | None
    own_rows: frozenset[int]


class QueryReader:
    """Makes queries of names; the network is loaded once, when one wants it.

    Args:
        names: all that will be read.
        model: to embed pictures; None for the one that made the index.

    Raises:
        DatasetError: one is missing, a folder, or a row that is not there.
        ConfigError: a model is named and nothing would be embedded.
    """

    def __init__(
        self, names: Sequence[str], index: EmbeddingIndex, model: Model, device: Device
    ) -> None:
        self.index, self.model, self.device = index, model, device
        self._engine: Engine | None = None
        self._rows: dict[str, int] = {}
        self._files: dict[str, Path] = {}
        for name in names:
            match = _ROW.fullmatch(name)
            if match and not os.path.exists(name):  # noqa: PTH110 - Path's raises if it is too long
                self._rows[name] = _known_row(index, int(match[1]))
            elif name not in self._files and not is_elsewhere(name):
                self._files[name] = _file_of(name)
        if model is not None and len(self._rows) == len(set(names)):
            raise ConfigError(
                "a model is named, but every query is a row of the index: nothing would be "
                "embedded",
                hint="leave out --model, or ask with a picture",
            )

    def read(self, names: Sequence[str]) -> tuple[dict[str, Query], list[SkippedImage]]:
        """Those that can be read, by name; and those that cannot.

        Raises:
            DatasetError: one from elsewhere cannot be had.
        """
        wanted = dict.fromkeys(names)
        found = {
            name: _query_row(self.index, self._rows[name]) for name in wanted if name in self._rows
        }
        files = {name: self._file(name) for name in wanted if name not in found}
        if self.model is None:
            found |= _known(files, self.index)
        unknown = {name: path for name, path in files.items() if name not in found}
        return found, self._embed(unknown, found) if unknown else []

    def _file(self, name: str) -> Path:
        if name not in self._files:
            self._files[name] = received(name)
        return self._files[name]

    def _embed(self, files: dict[str, Path], found: dict[str, Query]) -> list[SkippedImage]:
        from cgdcli.streaming import embed_files  # Pillow, which no row wants: 16 ms

        index, names, skipped = self.index, list(files), []
        if self._engine is None:
            self._engine = query_engine(index, self.model, self.device)
        exact = index.header is None or index.header.exact_decode
        batches = embed_files(
            self._engine, list(files.values()), batch_size=32, workers=0, exact_decode=exact
        )
        for batch in batches:
            for row, picture in zip(batch.rows, batch.pictures, strict=True):
                name = names[picture.position]
                own, _ = index.find_rows(files[name], picture.sha256)
                found[name] = _query_file(index, name, files[name], row, own)
            for unread in batch.skipped:
                name = names[unread.position]
                skipped.append(SkippedImage(name, f"`{name}` {unread.reason}"))
        return skipped


def _known(files: dict[str, Path], index: EmbeddingIndex) -> dict[str, Query]:
    """Pictures whose content the index has."""
    known = {}
    for name, path in files.items():
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue  # embedding says why
        own, _ = index.find_rows(path, digest)
        pictures = ((row, index.picture(row)) for row in own)
        same = [row for row, picture in pictures if picture and picture.sha256 == digest]
        if same:
            row = np.asarray(index.stored(same[0]), dtype=np.float32)
            known[name] = _query_file(index, name, path, row, own)
    return known


def _file_of(name: str) -> Path:
    path = Path(name)
    # Unlike Path's these raise nothing for a name that is longer than a file's can be.
    if os.path.isdir(path):  # noqa: PTH112
        raise DatasetError(
            f"the query `{name}` is a folder; a picture is wanted",
            hint=f"name pictures in it: cgd search {name}/*.jpg --index ...",
        )
    if not os.path.exists(path):  # noqa: PTH110
        raise DatasetError(
            f"the query `{name}` does not exist; a picture or row:N is wanted",
            hint="check the spelling, and the folder you are in",
        )
    return path if path.is_file() else kept(name, path)


def _known_row(index: EmbeddingIndex, number: int) -> int:
    if number >= len(index):
        rows = f"whose rows are 0 to {len(index) - 1}" if len(index) else "which has no rows"
        raise DatasetError(
            f"query row:{number} is not in `{shown(index.path)}`, {rows}",
            hint="see the rows with `cgd inspect " + shown(index.path) + " --rows`",
        )
    return number


def _query_row(index: EmbeddingIndex, number: int) -> Query:
    picture, file = index.picture(number), index.file(number)
    row = np.asarray(index.stored(number), dtype=np.float32)
    label = picture.label if picture else None
    path = display_path(file) if file else None
    return Query(f"row:{number}", row, label, path, frozenset({number}))


def _query_file(
    index: EmbeddingIndex, name: str, path: Path, row: NDArray[np.float32], own: list[int]
) -> Query:
    picture = index.picture(own[0]) if own else None
    label = picture.label if picture else None
    if label is None and index.has_label(path.absolute().parent.name):
        label = path.absolute().parent.name
    return Query(name, row, label, str(path), frozenset(own))
