"""Job: how two runs differ on the same pictures, paired, with an interval."""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Dataset, EmbedConfig
from cgdcli.datasets.reading import TrainingData, read_training_data
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.evaluation import JudgedTable, evaluate_table
from cgdcli.judging.differences import differences_of
from cgdcli.judging.judged import JudgedQueries, judged_queries, load_judged
from cgdcli.reports import ComparedRun, PairedDifference, RunComparison
from cgdcli.streaming import OnProgress
from cgdcli.training.listing import examples
from cgdcli.training.run import SETTINGS_FILE
from cgdcli.training.toml import read_toml
from cgdcli.weights.header import read_header
from cgdcli.weights.loading import load_model
from cgdcli.weights.sources import RESULT_FILE, run_checkpoint
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")


@dataclass(frozen=True)
class _Side:
    """One run, read."""

    run: ComparedRun
    settings: dict[str, Any]
    queries: JudgedQueries


def compare_runs(
    first: Path | str,
    second: Path | str,
    config: EmbedConfig | None = None,
    *,
    runs: Path | str = "runs",
    on_progress: OnProgress | None = None,
) -> RunComparison:
    """Measure how much better `second` retrieves than `first`, query by query, and what differs.

    Judged on what both kept of their last judgement: test, else val or held-out classes. A run
    that kept none (`judged.npz`), or another model than it has now, is judged again.

    Args:
        first, second: folders of runs, or their names below `runs`.
        config: how to embed where that is needed.

    Raises:
        CheckpointError: not a run's folder, or its files are damaged.
        DatasetError: its pictures are wanted and gone.
        MismatchError: the two were not judged on the same pictures with the same labels, or what
            one was judged on is no longer in its data.
    """
    config = config or EmbedConfig()
    one, other = (_read(_folder(Path(r), Path(runs)), config, on_progress) for r in (first, second))
    order, order_of_other = _matched(one, other)
    labels = one.queries.labels[order]
    return RunComparison(
        first=one.run,
        second=other.run,
        what=one.queries.what,
        queries=len(labels),
        classes=len(set(labels.tolist())),
        differences=_differences(one.queries, other.queries, order, order_of_other),
        settings=settings_difference(one.settings, other.settings),
    )


