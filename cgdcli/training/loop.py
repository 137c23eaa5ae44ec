"""Job: train a CGD. `train` runs it; `Trainer.reports` is the same, step by step."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgdcli.config import Cache, TrainConfig
from cgdcli.datasets.findings import ready_to_train
from cgdcli.datasets.reading import TrainingData, read_training_data
from cgdcli.engines.torch_engine import torch_device
from cgdcli.errors import CGDError, CheckpointError, ConfigError
from cgdcli.locks import writer_lock
from cgdcli.model.cgd import CGD
from cgdcli.reports import (
    EpochReport,
    RecallReport,
    Report,
    StartReport,
    TrainReport,
)
from cgdcli.training.batches import BatchReader
from cgdcli.training.beginning import initial_model
from cgdcli.training.board import check_tensorboard
from cgdcli.training.choices import decide, picture_side
from cgdcli.training.distributed import ALONE, Processes, joined
from cgdcli.training.ending import end_run
from cgdcli.training.judge import Judge
from cgdcli.training.keeping import (
    Keeper,
    Progress,
    refuse_other_data,
    saying_how_to_go_on,
)
from cgdcli.training.learner import Learner
from cgdcli.training.leaving import Leaving, signals_held_back
from cgdcli.training.listing import held_out_classes, list_pictures
from cgdcli.training.memory import memory_in_words
from cgdcli.training.metric_learning import require_losses
from cgdcli.training.partial import PartialEpoch
from cgdcli.training.places import choose_place, open_store, place_words
from cgdcli.training.reporting import (
    before_training,
    epoch_report,
)
from cgdcli.training.resuming import (
    Stopped,
    changes_to_say,
    config_to_go_on_with,
    read_stopped,
)
from cgdcli.training.run import (
    LOCKED,
    Settings,
    check_way_of_start,
    find_unfinished,
    has_state,
    make_run,
    named,
    remove_run,
    remove_state,
    run_path,
    write_settings,
)
from cgdcli.training.steps import Steps
from cgdcli.training.watching import is_judged, warn_of_collapse
from cgdcli.words import resume_command


def train(
    data: Path | str | None = None,
    config: TrainConfig | None = None,
    *,
    runs: Path | str = "runs",
    name: str | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
    on_report: Callable[[Report], None] | None = None,
) -> TrainReport:
    """Train on a folder of classes (or train/val/test of them) and return how it ended.

    In a program started by torchrun every process calls it, and they train one network together:
    the reports are the same on each, and the first process alone writes files.

    Args:
        data: see `datasets.folders`; with `resume` the run's own, unless given.
        resume: go on with the run `name`, or the newest unfinished one, with its own settings.
        changes: with `resume`, settings by name in place of the run's own; `MAY_CHANGE` may
            differ, `CANNOT_CHANGE` may not, the others want `force`.
        force: with `resume`, go on with pictures or settings that have changed, where the state
            fits them: the classes to train on must be the same.
        on_report: called with a `StartReport`, then `StepReport`s and `EpochReport`s.

    Raises:
        DatasetError: nothing to train on. OutputError: the run exists or cannot be written.
        TrainingError: nothing to resume, or the loss is not finite.
        MismatchError: pictures or settings of a resumed run have changed.
    """
    check_way_of_start(config, resume=resume, changes=changes, force=force)
    with joined() as processes:
        trainer = Trainer(
            data,
            config,
            runs=Path(runs),
            name=name,
            resume=resume,
            changes=changes,
            force=force,
            processes=processes,
        )
        for report in trainer.reports():
            if isinstance(report, TrainReport):
                return report
            if on_report:
                on_report(report)
    raise AssertionError("a run ends with a TrainReport")


class Trainer:
    """One run, from where it stands to its end."""

    def __init__(
        self,
        data: Path | str | None,
        config: TrainConfig | None,
        *,
        runs: Path,
        name: str | None,
        resume: bool,
        changes: Mapping[str, Any] | None = None,
        force: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.stopped: Stopped | None = None
        # What is read of files and environment, here as below: the first one's, for all of them.
        if resume:
            stopped = processes.on_first(lambda: read_stopped(find_unfinished(runs, name)))
            self.config = processes.on_first(lambda: config_to_go_on_with(stopped, changes or {}))
            self.stopped, self.run = stopped, stopped.run
            self.folder = Path(data or stopped.settings.data)
        else:
            if data is None:
                raise ConfigError("no data to train on; DATA is missing", hint="cgd train DATA")
            self.config = processes.on_first(lambda: config or TrainConfig())
            self.folder = Path(data)
            self.run = processes.on_first(lambda: run_path(runs, name, self.config))
        processes.together(self._check_extras)
        device = processes.together(lambda: torch_device(self.config.device, allow_mps=False))
        self.device = processes.own_device(device)
        self.data: TrainingData = processes.together(self._read_data)
        self.pictures = list_pictures(self.data, self.folder)
        refuse_other_data(self.pictures, self.folder, processes)
        self.changed = processes.on_first(lambda: self._changes_to_say(force))
        model = self._model().to(self.device)
        self._decide(model)
        self._prepare(model)

    def _prepare(self, model: CGD) -> None:
        """Make what does the work."""
        processes = self.processes
        self.keeper = Keeper(
            self.run,
            self.config,
            self.data,
            self.pictures,
            origin=str(self.folder),
            epochs=self.choices.epochs,
            processes=processes,
        )
        self.progress = Progress()
        self.reader = BatchReader(
            self.data.train,
            self.batches,
            self.config,
            side=self.choices.side,
            skipped=self.progress.skipped,
            processes=processes,
            pin=self.device.type == "cuda",
        )
        self.learner = Learner(
            model,
            self.config,
            steps=self.choices.epochs * self.choices.steps,
            precision=self.choices.precision,
            compiled_for=self.batches.batch_size if self.config.compile else None,
            processes=processes,
        )
        self.steps = Steps(self.learner, self.reader, self.keeper, self.progress)
        self.judge = Judge(
            self.data,
            self.device,
            workers=self.config.workers,
            skipped=self.progress.skipped,
            processes=processes,
        )

    def reports(self) -> Iterator[Report]:
        """Run to the end: StartReport, then steps and epochs, then TrainReport."""
        processes = self.processes
        made = processes.on_first(lambda: [] if self.stopped else make_run(self.run))
        try:
            with contextlib.ExitStack() as held:
                processes.on_first(lambda: self._lock(held))
                held.enter_context(saying_how_to_go_on(self.run))
                command = resume_command(self.run)
                held.enter_context(memory_in_words(self.batches.batch_size, self.device, command))
                yield from self._reports()
        finally:
            self.reader.keep_in(None)
            if processes.first and not has_state(self.run):
                remove_run(made)  # there is nothing to go on from: its name is free again

    def _lock(self, held: contextlib.ExitStack) -> None:
        self.keeper.lock = held.enter_context(writer_lock(self.run / LOCKED, named(self.run)))

    def _reports(self) -> Iterator[Report]:
        progress = self.progress
        self.keeper.tidy()
        if self.stopped is None:
            self.processes.on_first(self._write_settings)
            self.keeper.save_state(self.learner, progress)  # a stopped run can go on from here
        else:
            self._take_up(self.stopped)
        self.keeper.warn_of_little_room(self.learner)
        rank, side = self.processes.rank, self.choices.side
        store = self.processes.together(lambda: open_store(self.place, self.run, side, rank))
        self.reader.keep_in(store)
        yield self._start_report(progress.done)
        if not progress.epochs:
            yield self._begin()
        with signals_held_back(says=self.processes.first) as leaving:
            for epoch in range(progress.done + 1, self.choices.epochs + 1):
                yield from self._epoch(epoch, leaving)
                self.keeper.save(self.learner, progress)
                yield progress.epochs[-1]
                self.steps.leave_if_told(leaving)
        yield end_run(
            self.run,
            self.config,
            self.folder,
            progress,
            self.judge,
            self.processes,
            epochs=self.choices.epochs,
        )

    def _take_up(self, stopped: Stopped) -> None:
        """Go on from the state. What changed is written at once: it need not be forced twice."""
        self.keeper.restore(self.learner, self.progress, stopped.before)
        if self._settings() != stopped.settings or self.changed:
            self.processes.on_first(self._write_settings)
        if self.changed:
            self.keeper.save_state(self.learner, self.progress)
        self.keeper.show_on_board(self.progress)

    def _settings(self) -> Settings:
        return Settings(self.config, self.folder.absolute(), replace(self.choices, notes=()))

    def _write_settings(self) -> None:
        write_settings(self.run, self._settings(), self.data)

    def _begin(self) -> EpochReport:
        """Judge the backbone; a run whose pictures cannot even be judged leaves no folder."""
        try:
            judged = self._judged(lambda: self.judge.untrained(self.learner.model))
        except CGDError:
            if self.stopped is None and self.processes.first:
                remove_state(self.run)
            raise
        report = before_training(self.choices.epochs, self.config.learning_rate, judged)
        self.progress.epochs.append(report)
        self.keeper.save(self.learner, self.progress)
        return report

    def _judged(self, judge: Callable[[], RecallReport]) -> RecallReport:
        started = time.monotonic()
        report = judge()
        self.progress.evaluation_seconds = time.monotonic() - started
        return report

    def _read_data(self) -> TrainingData:
        data = read_training_data(
            self.folder,
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
            dataset=self.config.dataset,
            crop_box=self.config.crop_box,
            held_out=held_out_classes(self.stopped.pictures) if self.stopped else None,
        )
        return ready_to_train(data)

    def _check_extras(self) -> None:
        require_losses(self.config.loss)
        if self.config.tensorboard and self.processes.first:
            check_tensorboard()

    def _changes_to_say(self, force: bool) -> str:
        """What a run that is taken up goes on with that it did not begin with."""
        if self.stopped is None:
            return ""
        return changes_to_say(self.stopped, self.config, self.pictures, force=force)

    def _model(self) -> CGD:
        """The network to begin with. Weights come from the state on a resume, else from the first
        process: the backbone's file need not be there any more, or anywhere else."""
        config, classes = self.config, len(self.data.train.classes)
        if self.stopped or not self.processes.first:
            config = replace(config, backbone_weights="none")
        model = self.processes.together(lambda: initial_model(config, classes))
        self.processes.spread(model)
        return model

    def _decide(self, model: CGD) -> None:
        """Set where pictures are kept, the batches, and what was measured for them."""
        kept, changed = None, set[str]()
        if self.stopped is not None:
            kept = self.stopped.settings.choices
            changed = set(self.stopped.before.differences(self.config))
        side = picture_side(self.config, kept, changed)
        self.place = self.processes.together(
            lambda: choose_place(self.config, self.data.train, side, self.run)
        )
        self.batches, self.choices = decide(
            model,
            self.config,
            self.data,
            kept=kept,
            changed=changed,
            keeps=self.place.kind is not Cache.none,
            runs=self.run.parent,
            processes=self.processes,
        )

    def _epoch(self, epoch: int, leaving: Leaving) -> Iterator[Report]:
        partial = yield from self.steps.epoch(epoch, leaving)
        judged = self._judged_val(epoch, leaving)
        self.progress.seconds += partial.seconds
        self.progress.partial = None
        self._note(epoch, partial, judged)

    def _judged_val(self, epoch: int, leaving: Leaving) -> RecallReport | None:
        """What val says of the network, where it is time; a signal is not waited with."""
        if not is_judged(epoch, self.choices.epochs, self.config.evaluations):
            return None
        try:
            with leaving.let_go():
                return self._judged(lambda: self.judge.val(self.learner.judged_model()))
        except CheckpointError as error:  # the last step's weights are no longer finite
            raise self.steps.diverged(epoch, self.batches.steps) from error
        except BaseException as stop:
            if not isinstance(stop, Exception):  # a signal: the epoch's steps are not lost by it
                self.keeper.save_alone(self.learner, self.progress)
            raise

    def _note(self, epoch: int, partial: PartialEpoch, judged: RecallReport | None) -> None:
        can_choose = self.data.judged_on != "train"
        report = epoch_report(
            partial.means,
            epoch=epoch,
            epochs=self.choices.epochs,
            learning_rate=partial.learning_rate,
            images_per_second=partial.images_per_second,
            train_seconds=self.progress.seconds,
            evaluation=judged,
            is_best=judged is not None and can_choose and self.progress.is_better(judged),
        )
        self.progress.epochs.append(report)
        if self.processes.first:
            warn_of_collapse(report, self.config)

    def _start_report(self, done: int) -> StartReport:
        place = place_words(self.place, self.config)
        changed = [f"going on with what changed: {self.changed}"] if self.changed else []
        said = (*self.choices.notes, place, *self.processes.notes, *changed)
        return StartReport(
            run=self.run,
            classes=len(self.data.train.classes),
            images=len(self.data.train),
            steps_per_epoch=self.batches.steps,
            epochs=self.choices.epochs,
            first_epoch=done + 1,
            batch_size=self.batches.batch_size,
            device=str(self.device),
            judged_on=self.data.judged_on,
            notes=(*self.data.notes, *said),
            before=tuple(self.progress.epochs),
        )
