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
from cgdcli.config.training import option_name
from cgdcli.errors import ConfigError
from cgdcli.launch import is_launched, rank
from cgdcli.words import counted

_RESUME_HELP = (
    "Go on with --name, or the newest unfinished run, as it began. Options that say what it began "
    f"with are welcome; {', '.join(map(option_name, sorted(MAY_CHANGE)))} may change; others want "
    "--force."
)


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
        option("--config", metavar="FILE", help="Settings in TOML, such as a run's config.toml."),
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
    recipe.

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
    if print_config:
        _print(out, None if resume else _resolve(context, config))
        return 0
    how: dict[str, Any] = {"runs": runs, "name": name}
    if resume:
        how |= {"resume": True, "changes": _changes(context, config), "force": force}
    else:
        how |= {"config": _resolve(context, config)}
    return _run(out, data, how, as_json=as_json)


def _resolve(context: typer.Context, config: Path | None) -> TrainConfig:
    """Flag, else environment, else file, else recipe."""
    file: dict[str, Any] = {}
    if config is not None:
        from cgdcli.training.run import read_config_file

        file = read_config_file(config)
    return TrainConfig.resolved(given_settings(context), file)


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


def _changes(context: typer.Context, config: Path | None) -> dict[str, Any]:
    """What a resumed run is given anew: typed, else in --config. The environment is for new runs:
    it is there for the next one, too."""
    changes: dict[str, Any] = {}
    if config is not None:
        from cgdcli.training.run import read_config_file

        changes = read_config_file(config)
    typed = [name for name in SETTINGS if was_given(context, name)]
    return changes | {name: context.params[name] for name in typed}
