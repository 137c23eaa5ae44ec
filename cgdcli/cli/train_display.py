"""How a training run is shown: a live line in a terminal, plain lines elsewhere."""

import shlex
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cgdcli.cli.output import SECONDS_BETWEEN_LINES, Output
from cgdcli.launch import is_launched
from cgdcli.reports import EpochReport, Report, StartReport, StepReport

LONG_RUN_SECONDS = 3600.0


class TrainDisplay:
    """Shows reports as they come; a context manager, since a live line must be taken down."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.run: Path | None = None
        self.forecast_said = False
        self.last_line = time.monotonic()
        self._status: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self.output.quiet:
            self._status = self.output.stderr.status("preparing")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
        if kind is not None and not issubclass(kind, Exception) and self.run is not None:
            command = ["torchrun", "...", "-m", "cgdcli"] if is_launched() else ["cgd"]
            line = [*command, "train", "--resume", "--name", self.run.name]
            if self.run.parent != Path("runs"):
                line += ["--runs", str(self.run.parent)]
            self.output.warn(f"stopped; go on with: {shlex.join(line)}")

    def show(self, report: Report) -> None:
        """Show one report."""
        from cgdcli.views.tables import epoch_line, start_lines

        if isinstance(report, StartReport):
            self.run = report.run
            self.output.say(*start_lines(report))
            self._update("judging the backbone before training")
        elif isinstance(report, StepReport):
            self._show_step(report)
        elif isinstance(report, EpochReport):
            self.output.say(epoch_line(report))

    def _show_step(self, report: StepReport) -> None:
        from cgdcli.views.formatting import duration

        left = report.left_seconds
        line = (
            f"epoch {report.epoch} step {report.step}/{report.steps}  loss {report.loss:.3f}  "
            f"active {report.active_triplets:.0%}  distance {report.mean_distance:.2f}  "
            f"lr {report.learning_rate:.1e}  {report.images_per_second:.1f} pictures/s"
        )
        if left is not None:
            line += f"  {duration(left)} left"
            if not self.forecast_said:
                self.forecast_said = True
                self._say_forecast(left)
        self._update(line)
        now = time.monotonic()
        if self._status is None and now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            self.output.say(line)

    def _say_forecast(self, left: float) -> None:
        from cgdcli.views.formatting import duration

        self.output.say(f"the whole run is expected to take another {duration(left)}")
        if left > LONG_RUN_SECONDS:
            self.output.say(
                "to shorten it: --minutes 30, --image-size 112 (a quarter of the work), or a GPU "
                "(--device cuda)"
            )

    def _update(self, line: str) -> None:
        if self._status is not None:
            self._status.update(line)
