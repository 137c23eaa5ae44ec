"""Floor 8, the front door: the app, and the one place that turns failures into exit codes."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from cgdcli import __version__
from cgdcli.cli.convert_weights import convert_weights
from cgdcli.cli.embed import embed
from cgdcli.cli.evaluate import evaluate
from cgdcli.cli.inspect import inspect
from cgdcli.cli.profile import profile
from cgdcli.cli.search import search
from cgdcli.cli.train import train
from cgdcli.errors import CGDError

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
for command in (train, embed, search, evaluate, profile, inspect):
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
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run `cgd` with `argv` (without the program's name) and return its exit code."""
    command = typer.main.get_command(app)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _sigterm_as_exception():
            result = command.main(arguments, prog_name="cgd", standalone_mode=False)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except CGDError as error:
        typer.echo(f"error: {error.what}\nhint: {error.hint}", err=True)
        return error.exit_code
    except UsageFailure as error:
        return _usage_error(error, arguments)
    except BrokenPipeError:
        # The reader of our output has gone (`cgd search ... | head -1`): nothing to complain of.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("stopped by Ctrl-C", err=True)
        return EXIT_CTRL_C
    except Terminated:
        typer.echo("stopped by SIGTERM", err=True)
        return EXIT_SIGTERM


def run() -> None:
    """The console script."""
    sys.exit(main())


def _usage_error(error: BaseException, arguments: list[str]) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    if not message:  # no arguments at all: the help has been printed
        return 2
    known = {
        name or f.__name__
        for name, f in ((c.name, c.callback) for c in app.registered_commands)
        if f
    }
    named = next((word for word in arguments if word in known), "")
    typer.echo(
        f"error: {message}\nhint: see `{' '.join(['cgd', *named.split()])} --help`", err=True
    )
    return int(getattr(error, "exit_code", 2))


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