def settings_difference(
    first: dict[str, Any], second: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """What differs, by name, tables of tables as `table.name`; None where one has no such."""
    one, other = _flat(first), _flat(second)
    names = [*one, *(name for name in other if name not in one)]
    pairs = {name: (one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _differences(
    one: JudgedQueries,
    other: JudgedQueries,
    order: NDArray[np.int64],
    order_of_other: NDArray[np.int64],
) -> tuple[PairedDifference, ...]:
    first, second = (
        (each.ranks.tolist(), each.hits[rows], each.average_precision[rows])
        for each, rows in ((one, order), (other, order_of_other))
    )
    return differences_of(first, second, one.labels[order])


def _matched(one: _Side, other: _Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both in one order: by content and label; equal pictures of a label by path.

    By content, so that a data set may have moved between two runs.
    """
    sides = (one, other)
    orders = [
        np.lexsort((s.queries.paths, s.queries.labels, s.queries.sha256)).astype(np.int64)
        for s in sides
    ]
    keys = [
        list(zip(s.queries.sha256[o].tolist(), s.queries.labels[o].tolist(), strict=True))
        for s, o in zip(sides, orders, strict=True)
    ]
    if keys[0] != keys[1]:
        raise _not_the_same(one, other, Counter(keys[0]), Counter(keys[1]))
    if one.queries.gallery != other.queries.gallery:
        raise MismatchError(
            f"`{one.run.run}` and `{other.run.run}` were judged by the same queries in galleries "
            "that differ; a paired difference wants the same pictures with the same labels",
            hint="train both on the same data",
        )
    return orders[0], orders[1]


def _not_the_same(
    one: _Side,
    other: _Side,
    keys: Counter[tuple[str, str]],
    keys_of_other: Counter[tuple[str, str]],
) -> MismatchError:
    a, b = one.queries, other.queries
    alone, alone_of_other = (keys - keys_of_other).total(), (keys_of_other - keys).total()
    return MismatchError(
        f"`{one.run.run}` was judged on {a.what}, {counted(len(a.paths), 'picture')}, "
        f"`{other.run.run}` on {b.what}, {counted(len(b.paths), 'picture')}; {alone} only by the "
        f"first, {alone_of_other} only by the second; a paired difference wants the same pictures "
        "and labels",
        hint="train both on the same data with a test or val folder, or with the same --seed "
        "and --val-fraction, which hold out the same classes",
    )


def _folder(run: Path, runs: Path) -> Path:
    """The run's folder, by path or by name."""
    for place in (run, runs / run):
        if run_checkpoint(place).is_file():
            return place
    found = "is not a run's folder" if run.exists() else "does not exist"
    raise CheckpointError(
        f"`{run}` {found}: no best or last checkpoint is there, nor in `{runs / run}`",
        hint="give two folders that `cgd train` made: runs/NAME",
    )


def _read(run: Path, config: EmbedConfig, on_progress: OnProgress | None) -> _Side:
    model = run_checkpoint(run)
    fingerprint = str((read_header(model).metadata or {}).get("fingerprint"))
    settings, result = _settings(run), _result(run)
    queries = load_judged(run)
    if queries is None or queries.fingerprint != fingerprint:
        logger.info("%s has no kept judgement of its model; its pictures are embedded", run)
        queries = _judge(run, model, fingerprint, settings, config, on_progress)
    compared = ComparedRun(
        run, model, fingerprint, *(result.get(n) for n in ("epochs", "best_epoch", "seconds"))
    )
    return _Side(compared, settings, queries)


def _judge(
    run: Path,
    model: Path,
    fingerprint: str,
    settings: dict[str, Any],
    config: EmbedConfig,
    on_progress: OnProgress | None,
) -> JudgedQueries:
    """The run's own pictures, embedded with its model; nothing is written."""
    data = _own_pictures(run, settings)
    kept: list[JudgedTable] = []
    engine = TorchEngine(load_model(model), config.device)
    table = data.test or data.val
    evaluate_table(engine, table, config, on_progress=on_progress, on_judged=kept.append)
    what = "test" if data.test else data.judged_on
    return judged_queries(kept[0], what, fingerprint)


def _own_pictures(run: Path, settings: dict[str, Any]) -> TrainingData:
    """What the run was judged on: the classes that it held out, not those drawn today."""
    try:
        recorded = settings["data"]
        folder = Path(recorded["path"])
        fraction, seed = float(settings["val_fraction"]), int(settings["seed"])
        layout = Dataset(settings.get("dataset", Dataset.auto))
        # A run of before they were recorded drew them so.
        held_out = [str(name) for name in recorded["held_out"]] if "held_out" in recorded else None
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(run / SETTINGS_FILE, error) from error
    data = read_training_data(
        folder,
        val_fraction=fraction,
        seed=seed,
        dataset=layout,
        crop_box=bool(settings.get("crop_box", False)),
        held_out=held_out,
    )
    if data.test is None and held_out is not None:
        _refuse_others(run, folder, data, recorded.get("judged_on", ""), held_out)
    return data


def _refuse_others(
    run: Path, folder: Path, data: TrainingData, judged_on: str, held_out: list[str]
) -> None:
    gone = sorted({*held_out} - {*data.held_out})
    if data.judged_on == judged_on and not gone:
        return
    what = f"is now judged on {data.judged_on}"
    if gone and data.judged_on in ("train", "held-out classes"):
        what = f"lacks {counted(len(gone), 'class', 'classes')} of them ({examples(gone)})"
    raise MismatchError(
        f"`{run}` was judged on {judged_on}, and its data `{folder}` {what}",
        hint="put the pictures back that it was trained and judged on",
    )


def _settings(run: Path) -> dict[str, Any]:
    file = run / SETTINGS_FILE
    try:
        return read_toml(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _result(run: Path) -> dict[str, Any]:
    """How the run ended; empty where it has not."""
    file = run / RESULT_FILE
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return dict(values)
    except (OSError, TypeError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return CheckpointError(
        f"`{file}` cannot be read: {why}", hint="give a run that `cgd train` made"
    )


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
        )
    return flat
