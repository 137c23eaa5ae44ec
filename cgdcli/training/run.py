"""The folder of a run: settings, metrics, checkpoints, and the state to go on from."""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cgdcli.config import Precision, TrainConfig
from cgdcli.datasets.reading import TrainingData
from cgdcli.errors import ConfigError, OutputError, TrainingError
from cgdcli.files import atomic_path, write_text
from cgdcli.locks import refuse_if_written, writer_of
from cgdcli.reports import EpochReport, RecallReport, SkippedImage
from cgdcli.training.choices import Choices
from cgdcli.training.toml import read_toml, toml_value
from cgdcli.weights.sources import RESULT_FILE
from cgdcli.words import resume_command

SETTINGS_FILE = "config.toml"
STATE_FILE = "resume.pt"
LOCKED = "run"  # whoever writes a run's folder holds `run.lock` in it


@dataclass(frozen=True)
class Settings:
    """What a run was started with and what it measured, as its `config.toml` keeps them."""

    config: TrainConfig
    data: Path
    choices: Choices


def check_way_of_start(
    config: TrainConfig | None,
    *,
    resume: bool,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """A new run takes a config, a resumed one changes of its own, and `force`.

    Raises:
        ConfigError: what is given would do nothing.
    """
    if resume and config is not None:
        raise ConfigError(
            "config is for a new run; a resumed one has its own settings",
            hint="leave config out, or give what is to be another as changes={'epochs': 50}",
        )
    idle = [name for name, given in (("changes", changes), ("force", force)) if given]
    if idle and not resume:
        raise ConfigError(
            f"{' and '.join(idle)} without resume: a new run has nothing to change or to replace",
            hint="add resume=True, or say all settings by config",
        )


def run_path(runs: Path, name: str | None, config: TrainConfig) -> Path:
    """The folder that a new run will have; it is not made yet.

    Raises:
        ConfigError: the name leads elsewhere. OutputError: something is there, or nothing can be
            made there.
    """
    if name is not None and (Path(name).name != name or name in ("", ".", "..")):
        raise ConfigError(
            f"--name {name} is not the name of a folder in `{runs}`: it leads elsewhere",
            hint="choose a plain name, and the place with --runs DIR",
        )
    _check_place(runs)
    started = time.strftime("%Y%m%d-%H%M%S")
    run = runs / (name or f"{started}-{config.backbone.replace(':', '-')}-{config.descriptors}")
    if os.path.lexists(run):
        raise _exists(run)
    return run


def make_run(run: Path) -> list[Path]:
    """Make the folder of a new run; it and the folders above that had to be made, innermost first.

    Raises:
        OutputError: it exists by now, or cannot be made.
    """
    missing = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        run.mkdir(parents=True)
        return missing
    except FileExistsError:
        raise _exists(run) from None
    except OSError as error:
        raise OutputError(
            f"cannot make the run's folder `{run}`: {error.strerror or error}",
            hint="choose a folder you may write to with --runs DIR",
        ) from error


def remove_run(made: list[Path]) -> None:
    """Take a run away that has nothing to go on from, and what `make_run` made for it."""
    for folder in made[:1]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in made[1:]:
        with contextlib.suppress(OSError):  # not empty: other runs
            folder.rmdir()


def _check_place(runs: Path) -> None:
    """Before any work is done; `make_run` has the last word."""
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "is not writable for you" if place.is_dir() else "is a file, not a folder"
        raise OutputError(
            f"cannot make a run in `{runs}`: `{place}` {what}",
            hint="choose a folder you may write to with --runs DIR",
        )


def _exists(run: Path) -> OutputError:
    if not run.is_dir():
        what, go_on = "is a file", "remove it"
    elif writer_of(run / LOCKED) is not None:
        what = f"is being written by another process ({writer_of(run / LOCKED)})"
        go_on = "wait for it"
    elif (run / RESULT_FILE).is_file():
        what, go_on = "exists and has finished", "remove its folder"
    elif has_state(run):
        what, go_on = "exists", f"go on with it: {resume_command(run)}"
    else:
        what, go_on = "exists", "remove its folder"
    return OutputError(
        f"the run `{run}` {what}; nothing is overwritten unasked",
        hint=f"{go_on}; or choose another --name",
    )


def find_unfinished(runs: Path, name: str | None) -> Path:
    """The run to resume: the one named, else the newest with a state and no result that no other
    process is at.

    Raises:
        TrainingError: there is none, or it has finished. OutputError: another process is at it.
    """
    if name is not None:
        run = runs / name
        if not has_state(run):
            raise TrainingError(
                f"`{run}` holds no run that can be resumed: {STATE_FILE} is not there",
                hint="check --name and --runs, or start it without --resume",
            )
        if (run / RESULT_FILE).is_file():
            raise TrainingError(
                f"the run `{run}` has finished",
                hint="start another without --resume; `--backbone-weights "
                f"'{run / 'last.safetensors'}'` begins with what this one has learned",
            )
        refuse_if_written(run / LOCKED, named(run))
        return run
    states = sorted(runs.glob(f"*/{STATE_FILE}"), key=lambda file: file.stat().st_mtime)
    open_runs = [file.parent for file in states if not (file.parent / RESULT_FILE).is_file()]
    stopped = [run for run in open_runs if writer_of(run / LOCKED) is None]
    if open_runs and not stopped:
        refuse_if_written(open_runs[-1] / LOCKED, named(open_runs[-1]))
    if not stopped:
        raise TrainingError(f"`{runs}` holds no unfinished run", hint="start one: cgd train DATA")
    return stopped[-1]


def has_state(run: Path) -> bool:
    """Whether there is something to go on from."""
    return (run / STATE_FILE).is_file()


def named(run: Path) -> str:
    """A run in an error's words."""
    return f"the run `{run}`"


def write_settings(run: Path, settings: Settings, data: TrainingData) -> None:
    """Write `config.toml`: every setting resolved, what was measured, the data."""
    choices = settings.choices
    lines = [
        settings_text(settings.config),
        "[measured]",
        f"precision = {toml_value(choices.precision)}",
        f"side = {toml_value(choices.side)}",
        f"epochs = {toml_value(choices.epochs)}",
        f"steps = {toml_value(choices.steps)}",
        f"batch_size = {toml_value(choices.batch_size)}",
        "",
        "[data]",
        f"path = {toml_value(str(settings.data.absolute()))}",
        f"judged_on = {toml_value(data.judged_on)}",
        f"held_out = {toml_value(list(data.held_out))}",
    ]
    write_text(run / SETTINGS_FILE, "\n".join(lines) + "\n")


def settings_text(config: TrainConfig) -> str:
    """Settings as TOML, one a line; `read_config_file` reads it back."""
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in config.to_dict().items())


