"""`cgd train`: a network from class folders."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cgdcli.cli.options import (
    DATA_HELP,
    EXIT_SKIPPED,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.cli.settings import SETTINGS, given_settings, with_settings
from cgdcli.cli.train_display import TrainDisplay
from cgdcli.config import MAY_CHANGE, TrainConfig
from cgdcli.config.layers import Place
from cgdcli.config.training import option_name
from cgdcli.errors import ConfigError
from cgdcli.launch import is_launched, rank
from cgdcli.words import counted

_RESUME_HELP = (
    "Go on with --name, or the newest unfinished run, as it began. Options that say what it began "
    f"with are welcome; {', '.join(map(option_name, sorted(MAY_CHANGE)))} may change; others want "
    "--force."
)

# Of one call, not of a run like another.
_NOT_IN_A_FILE = ("data", "config", "print_config", "resume", "force", "json", "quiet", "verbose")


@with_settings
def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        argument(
            metavar="DATA",
            help=DATA_HELP,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        option(
            "--config",
            metavar="FILE",
            help="Settings in TOML, such as a run's config.toml; also `name` and `runs`.",
        ),
    ] = None,
    print_config: Annotated[
        bool, option("--print-config", help="Print the settings as they come out, and stop.")
    ] = False,
    name: Annotated[
        str | None, option(help="Of the run; default: date-time-backbone-letters.")
    ] = None,
    runs: Annotated[Path, option(help="Folder of the runs.")] = Path("runs"),
    resume: Annotated[
        bool,
        option("--resume", help=_RESUME_HELP),
    ] = False,
    force: Annotated[
        bool,
        option(
            "--force",
            help="With --resume: go on with pictures or settings that changed; the classes to "
            "train on must be the same.",
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    **settings: Any,
) -> int:
    """Train a CGD on a folder of classes; keep `best` and `last` under runs/NAME.

    `best` is chosen on val, else on classes held out of train, never on test, which is judged once
    at the end. A setting comes from its option, else $CGD_TRAIN_<OPTION>, else --config, else the
    recipe. Ctrl-C and SIGTERM wait for the step under way and save it; a second one does not.

    \b
    cgd train data/ --minutes 30
    cgd train data/ --backbone resnet50 --embedding-dim 1536
    cgd train data/ --recipe reference
    torchrun --nproc-per-node 4 -m cgdcli train data/
    """
    out = Output(quiet=quiet, verbose=verbose, mute=rank() > 0)
    if force and not resume and was_given(context, "force"):
        raise ConfigError(
            "--force goes with --resume; a new run never replaces one",
            hint="choose another --name, or remove the old run's folder",
        )
    file, where = _read(config)
    if print_config:
        _print(out, None if resume else _resolve(context, file, config))
        return 0
    how: dict[str, Any] = {"runs": runs, "name": name}
    how |= {key: value for key, value in where.items() if _is_default(context, key)}
    if resume:
        how |= {"resume": True, "changes": _changes(context, file), "force": force}
    else:
        how |= {"config": _resolve(context, file, config)}
    return _run(out, data, how, as_json=as_json)


def _read(config: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What --config says: settings, and the run's `name` and `runs`."""
    if config is None:
        return {}, {}
    from cgdcli.training.run import read_config_file

    values = read_config_file(config)
    for key in _NOT_IN_A_FILE:
        if key in values:
            raise ConfigError(
                f"`{key}` cannot stand in a file of settings such as --config `{config}`",
                hint="take it out there, and type it: cgd train DATA --config FILE ...",
            )
    where: dict[str, Any] = {key: values.pop(key) for key in ("name", "runs") if key in values}
    for key, value in where.items():
        if not isinstance(value, str):
            raise ConfigError(
                f"{key} = {value!r} in --config `{config}` is no text",
                hint=f'write it between quotation marks: {key} = "{value}"',
            )
    return values, where


def _resolve(context: typer.Context, file: dict[str, Any], config: Path | None) -> TrainConfig:
    """Flag, else environment, else file, else recipe."""
    given = given_settings(context)
    typed = {name: given.pop(name) for name in list(given) if was_given(context, name)}
    return TrainConfig.of_new_run(
        Place("the options", typed),
        Place("the environment", given),
        Place(f"--config `{config}`", file),
    )


def _is_default(context: typer.Context, name: str) -> bool:
    """Whether neither the command line nor the environment says it."""
    source = context.get_parameter_source(name)
    return source is None or source.name not in ("COMMANDLINE", "ENVIRONMENT")


def _print(out: Output, resolved: TrainConfig | None) -> None:
    if resolved is None:
        raise ConfigError(
            "--print-config shows the settings of a new run; --resume keeps those of an old one",
            hint="they stand in runs/NAME/config.toml",
        )
    from cgdcli.training.run import settings_text

    out.lines([settings_text(resolved)])


def _run(out: Output, data: Path | None, how: dict[str, Any], *, as_json: bool) -> int:
    from cgdcli.training.loop import train as run
    from cgdcli.views.tables import train_lines

    with TrainDisplay(out) as display:
        report = run(data, on_report=display.show, **how)
    *result, next_line = train_lines(report)
    if as_json:
        out.say(*result)
        out.json(report.to_dict())
    else:
        out.lines(line + "\n" for line in result)
    out.say(next_line)
    if report.skipped:
        out.warn(f"skipped {counted(len(report.skipped), 'picture')} that could not be read")
    # A launcher takes every code but 0 for a failure: it would complain, or begin again.
    return EXIT_SKIPPED if report.skipped and not is_launched() else 0


def _changes(context: typer.Context, file: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run is given anew: typed, else in --config. The environment is for new runs:
    it is there for the next one, too."""
    typed = [name for name in SETTINGS if was_given(context, name)]
    return file | {name: context.params[name] for name in typed}
