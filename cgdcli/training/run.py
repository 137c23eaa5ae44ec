"""The folder of a run: settings, metrics, checkpoints, and the state to go on from."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cgdcli.config import Precision, TrainConfig
from cgdcli.datasets.reading import TrainingData
from cgdcli.errors import ConfigError, OutputError, TrainingError
from cgdcli.files import atomic_path, write_text
from cgdcli.reports import EpochReport, RecallReport, SkippedImage
from cgdcli.training.choices import Choices
from cgdcli.weights.loading import RESULT_FILE

SETTINGS_FILE = "config.toml"
STATE_FILE = "resume.pt"
METRICS_FILE = "metrics.csv"


@dataclass(frozen=True)
class Settings:
    """What a run was started with and what it measured, as its `config.toml` keeps them."""

    config: TrainConfig
    data: Path
    choices: Choices


def new_run(runs: Path, name: str | None, config: TrainConfig) -> Path:
    """Create the folder of a new run.

    Raises:
        OutputError: a run of that name exists, or the folder cannot be made.
    """
    if name is not None and (Path(name).name != name or name in ("", ".", "..")):
        raise ConfigError(
            f"--name {name} is not the name of a folder in `{runs}`: it leads elsewhere",
            hint="choose a plain name, and the place with --runs DIR",
        )
    started = time.strftime("%Y%m%d-%H%M%S")
    run = runs / (name or f"{started}-{config.backbone.replace(':', '-')}-{config.descriptors}")
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        what = "exists" if run.is_dir() else "is a file"
        known = (run / STATE_FILE).is_file()
        go_on = f"continue it with --resume --name {run.name}" if known else "remove it"
        raise OutputError(
            f"the run `{run}` {what}; nothing is overwritten unasked",
            hint=f"{go_on}, or choose another --name",
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot make the run's folder `{run}`: {error.strerror or error}",
            hint="choose a folder you may write to with --runs DIR",
        ) from error
    return run


def find_unfinished(runs: Path, name: str | None) -> Path:
    """The run to resume: the one named, else the newest with a state and no result.

    Raises:
        TrainingError: there is none, or it has finished.
    """
    if name is not None:
        run = runs / name
        if not (run / STATE_FILE).is_file():
            raise TrainingError(
                f"`{run}` holds no run that can be resumed: {STATE_FILE} is not there",
                hint="check --name and --runs, or start it without --resume",
            )
        if (run / RESULT_FILE).is_file():
            raise TrainingError(
                f"the run `{run}` has finished", hint="start another without --resume"
            )
        return run
    states = sorted(runs.glob(f"*/{STATE_FILE}"), key=lambda file: file.stat().st_mtime)
    open_runs = [file.parent for file in states if not (file.parent / RESULT_FILE).is_file()]
    if not open_runs:
        raise TrainingError(f"`{runs}` holds no unfinished run", hint="start one: cgd train DATA")
    return open_runs[-1]


def write_settings(run: Path, settings: Settings, data: TrainingData) -> None:
    """Write `config.toml`: every setting resolved, what was measured, the data."""
    choices = settings.choices
    lines = [
        settings_text(settings.config),
        "[measured]",
        f"precision = {_toml(choices.precision)}",
        f"side = {_toml(choices.side or 0)}",
        f"epochs = {_toml(choices.epochs)}",
        f"steps = {_toml(choices.steps)}",
        "",
        "[data]",
        f"path = {_toml(str(settings.data.absolute()))}",
        f"judged_on = {_toml(data.judged_on)}",
        f"held_out = {_toml(list(data.held_out))}",
    ]
    write_text(run / SETTINGS_FILE, "\n".join(lines) + "\n")


def settings_text(config: TrainConfig) -> str:
    """Settings as TOML, one a line; `read_config_file` reads it back."""
    values = dataclasses.asdict(config)
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings of a `--config` file; of a run's own `config.toml`, too.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"cannot read --config `{path}`: {getattr(error, 'strerror', None) or error}",
            hint="a TOML file of settings is wanted; `cgd train --print-config` prints one",
        ) from error
    return {key: value for key, value in values.items() if key not in ("data", "measured")}


def read_settings(run: Path) -> Settings:
    """Read `config.toml` back.

    Raises:
        TrainingError: it is missing or cannot be read.
    """
    try:
        values = tomllib.loads((run / SETTINGS_FILE).read_text(encoding="utf-8"))
        data, measured = Path(values.pop("data")["path"]), values.pop("measured")
        choices = Choices(
            Precision(measured["precision"]),
            measured["side"] or None,
            measured["epochs"],
            measured["steps"],
        )
        return Settings(TrainConfig.resolved(values), data, choices)
    except (OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise TrainingError(
            f"the settings of the run `{run}` cannot be read: {error}",
            hint="it cannot be resumed; start another",
        ) from error


def write_metrics(run: Path, epochs: list[EpochReport]) -> None:
    """Write `metrics.csv` anew, one row an epoch; recall and mAP@R as fractions."""
    ranks = next((list(e.evaluation.recall) for e in epochs if e.evaluation), [])
    plain = ["epoch", "learning_rate", "loss", "class_loss", "ranking_loss", "proxy_loss"]
    plain += [
        "active_triplets",
        "accuracy",
        "mean_distance",
        "images_per_second",
        "train_seconds",
        "is_best",
    ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*plain, *(f"recall@{rank}" for rank in ranks), "map@r"])
    for epoch in epochs:
        values = [getattr(epoch, key) for key in plain]
        judged = epoch.evaluation
        values += [judged.recall.get(rank) for rank in ranks] if judged else [None] * len(ranks)
        writer.writerow([*values, judged.map_at_r if judged else None])
    write_text(run / METRICS_FILE, table.getvalue())


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the state to go on from, atomically."""
    with atomic_path(run / STATE_FILE) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's word for a failed write
            raise OutputError(
                f"cannot write `{run / STATE_FILE}`: {str(error).splitlines()[0]}",
                hint="check the free space there; nothing was replaced",
            ) from error