def read_config_file(path: Path) -> dict[str, Any]:
    """What a `--config` file says; of a run's own `config.toml` its settings.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        values = read_toml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read --config `{path}`: {getattr(error, 'strerror', None) or error}",
            hint="a TOML file of settings is wanted; `cgd train --print-config` prints one",
        ) from error
    own = [name for name in ("data", "measured") if isinstance(values.get(name), dict)]
    return {name: value for name, value in values.items() if name not in own}


def read_settings(run: Path) -> Settings:
    """Read `config.toml` back.

    Raises:
        TrainingError: it is missing or cannot be read.
    """
    try:
        values = read_toml(run / SETTINGS_FILE)
        data, measured = Path(values.pop("data")["path"]), values.pop("measured")
        choices = Choices(
            Precision(measured["precision"]),
            measured["side"],
            measured["epochs"],
            measured["steps"],
            measured["batch_size"],
        )
        return Settings(TrainConfig.resolved(values), data, choices)
    except (OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise TrainingError(
            f"the settings of the run `{run}` cannot be read: {error}",
            hint="it cannot be resumed; start another",
        ) from error


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the state to go on from, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(run / STATE_FILE) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(state, stream)
        except RuntimeError as error:
            # torch's own word for a failed write speaks of positions; the stream's is behind it.
            cause = error.__context__
            raise (cause if isinstance(cause, OSError) else error) from None


def remove_state(run: Path) -> None:
    """So that there is nothing to go on from."""
    (run / STATE_FILE).unlink()


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
