"""The only place that prints: results to stdout, everything else to stderr."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cgdcli.files import OnBytes
    from cgdcli.streaming import OnProgress

# A plain line now and then, where a bar would be a thousand lines of a log file.
SECONDS_BETWEEN_LINES = 10.0


class Output:
    """How one command speaks.

    Args:
        quiet: say nothing on stderr but warnings and errors.
        verbose: also say details.
        mute: say and print nothing at all: another process of the same command does.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, mute: bool = False) -> None:
        self.quiet, self.verbose, self.mute = quiet or mute, verbose, mute
        self.stderr = _console(stderr=True)
        logger = logging.getLogger("cgdcli")
        logger.handlers = [_Notices(self)]
        logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        logger.propagate = False

    def say(self, *lines: str) -> None:
        """Lines for a person, on stderr."""
        if not self.quiet:
            for line in lines:
                self._say(line)

    def warn(self, line: str) -> None:
        """A line that --quiet does not silence."""
        if self.mute:
            return
        self._say(f"warning: {line}")

    def _say(self, line: str) -> None:
        """A name in it can end no line, and no terminal obeys it."""
        from cgdcli.views.formatting import shown_name

        self.stderr.print(shown_name(line), markup=False, highlight=False, soft_wrap=True)

    @property
    def stdout(self) -> "Console":
        """What results are printed by, and what it can show."""
        return _console(stderr=False)

    def show(self, result: "RenderableType") -> None:
        """The result, on stdout."""
        if self.mute:
            return
        self.stdout.print(result)

    def json(self, value: Any) -> None:
        """The result as JSON, on stdout."""
        from cgdcli.views.formatting import json_text

        self.lines([json_text(value, indent=2) + "\n"])

    def lines(self, lines: Iterable[str]) -> None:
        """The result as plain lines, on stdout; odd names come out as their bytes."""
        if self.mute:
            return
        sys.stdout.flush()
        for line in lines:
            sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()

    @contextmanager
    def progress(self, what: str) -> Iterator["OnProgress | None"]:
        """A callback for pictures done: a bar in a terminal, else a plain line now and then."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():  # not is_terminal: CLICOLOR_FORCE brings colour, no cursor codes
            with _bar(self.stderr, what) as update:
                yield update
        else:
            yield _LineProgress(self, what)

    @contextmanager
    def byte_progress(self, what: str) -> Iterator["OnBytes | None"]:
        """A callback for bytes done: a bar in a terminal, else a plain line now and then."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _byte_bar(self.stderr, what) as update:
                yield update
        else:
            yield _ByteLines(self, what)


class _ByteLines:
    def __init__(self, output: Output, what: str) -> None:
        self.output, self.what = output, what
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            self.output.say(f"{self.what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")


class _LineProgress:
    def __init__(self, output: Output, what: str) -> None:
        self.output, self.what = output, what
        self.started = self.last = time.monotonic()

    def __call__(self, done: int, total: int, skipped: int) -> None:
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        rate = done / (now - self.started)
        words = f", {skipped} skipped" if skipped else ""
        left = (total - done) / rate
        self.output.say(
            f"{self.what}: {done} of {total}{words}, {rate:.1f} pictures/s, {left:.0f} s left"
        )


class _Notices(logging.Handler):
    """The library's log records as lines: `note:` and `warning:`."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.output.warn(record.getMessage())
        else:
            self.output.say(f"note: {record.getMessage()}")


@contextmanager
def _byte_bar(console: "Console", what: str) -> Iterator["OnBytes"]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _bar(console: "Console", what: str) -> Iterator["OnProgress"]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    rate = TextColumn("{task.fields[rate]:.1f} pictures/s  {task.fields[skipped]} skipped")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, rate=0.0, skipped=0)
        started = time.monotonic()

        def update(done: int, total: int, skipped: int) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=done, total=total, rate=rate, skipped=skipped)

        yield update


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    forced = os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0")
    stream = sys.stderr if stderr else sys.stdout
    # Piped output is not folded to eighty columns: a path must stay in one piece.
    width = None if stream.isatty() else 1_000
    return Console(
        stderr=stderr,
        force_terminal=True if forced else None,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )
