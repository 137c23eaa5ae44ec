"""A training run while it goes on, as a few lines that are drawn again and again."""

from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cgdcli.reports import EpochReport, StartReport, StepReport
from cgdcli.views.formatting import duration

PREPARING, ENDING = "reading the data, measuring", "judging, drawing the page"


@dataclass
class LiveRun:
    """What is known of it by now.

    Attributes:
        doing: what goes on besides steps; empty while steps are made.
        judged: epochs that were judged, epoch 0 (before training) among them.
    """

    doing: str = PREPARING
    start: StartReport | None = None
    step: StepReport | None = None
    judged: list[EpochReport] = field(default_factory=list)

    def take_up(self, start: StartReport) -> None:
        """The run is about to begin, or to go on."""
        self.start = start
        self.judged = [epoch for epoch in start.before if epoch.evaluation]
        self.doing = "judging the backbone before training" if not start.before else ""
        if start.first_epoch > start.epochs:  # nothing is left to train
            self.doing = ENDING

    def take_step(self, step: StepReport) -> None:
        """A step was made; after the last of an epoch comes its judgement, or at least its file."""
        self.step = step
        self.doing = "judging and saving" if step.step == step.steps else ""

    def take_epoch(self, epoch: EpochReport) -> None:
        """An epoch was closed."""
        if epoch.evaluation:
            self.judged.append(epoch)
        last = epoch.epoch == epoch.epochs
        self.doing = ENDING if last else ""


def live_view(run: LiveRun) -> RenderableType:
    """Four lines at most, none longer than the terminal is wide."""
    lines = [_progress(run)]
    if run.step is not None:
        lines += [_line(_losses(run.step)), _line(_figures(run.step))]
    if run.judged:
        lines.append(_line(_recall(run.judged)))
    return Group(*lines)


def _progress(run: LiveRun) -> RenderableType:
    """How far it is, a bar as long as there is room, and how long it will take."""
    step, start = run.step, run.start
    if start is None or step is None:
        return _line([(run.doing or "training", "")])
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, min_width=4)
    grid.add_column(no_wrap=True)
    steps = step.steps * start.epochs
    done = step.steps * (step.epoch - 1) + step.step
    left = "" if step.left_seconds is None else f"{duration(step.left_seconds)} left"
    where = f"epoch {step.epoch}/{start.epochs} step {step.step}/{step.steps}"
    bar = ProgressBar(total=steps, completed=done)
    grid.add_row(Text(where), bar, Text(run.doing or f"{100 * done / steps:.0f} % {left}".rstrip()))
    return grid


def _losses(step: StepReport) -> list[tuple[str, str]]:
    parts = ", ".join(f"{name} {value:.3f}" for name, value in step.parts.items() if value)
    return [("loss ", "dim"), (f"{step.loss:.3f}", "bold"), (f" ({parts})" if parts else "", "")]


def _figures(step: StepReport) -> list[tuple[str, str]]:
    return [
        ("active ", "dim"),
        (f"{100 * step.active_triplets:.0f} %", ""),
        ("  distance ", "dim"),
        (f"{step.mean_distance:.2f}", ""),
        ("  lr ", "dim"),
        (f"{step.learning_rate:.1e}", ""),
        (f"  {step.images_per_second:.1f}", ""),
        (" pictures/s", "dim"),
    ]


def _recall(judged: list[EpochReport]) -> list[tuple[str, str]]:
    """Recall@1 by now, its best, and what there was before training."""
    before, last = judged[0], judged[-1]
    words = [("Recall@1 ", "dim")]
    if last.epoch > 0:
        best = max(judged[1:] if before.epoch == 0 else judged, key=_recall_at_1)
        words += [(f"{100 * _recall_at_1(last):.1f} %", "bold"), (", best ", "dim")]
        words.append((f"{100 * _recall_at_1(best):.1f} %", ""))
        words.append((f" (epoch {best.epoch}), ", "dim"))
    if before.epoch == 0:
        words += [("untrained ", "dim"), (f"{100 * _recall_at_1(before):.1f} %", "")]
    return words


def _recall_at_1(epoch: EpochReport) -> float:
    return 0.0 if epoch.evaluation is None else epoch.evaluation.recall[1]


def _line(parts: list[tuple[str, str]]) -> Text:
    text = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
    text.rstrip()
    return text
