"""Job: how good a retrieval is: Recall@K and mAP@R, blocked, self left out by row."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RECALL_RANKS, Dataset, EmbedConfig
from cgdcli.datasets.folders import read_class_folders
from cgdcli.datasets.reading import read_evaluation_data
from cgdcli.datasets.table import ImageTable
from cgdcli.engines import Engine, Rows
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.index.exact import nearest
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.networks import Model, as_model
from cgdcli.reports import RecallReport, SkippedImage
from cgdcli.streaming import OnProgress, embed_files, nothing_readable

logger = logging.getLogger("cgdcli")

QUERIES_AT_ONCE = 1_024
NEIGHBOURS_KEPT = 5


@dataclass(frozen=True)
class EmbeddedTable:
    """The readable pictures of a table: unit rows (N, D), and in the same order what they are and
    their places in the table."""

    rows: Rows
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    sha256: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class QueryScores:
    """Each query's own result; shape letters: Q queries, K ranks, `NEIGHBOURS_KEPT` neighbours.

    Attributes:
        hits: bool (Q, K), one of the query's label among the first so many rows.
        average_precision: float64 (Q,), AP@R; 0 where `relevant` is.
        relevant: int (Q,), R: other rows of the query's label.
        neighbours, similarities: (Q, <= NEIGHBOURS_KEPT), rows best first and their cosines.
        gallery: rows that were searched.
    """

    ranks: tuple[int, ...]
    hits: NDArray[np.bool_]
    average_precision: NDArray[np.float64]
    relevant: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    similarities: NDArray[np.float64]
    gallery: int


@dataclass(frozen=True)
class JudgedTable:
    """A table that was embedded and scored, query by query.

    Attributes:
        scores: in the order of `asked`; its neighbours are rows of `embedded`.
        asked, stored: int64 (Q,) and (N,), the rows that are queries and those that were searched.
    """

    embedded: EmbeddedTable
    scores: QueryScores
    report: RecallReport
    asked: NDArray[np.int64]
    stored: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.str_]:
        """Of the queries, (Q,)."""
        return np.array(self.embedded.labels)[self.asked]


def evaluate(
    data: Path | str | None = None,
    *,
    model: Model = None,
    index: EmbeddingIndex | Path | str | None = None,
    query: Path | str | None = None,
    gallery: Path | str | None = None,
    ranks: Sequence[int] = RECALL_RANKS,
    config: EmbedConfig | None = None,
    dataset: Dataset = Dataset.auto,
    crop_box: bool = False,
    on_progress: OnProgress | None = None,
) -> RecallReport:
    """Measure a model on labelled pictures, or an index by the labels of its rows.

    One of: `data`, class folders, a table or a benchmark (where it has splits, its test), all
    against all without self, or its queries against its gallery; `query` and `gallery`, two
    folders of classes, nothing left out; `index`.

    Args:
        dataset: how `data` is laid out; see `datasets.reading`.
        crop_box: cut out the boxes that the benchmark `data` comes with.

    Raises:
        ConfigError: not exactly one of the three was given, or `dataset` beside another.
        DatasetError: no labels, or no readable pictures.
    """
    check_ranks(ranks)
    check_one_thing(data, index, query, gallery, model)
    if data is None and (dataset is not Dataset.auto or crop_box):
        raise ConfigError(
            "--dataset and --crop-box say how DATA is read; there is no DATA",
            hint="leave them out, or give DATA",
        )
    if index is not None:
        return evaluate_index(open_index(index), ranks)
    config = config or EmbedConfig()
    engine = TorchEngine(as_model(model), config.device)
    if data is not None:
        table, what = read_evaluation_data(Path(data), dataset, crop_box)
        report = evaluate_table(engine, table, config, ranks, on_progress)
        return _renamed(report, what)
    assert query is not None and gallery is not None
    asked, searched = (read_class_folders(Path(str(folder))) for folder in (query, gallery))
    report = _evaluate_pair(engine, asked, searched, config, ranks, on_progress)
    return replace(report, what=f"{query} in {gallery}")


def check_ranks(ranks: Sequence[int]) -> None:
    """Whether these can be the Ks of Recall@K."""
    if not ranks or min(ranks) < 1:
        raise ConfigError(
            f"ranks {list(ranks)}: whole numbers from 1 are wanted", hint="try 1, 2, 4, 8"
        )


def check_one_thing(data: Any, index: Any, query: Any, gallery: Any, model: Any) -> None:
    """Whether exactly one thing is given to be judged."""
    given = [data is not None, index is not None, query is not None or gallery is not None]
    if sum(given) != 1 or (query is None) != (gallery is None):
        raise ConfigError(
            "one thing to evaluate is wanted: DATA, or --index, or --query with --gallery",
            hint="cgd evaluate DATA --model X, or cgd evaluate --index feats.npy",
        )
    if index is not None and model is not None:
        raise ConfigError(
            "an index is evaluated by its own rows; no model is used beside it",
            hint="leave out --model, or give DATA instead of --index",
        )


def _evaluate_pair(
    engine: Engine,
    asked: ImageTable,
    searched: ImageTable,
    config: EmbedConfig,
    ranks: Sequence[int],
    on_progress: OnProgress | None,
) -> RecallReport:
    """Queries in another folder's gallery, nothing left out."""
    twice = len(
        {os.path.realpath(p) for p in asked.paths} & {os.path.realpath(p) for p in searched.paths}
    )
    if twice:
        logger.warning("%d queries are in the gallery too: each finds itself first", twice)
    queries = _embed_table(engine, asked, config, on_progress)
    stored = _embed_table(engine, searched, config, on_progress)
    report = score(
        queries.rows, queries.labels, ranks, gallery=stored.rows, gallery_labels=stored.labels
    )
    return _renamed(report, "", queries.skipped + stored.skipped)


