"""A run that is taken up again: what it goes on with, and what has changed since it stopped."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cgdcli.config import CANNOT_CHANGE, MAY_CHANGE, TrainConfig
from cgdcli.config.training import option_name
from cgdcli.errors import ConfigError, MismatchError, TrainingError
from cgdcli.training.listing import Listed, PictureChanges, compare, digest, examples, unpack
from cgdcli.training.run import SETTINGS_FILE, Settings, load_state, read_settings
from cgdcli.words import counted


@dataclass(frozen=True)
class Stopped:
    """Where a run stopped.

    Attributes:
        settings: of its `config.toml`, which people edit.
        before: what its saved weights were trained with.
        done: epochs that are finished.
        digest: of `pictures`, what it was trained and judged on.
    """

    run: Path
    settings: Settings
    before: TrainConfig
    done: int
    digest: str
    pictures: tuple[Listed, ...]


def read_stopped(run: Path) -> Stopped:
    """Settings and state of a run, its weights not yet in memory.

    Raises:
        TrainingError: one of the two is damaged, or of another version.
    """
    settings, state = read_settings(run), load_state(run)
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    try:
        said = {name: value for name, value in state["settings"].items() if name in known}
        return Stopped(
            run,
            settings,
            TrainConfig.resolved(said),
            state["epoch"],
            state["digest"],
            unpack(state["listed"]),
        )
    except (KeyError, ConfigError) as error:
        raise TrainingError(
            f"the state of the run `{run}` was saved by another version of cgd: {error} is not "
            "as this one knows it",
            hint="go on with that version, or start another run",
        ) from error


def config_to_go_on_with(stopped: Stopped, changes: Mapping[str, Any]) -> TrainConfig:
    """The run's own settings with those that are given anew; with other epochs it goes by them.

    Raises:
        ConfigError: one of them cannot be changed, whatever is forced.
    """
    config = TrainConfig.resolved(dict(changes), stopped.settings.config.to_dict())
    by_epochs = _goes_by_epochs(stopped, config, changes)
    if by_epochs:  # a file with both would be refused by --config
        config = replace(config, minutes=0.0)
    different = stopped.before.differences(config)
    for name, (old, new) in different.items():
        if name in CANNOT_CHANGE and not (name == "minutes" and by_epochs):
            raise ConfigError(
                f"{option_name(name)} cannot be changed on --resume ({old} -> {new}): "
                f"{CANNOT_CHANGE[name]}",
                hint=f"leave it out (`{stopped.run / SETTINGS_FILE}` is read, too), or start "
                "another run",
            )
    if config.epochs < stopped.done and different.keys() & {"epochs", "minutes"}:
        raise ConfigError(
            f"--epochs {config.epochs} is fewer than the {stopped.done} that the run has finished",
            hint=f"--epochs {stopped.done} ends it where it stands",
        )
    return config


def _goes_by_epochs(stopped: Stopped, config: TrainConfig, changes: Mapping[str, Any]) -> bool:
    """Whether epochs are given in place of minutes. A run's own `config.toml` as --config says
    both, and none of them anew."""
    if config.epochs != stopped.before.epochs:
        return config.minutes in (0, stopped.before.minutes)
    return "epochs" in changes and not changes.get("minutes")


def changes_to_say(
    stopped: Stopped, config: TrainConfig, pictures: tuple[Listed, ...], *, force: bool
) -> str:
    """What the run goes on with that it did not begin with, in words; nothing: an empty text.

    Args:
        pictures: as they are now.
        force: go on where that can work.

    Raises:
        MismatchError: something changed, and `force` is not set or cannot help.
    """
    parts = []
    if digest(pictures) != stopped.digest:
        changes = compare(stopped.pictures, pictures)
        _refuse_other_classes(stopped, changes)
        parts.append(changes.words())
    changed = changed_settings(stopped, config)
    if changed:
        pairs = (f"{option_name(name)} {old} -> {new}" for name, (old, new) in changed.items())
        parts.append(", ".join(pairs))
    what = "; ".join(parts)
    if what and not force:
        kinds = " and ".join(
            word
            for word, has in (("pictures", len(parts) > bool(changed)), ("settings", changed))
            if has
        )
        raise MismatchError(
            f"the {kinds} are not those that the run `{stopped.run}` began with: {what}",
            hint="add --force to go on with them as they are now, or put back what changed",
        )
    return what


def changed_settings(stopped: Stopped, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Those that tell on the weights: (old, new) by name."""
    changed = stopped.before.differences(config)
    return {name: pair for name, pair in changed.items() if name not in MAY_CHANGE}


def _refuse_other_classes(stopped: Stopped, changes: PictureChanges) -> None:
    new, gone = changes.new_classes, changes.gone_classes
    if not new and not gone:
        return
    parts = [
        f"{counted(len(names), 'class', 'classes')} {what} ({examples(names)})"
        for names, what in ((new, "new"), (gone, "gone"))
        if names
    ]
    raise MismatchError(
        f"the classes to train on are not those that the run `{stopped.run}` began with: "
        f"{', '.join(parts)}; its classifier has one output for each",
        hint="restore them, or start another run; `--backbone-weights "
        f"'{stopped.run / 'last.safetensors'}'` begins with what this one has learned",
    )
