"""The steps of an epoch, and what may come between two of them: a signal, or a loss too large."""

import logging
from collections.abc import Generator

from cgdcli.errors import CGDError, TrainingError
from cgdcli.reports import Report, StepReport
from cgdcli.training.batches import Batch, BatchReader, share_skipped
from cgdcli.training.keeping import Keeper, Progress
from cgdcli.training.learner import Learner
from cgdcli.training.leaving import Leaving
from cgdcli.training.partial import PartialEpoch
from cgdcli.training.reporting import (
    STEPS_BEFORE_A_FORECAST,
    diverged,
    share_left,
    step_report,
)
from cgdcli.training.watching import is_judged
from cgdcli.words import resume_command

logger = logging.getLogger("cgdcli")

_SAVE, _LEAVE = 1, 2  # what is wished for after a step


class Steps:
    """Makes the steps of one epoch after the other.

    A run is stopped between two of them: what was learned in the epoch so far is saved, and it
    goes on from there bit for bit.
    """

    def __init__(
        self, learner: Learner, reader: BatchReader, keeper: Keeper, progress: Progress
    ) -> None:
        self.learner, self.reader, self.keeper = learner, reader, keeper
        self.progress, self.processes = progress, keeper.processes
        self.config, self.count, self.epochs = keeper.config, reader.batches.steps, keeper.epochs

    def epoch(self, number: int, leaving: Leaving) -> Generator[Report, None, PartialEpoch]:
        """What is still to do of an epoch; returns the whole of it.

        Raises:
            TrainingError: a loss or the weights are no longer finite, no picture can be read, or
                another process was told to stop.
        """
        partial = self.progress.partial = self.progress.partial or PartialEpoch()
        if (yield from self._rest(number, partial, leaving)):
            self._leave(leaving)
        partial.end()
        share_skipped(self.progress.skipped, self.processes)
        if partial.steps == 0:
            raise self.processes.agreed(
                TrainingError(
                    "no batch of two readable pictures could be made in a whole epoch",
                    hint="check the pictures: the skipped ones are named above",
                )
            )
        return partial

    def leave_if_told(self, leaving: Leaving) -> None:
        """Between two epochs, all being saved.

        Raises:
            TrainingError: another process was told to stop.
        """
        if self._wish(leaving) == _LEAVE:
            self._leave(leaving)

    def _leave(self, leaving: Leaving) -> None:
        leaving.go()
        # It was another process's signal, or one whose handler came back.
        hint = f"go on with: {resume_command(self.keeper.run)}"
        raise self.processes.agreed(TrainingError("the run was told to stop", hint=hint))

    def diverged(self, epoch: int, step: int) -> CGDError:
        """The error of a loss or of weights that are no longer finite."""
        rate = self.learner.rate()
        return self.processes.agreed(diverged(self.keeper.run, epoch, step, rate))

    def _rest(
        self, epoch: int, partial: PartialEpoch, leaving: Leaving
    ) -> Generator[Report, None, bool]:
        """The steps that are still wanted; whether a signal ended them, all being saved."""
        self.learner.to_training()
        partial.take_up()
        batch = None
        for batch in self.reader.epoch(epoch, partial.batches):
            yield self._step(epoch, partial, batch)
            wish = self._wish(leaving)
            if wish:
                self._check_numbers(epoch, partial, batch)
                self._save()
            if wish == _LEAVE:
                self._say_what_is_saved(epoch, partial)
                return True
        if batch is not None:
            self._check_numbers(epoch, partial, batch)
            wish = self._wish(leaving)
            if wish == _LEAVE or (wish and is_judged(epoch, self.epochs, self.config.evaluations)):
                self._save()  # judging may take as long
            if wish == _LEAVE:
                self._say_what_is_saved(epoch, partial)
                return True
        return False

    def _step(self, epoch: int, partial: PartialEpoch, batch: Batch) -> StepReport:
        number = (epoch - 1) * self.count + partial.steps
        figures = self.learner.step(batch.pixels, batch.labels, number, batch.sizes)
        if not figures.isfinite().all():
            raise self.diverged(epoch, partial.steps + 1)
        partial.add(batch, figures, self.learner.rate())
        return step_report(
            figures,
            epoch=epoch,
            step=partial.steps,
            steps=self.count,
            images_per_second=partial.images_per_second,
            left_seconds=self._left(epoch, partial),
            learning_rate=partial.learning_rate,
        )

    def _wish(self, leaving: Leaving) -> int:
        """What any of the processes wishes for; the same on all."""
        leave = leaving.came is not None
        return self.processes.most(_LEAVE if leave else _SAVE if self.keeper.is_due else 0)

    def _check_numbers(self, epoch: int, partial: PartialEpoch, batch: Batch) -> None:
        """Before anything is saved: a step's loss is that of the weights before it."""
        if not all(self.processes.gather(self.learner.gives_numbers(batch.pixels))):
            raise self.diverged(epoch, partial.steps)

    def _save(self) -> None:
        share_skipped(self.progress.skipped, self.processes)
        self.keeper.save_state(self.learner, self.progress)

    def _say_what_is_saved(self, epoch: int, partial: PartialEpoch) -> None:
        if self.processes.first:
            done = f"step {partial.steps} of {self.count} of epoch {epoch}"
            logger.warning("saved after %s", done)

    def _left(self, epoch: int, partial: PartialEpoch) -> float | None:
        """Expected seconds to the end by this epoch's pace; None while it is too early to say."""
        if partial.steps - partial.taken_up < min(STEPS_BEFORE_A_FORECAST, self.count):
            return None
        first = (epoch - 1) * self.count
        share = share_left(
            first + partial.taken_up,
            first + partial.steps,
            self.epochs * self.count,
            self.config.resting,
        )
        still = range(epoch, self.epochs + 1)
        judged = sum(is_judged(e, self.epochs, self.config.evaluations) for e in still)
        return partial.seconds_since * share + judged * self.progress.evaluation_seconds
