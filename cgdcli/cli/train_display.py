"""How a training run is shown: live in a terminal, plain lines elsewhere."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cgdcli.cli.output import SECONDS_BETWEEN_LINES, Output
from cgdcli.reports import EpochReport, Report, StartReport, StepReport
from cgdcli.words import resume_command

if TYPE_CHECKING:
    from cgdcli.views.live import LiveRun

LONG_RUN_SECONDS = 3600.0
# Often enough to be read, and seldom enough to cost nothing.
SECONDS_BETWEEN_DRAWINGS = 0.25


class TrainDisplay:
    """Shows reports as they come; a context manager, since what is live must be taken down."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.run: Path | None = None
        self.forecast_said = False
        self.last_line = self.last_drawn = time.monotonic()
        self._live: Any = None
        self._state: LiveRun | None = None

    def __enter__(self) -> Self:
        # A terminal that knows no cursor codes (TERM=dumb) gets lines, as a file does.
        if (
            sys.stderr.isatty()
            and not self.output.quiet
            and not self.output.stderr.is_dumb_terminal
        ):
            self._begin_live()
        return self

    def _begin_live(self) -> None:
        from rich.live import Live

        from cgdcli.views.live import LiveRun, live_view

        state = self._state = LiveRun()
        self._live = Live(
            get_renderable=lambda: live_view(state),
            console=self.output.stderr,
            # `_take_up` draws: what begins is then shown at once, however short it is, and nothing
            # is drawn from a thread between two reports, when nothing has changed.
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is not None and not issubclass(kind, Exception) and self.run is not None:
            self.output.warn(f"stopped; go on with: {resume_command(self.run)}")

    def show(self, report: Report) -> None:
        """Show one report."""
        from cgdcli.views.tables import epoch_line, start_lines

        if isinstance(report, StartReport):
            self.run = report.run
            self.output.say(*start_lines(report))
        elif isinstance(report, StepReport):
            self._say_forecast(report.left_seconds)
            self._say_step(report)
        elif isinstance(report, EpochReport):
            self.output.say(epoch_line(report))
        self._take_up(report)

    def _take_up(self, report: Report) -> None:
        """Into what is live, which is drawn where something else begins, and now and then."""
        state = self._state
        if state is None or self._live is None:
            return
        doing = state.doing
        if isinstance(report, StartReport):
            state.take_up(report)
        elif isinstance(report, StepReport):
            state.take_step(report)
        elif isinstance(report, EpochReport):
            state.take_epoch(report)
        now = time.monotonic()
        if state.doing != doing or now - self.last_drawn >= SECONDS_BETWEEN_DRAWINGS:
            self.last_drawn = now
            self._live.refresh()

    def _say_step(self, report: StepReport) -> None:
        """A plain line now and then, where nothing is live."""
        now = time.monotonic()
        if self._live is None and now - self.last_line >= SECONDS_BETWEEN_LINES:
            from cgdcli.views.tables import step_line

            self.last_line = now
            self.output.say(step_line(report))

    def _say_forecast(self, left: float | None) -> None:
        if left is None or self.forecast_said:
            return
        from cgdcli.views.formatting import duration

        self.forecast_said = True
        self.output.say(f"the whole run is expected to take another {duration(left)}")
        if left > LONG_RUN_SECONDS:
            self.output.say(
                "to shorten it: --minutes 30, --image-size 112 (a quarter of the work), or a GPU "
                "(--device cuda)"
            )