def load_state(run: Path) -> dict[str, Any]:
    """Read it back; nothing in it is executed.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = torch.load(run / STATE_FILE, map_location="cpu", weights_only=True)
    except Exception as error:  # see weights.foreign: damaged bytes raise nearly everything
        raise TrainingError(
            f"the state of the run `{run}` cannot be read: {error}",
            hint="its checkpoints may still be used with --model; start another run",
        ) from error
    assert isinstance(state, dict)
    return state


def epoch_from_dict(values: dict[str, object]) -> EpochReport:
    """From `EpochReport.to_dict`, whose rank keys became text."""
    judged = values["evaluation"]
    if isinstance(judged, dict):
        recall = {int(rank): share for rank, share in judged["recall"].items()}
        skipped = tuple(SkippedImage(**entry) for entry in judged["skipped"])
        again = {"recall": recall, "skipped": skipped, "lonely_labels": (*judged["lonely_labels"],)}
        values = values | {"evaluation": RecallReport(**judged | again)}
    return EpochReport(**values)  # type: ignore[arg-type]


def data_digest(data: TrainingData, folder: Path) -> str:
    """SHA-256 of what is trained and judged on: paths below `folder`, labels, boxes and roles, in
    order."""
    digest = hashlib.sha256(f"{data.judged_on}\0{data.held_out}\0".encode())
    for name, table in (("train", data.train), ("val", data.val), ("test", data.test)):
        digest.update(f"\0{name}\0".encode())
        for path, label in zip(table.paths, table.labels, strict=True) if table else ():
            place = os.path.relpath(path, folder)
            digest.update(f"{place}\0{label}\0".encode(errors="surrogateescape"))
        if table and (table.boxes or table.is_query):
            digest.update(repr((table.boxes, table.is_query, table.is_gallery)).encode())
    return digest.hexdigest()


def _toml(value: Any) -> str:
    """A TOML value; JSON's text, number, boolean and list forms are TOML's."""
    return json.dumps(value)
