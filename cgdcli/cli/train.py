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
from cgdcli.config import TrainConfig
from cgdcli.config.training import option_name
from cgdcli.errors import ConfigError
from cgdcli.launch import is_launched, rank
from cgdcli.words import counted

# What may differ on a resume, as it does not change the result.
_MAY_CHANGE = ("device", "workers")


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
        option("--resume", help="Go on with --name, or the newest unfinished run, as it began."),
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
    if resume:
        _refuse_settings(context, config)
        resolved = None
    else:
        resolved = _resolve(context, config)
    if print_config:
        _print(out, resolved)
        return 0
    return _run(context, out, data, resolved, runs=runs, name=name, resume=resume, as_json=as_json)


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


def _run(
    context: typer.Context,
    out: Output,
    data: Path | None,
    resolved: TrainConfig | None,
    *,
    runs: Path,
    name: str | None,
    resume: bool,
    as_json: bool,
) -> int:
    from cgdcli.training.loop import train as run
    from cgdcli.views.tables import train_lines

    changes = {n: context.params[n] for n in _MAY_CHANGE if resume and was_given(context, n)}
    with TrainDisplay(out) as display:
        report = run(
            data,
            resolved,
            runs=runs,
            name=name,
            resume=resume,
            on_report=display.show,
            **changes,
        )
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


def _refuse_settings(context: typer.Context, config: Path | None) -> None:
    """A resumed run has its own settings; an option that would do nothing is an error."""
    given = [name for name in SETTINGS if name not in _MAY_CHANGE and was_given(context, name)]
    if config is not None:
        given.append("config")
    for name in given:
        raise ConfigError(
            f"{option_name(name)} cannot be changed on --resume: the run keeps the settings it "
            "began with",
            hint="leave it out, or start another run",
        )
