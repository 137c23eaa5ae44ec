"""What is kept of each epoch: `metrics.csv`, and the same for whoever else shows it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cgdcli.files import write_text
from cgdcli.reports import EpochReport

METRICS_FILE = "metrics.csv"
_PLAIN = (
    "epoch",
    "learning_rate",
    "loss",
    "class_loss",
    "ranking_loss",
    "proxy_loss",
    "active_triplets",
    "accuracy",
    "mean_distance",
    "images_per_second",
    "train_seconds",
    "is_best",
)
_RECALL, _MAP_AT_R = "recall@", "map@r"


def write_metrics(run: Path, epochs: Sequence[EpochReport]) -> None:
    """Write `metrics.csv` anew, one row an epoch; recall and mAP@R as fractions."""
    columns = metrics_columns(epochs)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    for epoch in epochs:
        writer.writerow(metrics_row(epoch, columns))
    write_text(run / METRICS_FILE, table.getvalue())


def metrics_columns(epochs: Sequence[EpochReport]) -> list[str]:
    """Names of the figures, those of Recall by the ranks that were judged."""
    ranks = next((list(e.evaluation.recall) for e in epochs if e.evaluation), [])
    return [*_PLAIN, *(f"{_RECALL}{rank}" for rank in ranks), _MAP_AT_R]


def metrics_row(epoch: EpochReport, columns: Sequence[str]) -> list[float | None]:
    """An epoch's figures in that order; None where one was not measured."""
    return [_figure(epoch, name) for name in columns]


def _figure(epoch: EpochReport, name: str) -> float | None:
    judged = epoch.evaluation
    if name == _MAP_AT_R:
        return judged.map_at_r if judged else None
    if name.startswith(_RECALL):
        return judged.recall.get(int(name.removeprefix(_RECALL))) if judged else None
    value: float | None = getattr(epoch, name)
    return value