def evaluate_table(
    engine: Engine,
    table: ImageTable,
    config: EmbedConfig,
    ranks: Sequence[int] = RECALL_RANKS,
    on_progress: OnProgress | None = None,
    *,
    embedded: EmbeddedTable | None = None,
    on_judged: Callable[[JudgedTable], None] | None = None,
) -> RecallReport:
    """Embed a table in memory and score it: its queries in its gallery, a row never in itself.

    Args:
        embedded: the table's rows, where they have been made already.
        on_judged: is handed rows and each query's result, where the summary is not enough.

    Raises:
        DatasetError: no query, or no picture of the gallery, could be read.
    """
    embedded = embedded or _embed_table(engine, table, config, on_progress)
    judged = _judged(embedded, table, ranks)
    if on_judged is not None:
        on_judged(judged)
    return judged.report


def _judged(embedded: EmbeddedTable, table: ImageTable, ranks: Sequence[int]) -> JudgedTable:
    if table.is_query:
        asked, stored, scores = _queries_in_gallery(embedded, table, ranks)
    else:
        asked = stored = np.arange(len(embedded.labels))
        scores = score_queries(embedded.rows, embedded.labels, ranks)
    summary = _summary(scores, [embedded.labels[i] for i in asked])
    return JudgedTable(embedded, scores, _renamed(summary, "", embedded.skipped), asked, stored)


def _queries_in_gallery(
    embedded: EmbeddedTable, table: ImageTable, ranks: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], QueryScores]:
    """Rows that ask, rows that are searched, and the scores with neighbours as rows of all."""
    places = np.array(embedded.places, dtype=np.int64)
    asked = np.flatnonzero(np.array(table.is_query, dtype=np.bool_)[places])
    stored = np.flatnonzero(np.array(table.is_gallery, dtype=np.bool_)[places])
    if not len(asked) or not len(stored):
        raise DatasetError(
            f"no {'picture of the gallery' if len(asked) else 'query'} could be read, so there is "
            "nothing to measure",
            hint="`cgd check DATA` says which files are broken",
        )
    row_of = {int(i): row for row, i in enumerate(stored)}
    scores = score_queries(
        embedded.rows[asked],
        [embedded.labels[i] for i in asked],
        ranks,
        gallery=embedded.rows[stored],
        gallery_labels=[embedded.labels[i] for i in stored],
        own_rows=[row_of.get(int(i), -1) for i in asked],
    )
    ids = scores.neighbours
    return asked, stored, replace(scores, neighbours=np.where(ids >= 0, stored[ids], -1))


