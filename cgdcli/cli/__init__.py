"""Floor 8, the front door: the app, and the one place that turns failures into exit codes."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from cgdcli import __version__
from cgdcli.cli.check import check
from cgdcli.cli.compare import compare
from cgdcli.cli.convert_weights import convert_weights
from cgdcli.cli.duplicates import duplicates
from cgdcli.cli.embed import embed
from cgdcli.cli.evaluate import evaluate
from cgdcli.cli.export import export
from cgdcli.cli.index import index
from cgdcli.cli.inspect import inspect
from cgdcli.cli.optional_values import with_ray_address
from cgdcli.cli.profile import profile
from cgdcli.cli.search import search
from cgdcli.cli.serve import serve
from cgdcli.cli.train import train
from cgdcli.errors import CGDError, ConfigError
from cgdcli.launch import local_rank, rank

EXIT_CTRL_C, EXIT_SIGTERM = 130, 143
# click's ClickException: Typer carries its own copy of click, whose place is not public.
UsageFailure: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="cgd",
    no_args_is_help=True,
    # Plain help: rich would cost half of the start-up time, and goldens of help stay stable.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CGD"},
    epilog="Every option is also an environment variable: CGD_<COMMAND>_<OPTION>, such as "
    "CGD_TRAIN_EPOCHS=5. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but pictures were "
    "skipped, 4 files that do not belong together.",
)
for command in (
    train,
    embed,
    search,
    serve,
    index,
    evaluate,
    duplicates,
    compare,
    check,
    profile,
    inspect,
    export,
):
    app.command()(command)
app.command("convert-weights")(convert_weights)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cgd {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            allow_from_autoenv=False,  # CGD_VERSION in an image would silence every command
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Train an image-retrieval network, embed folders of pictures, find those like yours.

    \b
    cgd train data/
    cgd embed imgs/ -o feats.npy
    cgd search query.jpg --index feats.npy
    cgd convert-weights old.pth
    """


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(argv: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one return per way to end
    """Run `cgd` with `argv` (without the program's name) and return its exit code."""
    command = typer.main.get_command(app)
    arguments = with_ray_address(list(sys.argv[1:] if argv is None else argv))
    try:
        with _sigterm_as_exception():
            result = command.main(arguments or ["--help"], prog_name="cgd", standalone_mode=False)
            sys.stdout.flush()
    except CGDError as error:
        if not _is_told_elsewhere(error):
            _failed(error.exit_code, error.what, error.hint)
        return error.exit_code
    except UsageFailure as error:
        if _is_told_elsewhere(error):
            return getattr(error, "exit_code", 2)
        return _usage_error(error, arguments)
    except (BrokenPipeError, SystemExit):
        # The reader of our output has gone (`cgd search ... | head -1`): nothing to complain of.
        # Typer turns that error into SystemExit, which it raises for nothing else here.
        _drop_stdout()
        return 0
    except OSError as error:
        # What the jobs expect they word themselves; what is left is stdout on a full disk and such.
        _drop_stdout()
        where = f"`{error.filename}`" if error.filename else "the result"
        why = error.strerror or error
        return _failed(1, f"cannot read or write {where}: {why}", "check the free space there")
    except Terminated:
        return _stopped(EXIT_SIGTERM, "SIGTERM")
    if result == EXIT_CTRL_C:  # Typer's answer to KeyboardInterrupt
        _stopped(EXIT_CTRL_C, "Ctrl-C")
    if not arguments:  # the help has been shown; a command was wanted
        return 2
    return result if isinstance(result, int) else 0


def run() -> None:
    """The console script."""
    sys.exit(main())


def _failed(exit_code: int, what: str, hint: str) -> int:
    """The two lines of an expected failure, on stderr; a name in them can end no line, and no
    terminal obeys it."""
    from cgdcli.views.formatting import shown_name

    number = rank()
    where = f"process {number}: " if number else ""
    typer.echo(f"error: {where}{shown_name(what)}\nhint: {shown_name(hint)}", err=True)
    return exit_code


def _stopped(exit_code: int, by: str) -> int:
    if not rank():
        typer.echo(f"stopped by {by}", err=True)
    return exit_code


def _is_told_elsewhere(error: Exception) -> bool:
    """Whether another process of the same torchrun says it, in the same words."""
    if isinstance(error, CGDError) and error.everywhere:
        return rank() > 0
    # Wrong usage is found by every process of a machine, before they know of each other.
    return isinstance(error, ConfigError | UsageFailure) and local_rank() > 0


def _drop_stdout() -> None:
    """What is still buffered has nowhere to go; at exit Python would try again and complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error(error: Exception, arguments: list[str]) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    message = re.sub(r"Value error, |, unable to parse string as an? \w+|\.$", "", message)
    value = _given_value(getattr(error, "param", None), arguments)
    if value is not None and repr(value) not in message:
        message += f" (given: {value!r})"
    named = [word for word in arguments[:1] if not word.startswith("-")]
    command = [] if message.startswith("No such command") else named
    hint = f"see `{' '.join(['cgd', *command, '--help'])}`"
    return _failed(getattr(error, "exit_code", 2), message, hint)


def _given_value(parameter: object, arguments: list[str]) -> str | None:
    """What was typed, or set in the environment, for an option; Typer's message leaves it out."""
    for name in getattr(parameter, "opts", ()):
        for place, word in enumerate(arguments):
            if word == name and place + 1 < len(arguments):
                return arguments[place + 1]
            if word.startswith(f"{name}="):
                return word.split("=", 1)[1]
    command, option = arguments[0].replace("-", "_"), getattr(parameter, "name", "")
    return os.environ.get(f"CGD_{command}_{option}".upper())


@contextlib.contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """So that temporary files are removed and locks given back before the process ends."""

    def terminate(*_: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: signals are somebody else's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
