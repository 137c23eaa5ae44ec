"""Job: show me the ones like this. Imports no torch: see `querying`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Device
from cgdcli.errors import ConfigError, DatasetError, MismatchError
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.networks import Model
from cgdcli.querying import query_engine
from cgdcli.remote import address_of
from cgdcli.reports import Hit, QueryHits, SearchReport, SkippedImage
from cgdcli.streaming import embed_files

Blocks = list[tuple[str, int, int]]
_ROW = re.compile(r"row:(\d+)")


@dataclass(frozen=True)
class Query:
    """One question: a unit row, and the rows of the index that are the query itself."""

    name: str
    row: NDArray[np.float32]
    label: str | None
    path: str | None
    own_rows: frozenset[int]


def search_images(
    queries: Sequence[Path | str] | Path | str,
    index: EmbeddingIndex | Path | str,
    *,
    k: int,
    model: Model = None,
    exclude_self: bool = False,
    explain: bool = False,
    root: Path | None = None,
    device: Device = Device.auto,
) -> SearchReport:
    """Find the rows of an index that look most like each query, best first.

    Args:
        queries: picture files, or `row:N` for a row of the index.
        k: hits wanted; all rows are returned where there are fewer.
        model: to embed the queries; None for the one that made the index.
        exclude_self: leave out the query's own picture, by its place, else by its content.
        explain: give each hit the cosine of every branch; their mean is the similarity.
        root: where to look for the index's pictures first.

    Raises:
        DatasetError: a query is missing or a folder, or no query can be read.
        MismatchError: the model is not the index's, or branches are wanted of an index whose
            columns have none.
    """
    if k < 1:
        raise ConfigError(f"{k} hits are wanted; at least 1", hint="try k=10")
    if root is not None and not root.is_dir():
        raise DatasetError(
            f"--root `{root}` is not a folder; the folder that holds the pictures is wanted",
            hint="leave it out to look where they were",
        )
    stored = open_index(index, root)
    blocks = _blocks(stored) if explain else None
    names = [str(q) for q in ([queries] if isinstance(queries, (str, Path)) else queries)]
    asked, skipped = _read_queries(names, stored, model, device)
    if not asked:
        raise DatasetError(f"no query can be read: {skipped[0].reason}", hint="give a picture")
    rows = np.stack([query.row for query in asked])
    exclude = [set(query.own_rows) for query in asked] if exclude_self else None
    similarities, ids = stored.search(rows, k, exclude=exclude)
    results = tuple(
        QueryHits(
            query.name,
            _hits(stored, query, similarities[i], ids[i], blocks),
            query.label,
            query.path,
        )
        for i, query in enumerate(asked)
    )
    return SearchReport(results, tuple(skipped))


def display_path(path: Path) -> str:
    """Relative to the current folder where it lies below it, else absolute; or its address."""
    address = address_of(path)
    if address is not None:
        return address
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def branch_similarities(
    query: NDArray[np.float32], row: NDArray[np.float32], blocks: Blocks
) -> dict[str, float]:
    """The cosine of each block of columns; 0 for a block that is all zero."""
    result = {}
    for letter, start, stop in blocks:
        a = query[start:stop].astype(np.float64)
        b = row[start:stop].astype(np.float64)
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        result[letter] = float(a @ b / lengths) if lengths else 0.0
    return result


def _read_queries(
    names: list[str], index: EmbeddingIndex, model: Model, device: Device
) -> tuple[list[Query], list[SkippedImage]]:
    answers: dict[int, Query] = {}
    skipped: list[SkippedImage] = []
    files: list[tuple[int, Path]] = []
    for position, name in enumerate(names):
        match = _ROW.fullmatch(name)
        if match and not Path(name).exists():
            answers[position] = _query_row(index, int(match[1]))
        else:
            files.append((position, _checked_file(name)))
    if not files and model is not None:
        raise ConfigError(
            "a model is named, but every query is a row of the index: nothing would be embedded",
            hint="leave out --model, or ask with a picture",
        )
    if files:
        engine = query_engine(index, model, device)
        paths = [path for _, path in files]
        exact = index.header is None or index.header.exact_decode
        for batch in embed_files(engine, paths, batch_size=32, workers=0, exact_decode=exact):
            for row, picture in zip(batch.rows, batch.pictures, strict=True):
                position, path = files[picture.position]
                answers[position] = _query_file(index, path, row, picture.sha256)
            skipped += [SkippedImage(str(p.file), f"`{p.file}` {p.reason}") for p in batch.skipped]
    return [answers[position] for position in sorted(answers)], skipped


def _checked_file(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise DatasetError(
            f"the query `{name}` is a folder; a picture is wanted",
            hint=f"name pictures in it: cgd search {name}/*.jpg --index ...",
        )
    if not path.exists():
        raise DatasetError(
            f"the query `{name}` does not exist; a picture or row:N is wanted",
            hint="check the spelling, and the folder you are in",
        )
    return path


def _query_row(index: EmbeddingIndex, number: int) -> Query:
    if number >= len(index):
        rows = f"whose rows are 0 to {len(index) - 1}" if len(index) else "which has no rows"
        raise DatasetError(
            f"query row:{number} is not in `{index.path}`, {rows}",
            hint="see the rows with `cgd inspect " + str(index.path) + " --rows`",
        )
    picture, file = index.picture(number), index.file(number)
    row = np.asarray(index.rows[number], dtype=np.float32)
    label = picture.label if picture else None
    path = display_path(file) if file else None
    return Query(f"row:{number}", row, label, path, frozenset({number}))


def _query_file(index: EmbeddingIndex, path: Path, row: NDArray[np.float32], sha256: str) -> Query:
    own, _ = index.find_rows(path, sha256)
    picture = index.picture(own[0]) if own else None
    label = picture.label if picture else None
    if label is None and path.absolute().parent.name in index.known_labels():
        label = path.absolute().parent.name
    return Query(str(path), row, label, str(path), frozenset(own))


def _hits(
    index: EmbeddingIndex,
    query: Query,
    similarities: NDArray[np.float64],
    ids: NDArray[np.int64],
    blocks: Blocks | None,
) -> tuple[Hit, ...]:
    hits = []
    for rank, (similarity, row) in enumerate(zip(similarities, ids, strict=True), start=1):
        if row < 0:
            break
        number = int(row)
        picture, file = index.picture(number), index.file(number)
        branches = None
        if blocks is not None:
            stored = np.asarray(index.rows[number], dtype=np.float32)
            branches = branch_similarities(query.row, stored, blocks)
        hits.append(
            Hit(
                rank=rank,
                similarity=float(np.clip(similarity, -1, 1)),
                path=display_path(file) if file else f"row:{number}",
                label=picture.label if picture else None,
                row=number,
                branches=branches,
            )
        )
    return tuple(hits)


def _blocks(index: EmbeddingIndex) -> Blocks:
    if index.header is not None and index.header.projection is not None:
        raise MismatchError(
            f"the rows of `{index.path}` went through a projection ({index.vectors}): its columns "
            "belong to no descriptor",
            hint="leave out --explain, or embed again without --whiten and --dim",
        )
    if index.header is None or index.header.blocks is None:
        raise MismatchError(
            f"`{index.path}` does not record which columns belong to which descriptor",
            hint="leave out --explain, or embed again with a CGD model",
        )
    return index.header.blocks
