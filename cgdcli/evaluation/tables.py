"""Tables of pictures that are embedded in memory and judged by their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import RECALL_RANKS, EmbedConfig, RerankConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.engines import Engine, Rows
from cgdcli.errors import DatasetError
from cgdcli.evaluation.scoring import QueryScores, same_groups, score_queries, summary
from cgdcli.index.scanning import PickedRows, picked
from cgdcli.index.scanning import Rows as StoredRows
from cgdcli.reports import RecallReport, SkippedImage
from cgdcli.streaming import OnProgress, embed_files, nothing_readable


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


class Judgement(Protocol):
    """Rows, of which some asked and some were searched, and how each that asked fared.

    Attributes:
        paths, row_labels: of all rows.
        asked: int64 (Q,), the rows that are queries; `labels` are theirs.
        scores: in the order of `asked`; its neighbours are numbers of rows.
    """

    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def row_labels(self) -> Sequence[str]: ...
    @property
    def asked(self) -> NDArray[np.int64]: ...
    @property
    def labels(self) -> NDArray[np.str_]: ...
    @property
    def scores(self) -> QueryScores: ...


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
    def paths(self) -> Sequence[Path]:
        """Of all rows."""
        return self.embedded.paths

    @property
    def row_labels(self) -> Sequence[str]:
        """Of all rows."""
        return self.embedded.labels

    @property
    def labels(self) -> NDArray[np.str_]:
        """Of the queries, (Q,)."""
        return np.array(self.embedded.labels)[self.asked]


@dataclass(frozen=True)
class Roles:
    """What rows are for each other.

    Attributes:
        asks, stored: bool (N,), which are queries and which are searched; both None: all are both.
        groups: of each row, such as its camera; a query's rows of its own label and group are
            ignored. None: nothing is.
    """

    asks: NDArray[np.bool_] | None = None
    stored: NDArray[np.bool_] | None = None
    groups: tuple[str | None, ...] | None = None


def judge_rows(
    rows: StoredRows | PickedRows,
    labels: Sequence[str],
    ranks: Sequence[int] = RECALL_RANKS,
    roles: Roles | None = None,
    rerank: RerankConfig | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], QueryScores]:
    """The rows that asked, those that were searched, and the scores with neighbours as rows of all.

    A row is never searched for itself.

    Raises:
        DatasetError: no row asks, or none is searched.
    """
    roles = roles or Roles()
    every = np.arange(len(labels))
    if roles.asks is None or roles.stored is None:
        ignored = None if roles.groups is None else _ignored(labels, roles.groups, every, every)
        scores = score_queries(rows, labels, ranks, ignored=ignored, rerank=rerank)
        return every, every, scores
    asked = np.flatnonzero(roles.asks).astype(np.int64)
    stored = np.flatnonzero(roles.stored).astype(np.int64)
    if not len(asked) or not len(stored):
        raise DatasetError(
            f"no {'picture of the gallery' if len(asked) else 'query'} could be read, so there is "
            "nothing to measure",
            hint="`cgd check DATA` says which files are broken",
        )
    row_of = {int(i): row for row, i in enumerate(stored)}
    scores = score_queries(
        picked(rows, asked),
        [labels[i] for i in asked.tolist()],
        ranks,
        gallery=picked(rows, stored),
        gallery_labels=[labels[i] for i in stored.tolist()],
        own_rows=[row_of.get(int(i), -1) for i in asked],
        ignored=None if roles.groups is None else _ignored(labels, roles.groups, asked, stored),
        rerank=rerank,
    )
    ids = scores.neighbours
    return asked, stored, replace(scores, neighbours=np.where(ids >= 0, stored[ids], -1))


def evaluate_table(
    engine: Engine,
    table: ImageTable,
    config: EmbedConfig,
    ranks: Sequence[int] = RECALL_RANKS,
    on_progress: OnProgress | None = None,
    *,
    embedded: EmbeddedTable | None = None,
    groups: Sequence[str | None] | None = None,
    on_judged: Callable[[JudgedTable], None] | None = None,
) -> RecallReport:
    """Embed a table in memory and score it: its queries in its gallery, a row never in itself.

    Args:
        embedded: the table's rows, where they have been made already.
        groups: of each picture of the table; see `Roles`.
        on_judged: is handed rows and each query's result, where the summary is not enough.

    Raises:
        DatasetError: no query, or no picture of the gallery, could be read.
    """
    if embedded is None:
        embedded = join_parts([embed_part(engine, table, config, range(len(table)), on_progress)])
    judged = _judged(embedded, table, ranks, groups)
    if on_judged is not None:
        on_judged(judged)
    return judged.report


def _judged(
    embedded: EmbeddedTable,
    table: ImageTable,
    ranks: Sequence[int],
    groups: Sequence[str | None] | None,
) -> JudgedTable:
    places = list(embedded.places)
    roles = Roles(groups=None if groups is None else tuple(groups[i] for i in places))
    if table.is_query:
        asks, stored = (np.array(r, dtype=np.bool_) for r in (table.is_query, table.is_gallery))
        roles = replace(roles, asks=asks[places], stored=stored[places])
    asked, searched, scores = judge_rows(embedded.rows, embedded.labels, ranks, roles)
    report = summary(scores, [embedded.labels[i] for i in asked])
    return JudgedTable(embedded, scores, replace(report, skipped=embedded.skipped), asked, searched)


def _ignored(
    labels: Sequence[str],
    groups: Sequence[str | None],
    asked: NDArray[np.int64],
    stored: NDArray[np.int64],
) -> list[frozenset[int]]:
    return same_groups(
        [labels[i] for i in asked],
        [groups[i] for i in asked],
        [labels[i] for i in stored],
        [groups[i] for i in stored],
    )


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
