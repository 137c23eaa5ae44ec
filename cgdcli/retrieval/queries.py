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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Device
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.images.incoming import is_elsewhere, kept, received
from cgdcli.index.store import EmbeddingIndex
from cgdcli.networks import Model
from cgdcli.querying import query_engine
from cgdcli.remote import shown
from cgdcli.reports import SkippedImage
from cgdcli.retrieval.places import display_path
from cgdcli.streaming import embed_files

_ROW = re.compile(r"row:(\d{1,4000})")  # Python reads no longer numbers


@dataclass(frozen=True)
class Query:
    """One question: a row, and the rows of the index that are the query itself."""

    name: str
    row: NDArray[np.float32]
    label: str | None
    path: str | None
    own_rows: frozenset[int]


def read_queries(
    names: list[str], index: EmbeddingIndex, model: Model, device: Device
) -> tuple[dict[str, Query], list[SkippedImage]]:
    """Every query that can be read, by its name; and those that cannot.

    Raises:
        DatasetError: one is missing, a folder, or a row that is not there.
    """
    answers: dict[str, Query] = {}
    files: dict[str, Path] = {}
    for name in dict.fromkeys(names):
        match = _ROW.fullmatch(name)
        if match and not os.path.exists(name):  # noqa: PTH110 - Path's raises if it is too long
            answers[name] = _query_row(index, int(match[1]))
        else:
            files[name] = _file_of(name)
    if not files and model is not None:
        raise ConfigError(
            "a model is named, but every query is a row of the index: nothing would be embedded",
            hint="leave out --model, or ask with a picture",
        )
    if model is None:
        answers |= _known(files, index)
    unknown = {name: path for name, path in files.items() if name not in answers}
    skipped = _embed(unknown, answers, index, model, device) if unknown else []
    return answers, skipped


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
            row = np.asarray(index.rows[same[0]], dtype=np.float32)
            known[name] = _query_file(index, name, path, row, own)
    return known


def _embed(
    files: dict[str, Path],
    answers: dict[str, Query],
    index: EmbeddingIndex,
    model: Model,
    device: Device,
) -> list[SkippedImage]:
    skipped: list[SkippedImage] = []
    names = list(files)
    engine = query_engine(index, model, device)
    exact = index.header is None or index.header.exact_decode
    batches = embed_files(
        engine, list(files.values()), batch_size=32, workers=0, exact_decode=exact
    )
    for batch in batches:
        for row, picture in zip(batch.rows, batch.pictures, strict=True):
            name = names[picture.position]
            own, _ = index.find_rows(files[name], picture.sha256)
            answers[name] = _query_file(index, name, files[name], row, own)
        for unread in batch.skipped:
            name = names[unread.position]
            skipped.append(SkippedImage(name, f"`{name}` {unread.reason}"))
    return skipped


def _file_of(name: str) -> Path:
    if is_elsewhere(name):
        return received(name)
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


def _query_row(index: EmbeddingIndex, number: int) -> Query:
    if number >= len(index):
        rows = f"whose rows are 0 to {len(index) - 1}" if len(index) else "which has no rows"
        raise DatasetError(
            f"query row:{number} is not in `{shown(index.path)}`, {rows}",
            hint="see the rows with `cgd inspect " + shown(index.path) + " --rows`",
        )
    picture, file = index.picture(number), index.file(number)
    row = np.asarray(index.rows[number], dtype=np.float32)
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