def evaluate_index(index: EmbeddingIndex, ranks: Sequence[int] = RECALL_RANKS) -> RecallReport:
    """Score the labelled rows of an index, all against all without self.

    Raises:
        DatasetError: no row has a label.
    """
    labels = index.labels()
    rows = [i for i, label in enumerate(labels) if label is not None]
    if not rows:
        raise DatasetError(
            f"no row of `{index.path}` has a label, so nothing says which hits are right",
            hint="embed a folder of class folders, or give --labels FILE.csv when embedding",
        )
    known = [label for label in labels if label is not None]
    picked = index.rows if len(rows) == len(labels) else index.rows[rows]
    left_out = len(labels) - len(rows)
    what = f"{index.path} ({left_out} rows without label left out)" if left_out else str(index.path)
    return _renamed(score(picked, known, ranks), what)


def score(
    rows: NDArray[Any] | PartedRows,
    labels: Sequence[str],
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    gallery: NDArray[Any] | PartedRows | None = None,
    gallery_labels: Sequence[str] | None = None,
    own_rows: Sequence[int] | None = None,
) -> RecallReport:
    """Recall@K and mAP@R of unit rows (Q, D) in themselves, or in a gallery (N, D).

    mAP@R (Musgrave, Belongie & Lim 2020, arXiv 2003.08505): 1/R sum_{i<=R} P(i) rel(i), R the
    number of other rows of the query's label.
    """
    scores = score_queries(
        rows,
        labels,
        ranks,
        gallery=gallery,
        gallery_labels=gallery_labels,
        own_rows=own_rows,
    )
    return _summary(scores, labels)


def score_queries(
    rows: NDArray[Any] | PartedRows,
    labels: Sequence[str],
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    gallery: NDArray[Any] | PartedRows | None = None,
    gallery_labels: Sequence[str] | None = None,
    own_rows: Sequence[int] | None = None,
) -> QueryScores:
    """The same, query by query.

    Never the whole Q x N matrix: blocks of queries against blocks of the gallery. Without a
    gallery a query's own row is left out by its number; with one, the row of it that `own_rows`
    says is the query itself (-1: none). Equal similarities are ranked by row.
    """
    if gallery is None:
        own_rows = range(len(rows))
    own_Q = np.full(len(rows), -1) if own_rows is None else np.asarray(own_rows)
    stored = rows if gallery is None else gallery
    stored_labels = labels if gallery_labels is None else gallery_labels
    number = {label: i for i, label in enumerate(sorted({*labels, *stored_labels}))}
    label_Q = np.array([number[label] for label in labels])
    label_N = np.array([number[label] for label in stored_labels])
    counts = np.bincount(label_N, minlength=len(number))
    relevant_Q = counts[label_Q] - (own_Q >= 0)
    k = max(*ranks, NEIGHBOURS_KEPT, int(relevant_Q.max(initial=1)))
    parts = []
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        part = np.arange(start, min(start + QUERIES_AT_ONCE, len(rows)))
        own = own_Q[part].tolist()
        exclude = None if max(own) < 0 else [{row} if row >= 0 else set() for row in own]
        similarities, ids = nearest(np.asarray(rows[part]), stored, k, exclude=exclude)
        right = (label_N[ids] == label_Q[part, None]) & (ids >= 0)
        hits = np.stack([right[:, :rank].any(axis=1) for rank in ranks], axis=1)
        kept = slice(None, NEIGHBOURS_KEPT)
        average = _average_precision(right, relevant_Q[part])
        parts.append((hits, average, ids[:, kept], similarities[:, kept]))
    if len(number) == 1:
        logger.warning("there is a single label, so that every hit is right")
    hits, average, neighbours, similarities = (np.concatenate(p) for p in zip(*parts, strict=True))
    return QueryScores(
        tuple(ranks), hits, average, relevant_Q, neighbours, similarities, len(stored)
    )


