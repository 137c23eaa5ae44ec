"""What a run leaves on the disk after each epoch, and how it is taken up again."""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.config import TrainConfig
from cgdcli.config.training import option_name
from cgdcli.datasets.reading import TrainingData
from cgdcli.errors import MismatchError, OutputError
from cgdcli.files import remove_leftovers
from cgdcli.locks import HeldLock
from cgdcli.reports import EpochReport, RecallReport, SkippedImage
from cgdcli.training.board import Board
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.learner import Learner
from cgdcli.training.listing import Listed, digest, pack
from cgdcli.training.metrics import METRICS_FILE, write_metrics
from cgdcli.training.partial import PartialEpoch
from cgdcli.training.run import (
    SETTINGS_FILE,
    STATE_FILE,
    epoch_from_dict,
    has_state,
    load_state,
    save_state,
)
from cgdcli.training.watching import rank
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.words import resume_command

logger = logging.getLogger("cgdcli")

# An epoch or a judgement may take hours: what a machine that goes off costs at most, in seconds.
SAVE_AFTER = 600.0


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epochs: one report each, epoch 0 (before training) first.
        seconds: of training, without judging.
        evaluation_seconds: of the last judgement.
        skipped: pictures that could not be read, and why.
        partial: the steps of the epoch under way.
    """

    epochs: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    skipped: dict[Path, str] = field(default_factory=dict)
    partial: PartialEpoch | None = None

    @property
    def done(self) -> int:
        """Epochs that are finished."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def best(self) -> EpochReport | None:
        """The epoch that `best` was kept at, where there is one."""
        return next((e for e in reversed(self.epochs) if e.is_best), None)

    def is_better(self, judged: RecallReport) -> bool:
        """Whether no trained epoch was judged as good."""
        before = [e.evaluation for e in self.epochs if e.evaluation and e.epoch > 0]
        return all(rank(judged) > rank(other) for other in before)

    def skipped_images(self) -> tuple[SkippedImage, ...]:
        """For a report."""
        return tuple(SkippedImage(str(path), reason) for path, reason in self.skipped.items())


@contextlib.contextmanager
def saying_how_to_go_on(run: Path) -> Iterator[None]:
    """A file that cannot be written ends a run; what was kept before is whole.

    Raises:
        OutputError: with the command that goes on, where there is a state.
    """
    try:
        yield
    except OutputError as error:
        hint = "see to the free space and the permissions there, then "
        hint += f"go on with: {resume_command(run)}" if has_state(run) else "start again"
        better = OutputError(error.what, hint=hint)
        better.everywhere = error.everywhere
        raise better from error


def refuse_other_data(pictures: Sequence[Listed], folder: Path, processes: Processes) -> None:
    """Refuse processes that do not see the same pictures: they would train on something else.

    Raises:
        MismatchError: one does not.
    """
    if processes.alone:
        return
    digests = processes.gather(digest(pictures))
    for number, found in enumerate(digests):
        if found != digests[0]:
            raise processes.agreed(
                MismatchError(
                    f"process {number} finds other pictures in `{folder}` than process 0",
                    hint="every machine wants the same data in the same place: a shared or a "
                    "copied folder",
                )
            )


