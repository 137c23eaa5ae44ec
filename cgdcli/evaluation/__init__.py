"""Job: how good a retrieval is: Recall@K and mAP@R, and how surely that is known."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgdcli.config import RECALL_RANKS, Dataset, EmbedConfig
from cgdcli.datasets.columns import PictureColumns
from cgdcli.datasets.folders import read_class_folders
from cgdcli.datasets.reading import read_evaluation_data, recognise
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import ConfigError
from cgdcli.evaluation.details import Details, detailed
from cgdcli.evaluation.of_index import evaluate_index
from cgdcli.evaluation.scoring import QueryScores, check_ranks, score, score_queries
from cgdcli.evaluation.tables import (
    EmbeddedTable,
    JudgedTable,
    embed_part,
    evaluate_table,
    join_parts,
)
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.networks import Model, as_model
from cgdcli.reports import EvaluationReport
from cgdcli.streaming import OnProgress

__all__ = [
    "Details",
    "EmbeddedTable",
    "JudgedTable",
    "QueryScores",
    "check_one_thing",
    "check_ranks",
    "embed_part",
    "evaluate",
    "evaluate_index",
    "evaluate_table",
    "join_parts",
    "score",
    "score_queries",
]

logger = logging.getLogger("cgdcli")


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
    table: Path | str | None = None,
    ignore_same: str | None = None,
    details: Details | None = None,
    on_progress: OnProgress | None = None,
) -> EvaluationReport:
    """Measure a model on labelled pictures, or an index by the labels of its rows.

    One of: `data`, class folders, a table or a benchmark (where it has splits, its test), all
    against all without self, or its queries against its gallery; `query` and `gallery`, two
    folders of classes, nothing left out; `index`.

    Each figure comes with its 95 % interval, a bootstrap over classes: the pictures of a class are
    not independent of each other, and another data set would be of other classes
    (`judging.intervals`).

    Args:
        dataset: how `data` is laid out; see `datasets.reading`.
        crop_box: cut out the boxes that the benchmark `data` comes with.
        table: of an index, a table file with a column `path` and more about its pictures:
            `is_query` and `is_gallery`, or the column that `ignore_same` names.
        ignore_same: a column of that table, or of `data` if it is one; rows with the query's label
            and its value in this column are ignored (`scoring.same_groups`).
        details: what is told beside the figures.

    Raises:
        ConfigError: not exactly one of the three was given, or what does not go with it.
        DatasetError: no labels, no readable pictures, or a table that does not fit.
    """
    check_ranks(ranks)
    check_one_thing(data, index, query, gallery, model)
    _check_table(data, index, table, ignore_same)
    if data is None and (dataset is not Dataset.auto or crop_box):
        raise ConfigError(
            "--dataset and --crop-box say how DATA is read; there is no DATA",
            hint="leave them out, or give DATA",
        )
    details = details or Details()
    if index is not None:
        columns = None if table is None else PictureColumns.read(Path(table))
        return evaluate_index(
            open_index(index), ranks, columns=columns, ignore_same=ignore_same, details=details
        )
    from cgdcli.engines.torch_engine import TorchEngine  # an index is judged without PyTorch

    config = config or EmbedConfig()
    engine = TorchEngine(as_model(model), config.device)
    groups = None
    if data is not None:
        pictures, what = read_evaluation_data(Path(data), dataset, crop_box)
        groups = (
            None if ignore_same is None else _groups(Path(data), dataset, pictures, ignore_same)
        )
    else:
        assert query is not None and gallery is not None
        pictures, what = _pair(Path(query), Path(gallery)), f"{query} in {gallery}"
    kept: list[JudgedTable] = []
    evaluate_table(
        engine, pictures, config, ranks, on_progress, groups=groups, on_judged=kept.append
    )
    return detailed(kept[0], kept[0].report, details, what=what, ignore_same=ignore_same or "")


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


def _check_table(data: Any, index: Any, table: Any, ignore_same: str | None) -> None:
    """Whether what is said beside the pictures is used."""
    if table is not None and index is None:
        raise ConfigError(
            "--table says more about the pictures of an --index; there is none",
            hint="give the table itself as DATA: cgd evaluate FILE.csv",
        )
    if ignore_same is not None and data is None and table is None:
        raise ConfigError(
            f"--ignore-same {ignore_same} is a column, and there is no table that has it",
            hint="add --table FILE.csv with the columns path and " + ignore_same,
        )
    if ignore_same in ("label", "path"):
        raise ConfigError(
            f"--ignore-same {ignore_same} would ignore every hit, or none",
            hint="name a column of what pictures share by accident, such as a camera or a scene",
        )


def _groups(data: Path, dataset: Dataset, pictures: ImageTable, column: str) -> list[str | None]:
    """What a column of DATA says of each picture."""
    kind, _ = recognise(data, dataset)
    if kind is not Dataset.table:
        raise ConfigError(
            f"--ignore-same {column} is a column, and `{data}` is no table",
            hint="give a table (path,label," + column + "), or an --index with --table",
        )
    return PictureColumns.read(data).text(column, ([str(path)] for path in pictures.paths))


def _pair(query: Path, gallery: Path) -> ImageTable:
    """Queries in another folder's gallery, nothing left out."""
    asked, searched = read_class_folders(query), read_class_folders(gallery)
    found = [{os.path.realpath(path) for path in table.paths} for table in (asked, searched)]
    twice = len(found[0] & found[1])
    if twice:
        logger.warning("%d queries are in the gallery too: each finds itself first", twice)
    is_query = (*[True] * len(asked), *[False] * len(searched))
    return ImageTable(
        asked.paths + searched.paths,
        asked.labels + searched.labels,
        is_query=is_query,
        is_gallery=tuple(not asks for asks in is_query),
    )