def _summary(scores: QueryScores, labels: Sequence[str]) -> RecallReport:
    queries, relevant = len(labels), scores.relevant
    partnered = int((relevant > 0).sum())
    return RecallReport(
        recall={
            rank: int(scores.hits[:, i].sum()) / queries for i, rank in enumerate(scores.ranks)
        },
        map_at_r=float(scores.average_precision.sum()) / partnered if partnered else None,
        queries=queries,
        gallery=scores.gallery,
        labels=len(set(labels)),
        without_partner=queries - partnered,
        lonely_labels=tuple(sorted({labels[int(i)] for i in np.flatnonzero(relevant == 0)})),
    )


def _average_precision(right: NDArray[np.bool_], relevant: NDArray[Any]) -> NDArray[np.float64]:
    """AP@R of each query, 0 for one without partner."""
    places = np.arange(1, right.shape[1] + 1)
    counted = right & (places <= relevant[:, None])
    precision = np.cumsum(counted, axis=1) / places
    total: NDArray[np.float64] = (precision * counted).sum(axis=1)
    return np.asarray(total / np.maximum(relevant, 1), dtype=np.float64)


def embed_part(
    engine: Engine,
    table: ImageTable,
    config: EmbedConfig,
    places: range,
    on_progress: OnProgress | None = None,
) -> EmbeddedTable:
    """The rows of some neighbouring places of a table, of which none may be readable."""
    start, stop = places.start, places.stop
    rows, found, hashes, skipped = [], [], [], []
    for batch in embed_files(
        engine,
        table.paths[start:stop],
        batch_size=config.pass_size(on_cpu=engine.on_cpu),
        workers=config.workers,
        boxes=table.boxes[start:stop],
        exact_decode=config.exact_decode,
    ):
        if len(batch.rows):
            rows.append(batch.rows)
        found += [start + picture.position for picture in batch.pictures]
        hashes += [picture.sha256 for picture in batch.pictures]
        skipped += [SkippedImage(str(p.file), p.reason) for p in batch.skipped]
        if on_progress:
            on_progress(len(found) + len(skipped), len(places), len(skipped))
    return EmbeddedTable(
        np.concatenate(rows) if rows else np.empty((0, 0), np.float32),
        tuple(table.paths[i] for i in found),
        tuple(table.labels[i] for i in found),
        tuple(hashes),
        tuple(skipped),
        tuple(found),
    )


def join_parts(parts: Sequence[EmbeddedTable]) -> EmbeddedTable:
    """A whole table from its parts, in order.

    Raises:
        DatasetError: not one picture could be read.
    """
    rows = [part.rows for part in parts if len(part.rows)]
    skipped = tuple(image for part in parts for image in part.skipped)
    if not rows:
        raise nothing_readable(len(skipped), skipped)
    return EmbeddedTable(
        np.concatenate(rows),
        tuple(path for part in parts for path in part.paths),
        tuple(label for part in parts for label in part.labels),
        tuple(sha256 for part in parts for sha256 in part.sha256),
        skipped,
        tuple(place for part in parts for place in part.places),
    )


def _embed_table(
    engine: Engine, table: ImageTable, config: EmbedConfig, on_progress: OnProgress | None
) -> EmbeddedTable:
    return join_parts([embed_part(engine, table, config, range(len(table)), on_progress)])


def _renamed(
    report: RecallReport, what: str, skipped: tuple[SkippedImage, ...] = ()
) -> RecallReport:
    return replace(report, what=what, skipped=report.skipped + skipped)