class Keeper:
    """Writes and reads the files of one run; of several processes the first one does.

    Args:
        pictures: what it is trained and judged on.
        origin: of the data, in words.
        epochs: of the whole run.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        data: TrainingData,
        pictures: Sequence[Listed],
        *,
        origin: str,
        epochs: int,
        processes: Processes = ALONE,
    ) -> None:
        self.run, self.config, self.epochs = run, config, epochs
        self.data, self.pictures, self.origin = data, pictures, origin
        self.processes = processes
        self.board = Board(run) if config.tensorboard and processes.first else None
        self.lock: HeldLock | None = None
        self._saved = time.monotonic()

    def tidy(self) -> None:
        """Remove what a kill left half written: a file as large as the state, each time."""
        names = (STATE_FILE, SETTINGS_FILE, METRICS_FILE, "last.safetensors", "best.safetensors")
        self.processes.on_first(lambda: remove_leftovers(*(self.run / name for name in names)))

    def warn_of_little_room(self, learner: Learner) -> None:
        """Say before the first step what would otherwise end the run in the night."""
        if not self.processes.first:
            return
        needed = learner.state_bytes() * 2 + 3 * learner.model_bytes()
        there = sum(file.stat().st_size for file in self.run.iterdir() if file.is_file())
        free = shutil.disk_usage(self.run).free
        if free + there < needed:
            logger.warning(
                "the disk of `%s` has %.0f MB free, and this run may need %.0f MB",
                self.run,
                free / 1e6,
                (needed - there) / 1e6,
            )

    def save(self, learner: Learner, progress: Progress) -> None:
        """Checkpoints first, the state last: what the state speaks of is there."""
        self.processes.on_first(lambda: self._save(learner, progress))

    def _check_lock(self) -> None:
        if self.lock is not None:
            self.lock.check()

    def _save(self, learner: Learner, progress: Progress) -> None:
        self._check_lock()
        report = progress.epochs[-1]
        checkpoint = self._checkpoint(learner, report)
        if report.epoch > 0:
            checkpoint.save(self.run / "last.safetensors")
        if report.is_best:
            checkpoint.save(self.run / "best.safetensors")
        write_metrics(self.run, progress.epochs)
        self._save_state(learner, progress)
        self.show_on_board(progress)

    def show_on_board(self, progress: Progress) -> None:
        """Write for TensorBoard what is new, if that is wanted."""
        if self.board is not None and progress.epochs:
            self.board.write(progress.epochs)

    def _checkpoint(self, learner: Learner, report: EpochReport) -> Checkpoint:
        kept = learner.judged_model()
        return Checkpoint(
            kept.config,
            {name: value.contiguous() for name, value in kept.state_dict().items()},
            class_names=self.data.train.classes,
            origin={"trained_by": "cgd train", "run": self.run.name, "data": self.origin},
            training={
                "epoch": report.epoch,
                "epochs": self.epochs,
                "recipe": self.config.recipe.value,
                "seed": self.config.seed,
                "judged_on": self.data.judged_on,
                "held_out": list(self.data.held_out),
                "evaluation": report.evaluation.to_dict() if report.evaluation else None,
            },
        )

    @property
    def is_due(self) -> bool:
        """Whether the state is so old that it would be a pity; the first process has the say."""
        return self.processes.first and time.monotonic() - self._saved > SAVE_AFTER

    def save_state(self, learner: Learner, progress: Progress) -> None:
        """What the run goes on from."""
        self.processes.on_first(lambda: self._save_state(learner, progress))

    def save_alone(self, learner: Learner, progress: Progress) -> None:
        """The same by one process that cannot ask the others any more."""
        if self.processes.first:
            self._save_state(learner, progress)

    def _save_state(self, learner: Learner, progress: Progress) -> None:
        self._check_lock()
        skipped = dict(progress.skipped)  # at once: those who read pictures go on adding
        save_state(
            self.run,
            {
                "epoch": progress.done,
                "settings": self.config.to_dict(),
                "digest": digest(self.pictures),
                "listed": pack(self.pictures),
                **learner.state(),
                "seconds": progress.seconds,
                "evaluation_seconds": progress.evaluation_seconds,
                "epochs": [e.to_dict() for e in progress.epochs],
                "skipped": {str(path): reason for path, reason in skipped.items()},
                "partial": progress.partial.to_state() if progress.partial else None,
            },
        )
        self._saved = time.monotonic()

    def restore(self, learner: Learner, progress: Progress, before: TrainConfig) -> None:
        """Bring both to where the run stopped.

        Args:
            before: the settings that the state was reached with.

        Raises:
            MismatchError: the weights do not fit a setting that was changed.
        """
        state = self.processes.on_first(lambda: load_state(self.run))
        try:
            learner.restore(state, before)
        except (RuntimeError, ValueError, KeyError) as error:
            changed = ", ".join(option_name(name) for name in before.differences(self.config))
            if not changed:
                raise
            raise self.processes.agreed(
                MismatchError(
                    f"the state of the run `{self.run}` does not fit the changed {changed}: "
                    f"{str(error).splitlines()[0]}",
                    hint="leave them as they were, or start another run",
                )
            ) from error
        progress.seconds = state["seconds"]
        progress.evaluation_seconds = state["evaluation_seconds"]
        progress.epochs[:] = [epoch_from_dict(values) for values in state["epochs"]]
        progress.partial = PartialEpoch(**state["partial"]) if state["partial"] else None
        progress.skipped |= {Path(path): reason for path, reason in state["skipped"].items()}
