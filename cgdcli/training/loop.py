"""Job: train a CGD. `train` runs it; `Trainer.reports` is the same, step by step."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgdcli.config import TrainConfig
from cgdcli.datasets.findings import ready_to_train
from cgdcli.datasets.reading import TrainingData, read_training_data
from cgdcli.engines.torch_engine import torch_device
from cgdcli.errors import CGDError, CheckpointError, ConfigError, TrainingError
from cgdcli.files import write_text, writer_lock
from cgdcli.images.filestore import remove_stores
from cgdcli.judging.report import finish_run
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
from cgdcli.training.choices import Choices, choose, choose_again, choose_batch_size
from cgdcli.training.judge import Judge
from cgdcli.training.keeping import Keeper, Progress, saying_how_to_go_on
from cgdcli.training.learner import Learner
from cgdcli.training.listing import held_out_classes, list_pictures
from cgdcli.training.memory import memory_in_words
from cgdcli.training.objective import FIGURES
from cgdcli.training.places import choose_place, open_store, place_words
from cgdcli.training.reporting import (
    STEPS_BEFORE_A_FORECAST,
    before_training,
    epoch_report,
    step_report,
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
    find_unfinished,
    has_state,
    make_run,
    named,
    remove_run,
    remove_state,
    run_path,
    write_settings,
)
from cgdcli.training.sampler import ClassBatches
from cgdcli.training.watching import is_judged, warn_if_worse, warn_of_collapse
from cgdcli.weights.loading import RESULT_FILE, run_checkpoint
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
    trainer = Trainer(
        data, config, runs=Path(runs), name=name, resume=resume, changes=changes, force=force
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
    ) -> None:
        self.stopped: Stopped | None = None
        if resume:
            self.run = find_unfinished(runs, name)
            self.stopped = read_stopped(self.run)
            self.config = config_to_go_on_with(self.stopped, changes or {})
            self.folder = Path(data or self.stopped.settings.data)
        else:
            if data is None:
                raise ConfigError("no data to train on; DATA is missing", hint="cgd train DATA")
            self.config, self.folder = config or TrainConfig(), Path(data)
            self.run = run_path(runs, name, self.config)
        if self.config.tensorboard:
            check_tensorboard()
        self.device = torch_device(self.config.device, allow_mps=False)
        self.data: TrainingData = read_training_data(
            self.folder,
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
            dataset=self.config.dataset,
            crop_box=self.config.crop_box,
            held_out=held_out_classes(self.stopped.pictures) if self.stopped else None,
        )
        self.data = ready_to_train(self.data)
        self.changed = self._changes_to_say(force)
        model = self._model().to(self.device)
        self.batches, self.choices = self._choose(model)
        self.place = choose_place(self.config, self.data.train, self.choices.side, self.run)
        self.keeper = Keeper(self.run, self.config, self.data, self.folder, self.choices.epochs)
        self.progress = Progress()
        self.reader = BatchReader(
            self.data.train,
            self.batches,
            self.config,
            side=self.choices.side,
            skipped=self.progress.skipped,
            pin=self.device.type == "cuda",
        )
        self.learner = Learner(
            model,
            self.config,
            steps=self.choices.epochs * self.choices.steps,
            precision=self.choices.precision,
            compiled_for=self.batches.batch_size if self.config.compile else None,
        )
        self.judge = Judge(
            self.data,
            self.device,
            workers=self.config.workers,
            skipped=self.progress.skipped,
        )

    def reports(self) -> Iterator[Report]:
        """Run to the end: StartReport, then steps and epochs, then TrainReport."""
        made = make_run(self.run) if self.stopped is None else []
        try:
            with (
                writer_lock(self.run / LOCKED, named(self.run)),
                saying_how_to_go_on(self.run),
                memory_in_words(self.batches.batch_size, self.device, resume_command(self.run)),
            ):
                yield from self._reports()
        finally:
            self.reader.keep_in(None)
            if not has_state(self.run):
                remove_run(made)  # there is nothing to go on from: its name is free again

    def _reports(self) -> Iterator[Report]:
        progress = self.progress
        if self.stopped is None:
            self._write_settings()
            self.keeper.save_state(self.learner, progress)  # a stopped run can go on from here
        else:
            self._take_up(self.stopped)
        self.keeper.warn_of_little_room(self.learner)
        self.reader.keep_in(open_store(self.place, self.run, self.choices.side))
        yield self._start_report(progress.done)
        if not progress.epochs:
            yield self._begin()
        for epoch in range(progress.done + 1, self.choices.epochs + 1):
            yield from self._epoch(epoch)
            self.keeper.save(self.learner, progress)
            yield progress.epochs[-1]
        result = self._finish()
        write_text(self.run / RESULT_FILE, _json(result))
        remove_stores(self.run)
        yield result

    def _take_up(self, stopped: Stopped) -> None:
        """Go on from the state. What changed is written at once: it need not be forced twice."""
        self.keeper.restore(self.learner, self.progress, stopped.before)
        if self._settings() != stopped.settings or self.changed:
            self._write_settings()
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
            if self.stopped is None:
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

    def _model(self) -> CGD:
        classes = len(self.data.train.classes)
        if self.stopped:  # weights come from the state; the backbone's need not be there any more
            return initial_model(replace(self.config, backbone_weights="none"), classes)
        return initial_model(self.config, classes)

    def _changes_to_say(self, force: bool) -> str:
        """What a run that is taken up goes on with that it did not begin with."""
        if self.stopped is None:
            return ""
        pictures = list_pictures(self.data, self.folder)
        return changes_to_say(self.stopped, self.config, pictures, force=force)

    def _choose(self, model: CGD) -> tuple[ClassBatches, Choices]:
        """What is measured; the batch size first, since the number of steps depends on it."""
        kept, changed = None, set[str]()
        if self.stopped is not None:
            kept = self.stopped.settings.choices
            changed = set(self.stopped.before.differences(self.config))
        size, said = choose_batch_size(model, self.config, kept, changed)
        batches = ClassBatches(
            self.data.train.class_indices,
            batch_size=size,
            per_class=self.config.per_class,
            seed=self.config.seed,
        )
        given = (model, self.config, batches.batch_size, batches.steps)
        with memory_in_words(batches.batch_size, self.device, ""):
            if kept is None:
                choices = choose(*given, len(self.data.val))
            else:
                choices = choose_again(kept, changed, *given)
        batches.steps = choices.steps
        return batches, replace(choices, batch_size=size, notes=(*said, *choices.notes))

    def _epoch(self, epoch: int) -> Iterator[Report]:
        self.learner.to_training()
        started, shown, steps = time.monotonic(), 0, 0
        sums = torch.zeros(len(FIGURES), dtype=torch.float64)
        before = (epoch - 1) * self.batches.steps
        for step, (pixels, labels) in enumerate(self.reader.epoch(epoch), start=1):
            figures = self.learner.step(pixels, labels, before + step - 1)
            if not figures.isfinite().all():
                raise self._diverged(epoch, step)
            sums += figures
            shown, steps = shown + len(labels), steps + 1
            elapsed = time.monotonic() - started
            yield step_report(
                figures,
                epoch=epoch,
                step=step,
                steps=self.batches.steps,
                images_per_second=shown / elapsed,
                left_seconds=self._left(epoch, step, elapsed),
                learning_rate=self.learner.rate(),
            )
        if steps == 0:
            raise TrainingError(
                "no batch of two readable pictures could be made in a whole epoch",
                hint="check the pictures: the skipped ones are named above",
            )
        elapsed = time.monotonic() - started
        self.progress.seconds += elapsed
        self._close_epoch(epoch, sums / steps, shown / elapsed)

    def _close_epoch(self, epoch: int, means: Tensor, images_per_second: float) -> None:
        """Judge, where it is time, and note the epoch."""
        judged = None
        if is_judged(epoch, self.choices.epochs, self.config.evaluations):
            try:
                judged = self._judged(lambda: self.judge.val(self.learner.judged_model()))
            except CheckpointError as error:  # the last step's weights are no longer finite
                raise self._diverged(epoch, self.batches.steps) from error
        can_choose = self.data.judged_on != "train"
        report = epoch_report(
            means,
            epoch=epoch,
            epochs=self.choices.epochs,
            learning_rate=self.learner.rate(),
            images_per_second=images_per_second,
            train_seconds=self.progress.seconds,
            evaluation=judged,
            is_best=judged is not None and can_choose and self.progress.is_better(judged),
        )
        self.progress.epochs.append(report)
        warn_of_collapse(report, self.config)

    def _finish(self) -> TrainReport:
        model, progress = run_checkpoint(self.run), self.progress
        best = progress.best
        chosen = best or progress.epochs[-1]
        test = self.judge.test(model)
        warn_if_worse(progress.epochs[0], chosen)
        result = TrainReport(
            run=self.run,
            model=model,
            best_epoch=best.epoch if best else None,
            epochs=self.choices.epochs,
            seconds=progress.seconds,
            judged_on=self.data.judged_on,
            evaluation=chosen.evaluation,
            test=test,
            skipped=progress.skipped_images(),
        )
        judged = partial(self.judge.judged, model)
        finish_run(result, judged, progress.epochs, self.config, self.folder)
        return result

    def _start_report(self, done: int) -> StartReport:
        place = place_words(self.place, self.config)
        changed = [f"going on with what changed: {self.changed}"] if self.changed else []
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
            notes=(*self.data.notes, *self.choices.notes, place, *changed),
            before=tuple(self.progress.epochs),
        )

    def _left(self, epoch: int, step: int, elapsed: float) -> float | None:
        """Expected seconds to the end by this epoch's pace; None while it is too early to say."""
        if step < min(STEPS_BEFORE_A_FORECAST, self.batches.steps):
            return None
        last = self.choices.epochs
        steps = self.batches.steps - step + (last - epoch) * self.batches.steps
        judged = sum(is_judged(e, last, self.config.evaluations) for e in range(epoch, last + 1))
        return steps * elapsed / step + judged * self.progress.evaluation_seconds

    def _diverged(self, epoch: int, step: int) -> TrainingError:
        good = [name for name in ("last", "best") if (self.run / f"{name}.safetensors").is_file()]
        kept = (
            f"the last good weights are `{self.run / good[0]}.safetensors`"
            if good
            else ("no epoch was finished before")
        )
        return TrainingError(
            f"the loss is no longer finite at step {step} of epoch {epoch}, learning rate "
            f"{self.learner.rate():g}",
            hint=f"lower --learning-rate; {kept}",
        )


def _json(report: TrainReport) -> str:
    return json.dumps(report.to_dict(), indent=2) + "\n"
