"""Job: train a CGD. `train` runs it; `Trainer.reports` is the same, step by step."""

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgdcli.config import Device, TrainConfig
from cgdcli.datasets.findings import ready_to_train
from cgdcli.datasets.reading import TrainingData, read_training_data
from cgdcli.engines.torch_engine import torch_device
from cgdcli.errors import CGDError, CheckpointError, ConfigError, MismatchError, TrainingError
from cgdcli.files import write_text, writer_lock
from cgdcli.model.cgd import CGD, freeze_batch_norm, normalize_pixels
from cgdcli.reports import (
    EpochReport,
    RecallReport,
    Report,
    SkippedImage,
    StartReport,
    StepReport,
    TrainReport,
)
from cgdcli.training.batches import BatchReader
from cgdcli.training.judge import Judge
from cgdcli.training.run import (
    data_digest,
    epoch_from_dict,
    find_unfinished,
    load_state,
    new_run,
    read_settings,
    save_state,
    write_metrics,
    write_settings,
)
from cgdcli.training.sampler import ClassBatches
from cgdcli.training.steps import initial_model, learning_rate, make_optimizer, step_losses
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.loading import (
    RESULT_FILE,
    run_checkpoint,
)

logger = logging.getLogger("cgdcli")

STEPS_BEFORE_A_FORECAST = 20


def train(
    data: Path | str | None = None,
    config: TrainConfig | None = None,
    *,
    runs: Path | str = "runs",
    name: str | None = None,
    resume: bool = False,
    device: Device | None = None,
    workers: int | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> TrainReport:
    """Train on a folder of classes (or train/val/test of them) and return how it ended.

    Args:
        data: see `datasets.folders`; with `resume` the run's own, unless given.
        resume: go on with the run `name`, or the newest unfinished one, with its own settings.
        device, workers: with `resume`, in place of the run's own.
        on_report: called with a `StartReport`, then `StepReport`s and `EpochReport`s.

    Raises:
        DatasetError: nothing to train on. OutputError: the run exists or cannot be written.
        TrainingError: nothing to resume, or the loss is not finite.
        MismatchError: the data of a resumed run has changed.
    """
    changes = {"device": device, "workers": workers}
    changes = {key: value for key, value in changes.items() if value is not None}
    trainer = Trainer(data, config, runs=Path(runs), name=name, resume=resume, changes=changes)
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
        changes: dict[str, Any] | None = None,
    ) -> None:
        self.resumed = resume
        if resume:
            self.run = find_unfinished(runs, name)
            settings = read_settings(self.run)
            self.config = replace(settings.config, **changes or {})
            self.folder = Path(data or settings.data)
        else:
            if data is None:
                raise ConfigError("no data to train on; DATA is missing", hint="cgd train DATA")
            self.config, self.folder = config or TrainConfig(), Path(data)
        self.device = torch_device(self.config.device, allow_mps=False)
        self.data: TrainingData = read_training_data(
            self.folder,
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
            dataset=self.config.dataset,
            crop_box=self.config.crop_box,
        )
        self.data = ready_to_train(self.data)
        self.digest = data_digest(self.data, self.folder)
        self.batches = ClassBatches(
            self.data.train.class_indices,
            batch_size=self.config.batch_size,
            per_class=self.config.per_class,
            seed=self.config.seed,
        )
        self.reader = BatchReader(self.data.train, self.batches, self.config)
        self.model = self._model()
        if not resume:
            self.run = new_run(runs, name, self.config)
            write_settings(self.run, self.config, self.folder, self.data)
        self.model.to(self.device)
        self.optimizer = make_optimizer(self.model, self.config)
        self.epochs: list[EpochReport] = []
        self.seconds = 0.0
        self.judge = Judge(
            self.data, self.device, workers=self.config.workers, skipped=self.reader.skipped
        )

    def reports(self) -> Iterator[Report]:
        """Run to the end: StartReport, then steps and epochs, then TrainReport."""
        with writer_lock(self.run / "run"):
            done = self._restore() if self.resumed else 0
            yield self._start_report(done)
            if not self.epochs:
                yield self._begin()
            for epoch in range(done + 1, self.config.epochs + 1):
                yield from self._epoch(epoch)
                self._save(epoch)
                yield self.epochs[-1]
            result = self._finish()
            write_text(self.run / RESULT_FILE, _json(result))
            yield result

    def _begin(self) -> EpochReport:
        """Judge the backbone; a run whose pictures cannot even be judged leaves no folder."""
        self._save_state(0)  # from here on a stopped run can go on
        try:
            self.epochs.append(self._before_training())
        except CGDError:
            if not self.resumed:
                shutil.rmtree(self.run)
                with contextlib.suppress(OSError):  # not empty: other runs
                    self.run.parent.rmdir()
            raise
        self._save(0)
        return self.epochs[0]

    def _model(self) -> CGD:
        classes = len(self.data.train.classes)
        if self.resumed:  # weights come from the state; the backbone's need not be there any more
            return initial_model(replace(self.config, backbone_weights="none"), classes)
        return initial_model(self.config, classes)

    def _epoch(self, epoch: int) -> Iterator[Report]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, epoch)
        self._to_training()
        started, shown, steps = time.monotonic(), 0, 0
        sums = torch.zeros(5, dtype=torch.float64)
        for step, (pixels, labels) in enumerate(self.reader.epoch(epoch), start=1):
            figures = self._step(pixels, labels)
            if not figures.isfinite().all():
                raise self._diverged(epoch, step)
            sums += figures
            shown, steps = shown + len(labels), steps + 1
            elapsed = time.monotonic() - started
            yield StepReport(
                epoch,
                step,
                self.batches.steps,
                float(figures[0]),
                shown / elapsed,
                self._left(epoch, step, elapsed),
            )
        if steps == 0:
            raise TrainingError(
                "no batch of two readable pictures could be made in a whole epoch",
                hint="check the pictures: the skipped ones are named above",
            )
        elapsed = time.monotonic() - started
        self.seconds += elapsed
        loss, class_loss, triplet_loss, active, accuracy = (sums / steps).tolist()
        try:
            judged = self.judge.val(self.model)
        except CheckpointError as error:  # the last step's weights are no longer finite
            raise self._diverged(epoch, steps) from error
        self.epochs.append(
            EpochReport(
                epoch,
                self.config.epochs,
                learning_rate(self.config, epoch),
                loss,
                class_loss,
                triplet_loss,
                active,
                accuracy,
                images_per_second=shown / elapsed,
                train_seconds=self.seconds,
                evaluation=judged,
                is_best=self._is_best(judged),
            )
        )

    def _step(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step; loss, class loss, triplet loss, active share and accuracy."""
        images = normalize_pixels(pixels.to(self.device), self.model.config)
        losses = step_losses(self.model, images, labels.to(self.device), self.config)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.total)
        self.optimizer.step()
        figures = (
            losses.total,
            losses.class_loss,
            losses.triplet_loss,
            losses.active,
            losses.accuracy,
        )
        return torch.stack([figure.detach() for figure in figures]).cpu().double()

    def _to_training(self) -> None:
        """BatchNorm statistics of pretrained weights stay; of random ones there is none to keep.

        (Drawn pictures, resnet18 from scratch: with frozen statistics the embedding collapsed.)
        """
        self.model.train()
        if self.config.backbone_weights != "none":
            freeze_batch_norm(self.model)

    def _before_training(self) -> EpochReport:
        """Epoch 0: the backbone's pooled descriptors, what training has to beat."""
        return EpochReport(
            0,
            self.config.epochs,
            self.config.learning_rate,
            loss=None,
            class_loss=None,
            triplet_loss=None,
            active_triplets=None,
            accuracy=None,
            images_per_second=None,
            train_seconds=0.0,
            evaluation=self.judge.untrained(self.model),
            is_best=False,
        )

    def _is_best(self, judged: RecallReport) -> bool:
        if self.data.judged_on == "train":
            return False
        before = [e.evaluation for e in self.epochs if e.evaluation and e.epoch > 0]
        return all(_rank(judged) > _rank(other) for other in before)

    def _save(self, epoch: int) -> None:
        """Checkpoints first, the state last: what the state speaks of is there."""
        report = self.epochs[-1]
        checkpoint = Checkpoint(
            self.model.config,
            dict(self.model.state_dict()),
            class_names=self.data.train.classes,
            origin={"trained_by": "cgd train", "run": self.run.name, "data": str(self.folder)},
            training={
                "epoch": epoch,
                "epochs": self.config.epochs,
                "seed": self.config.seed,
                "judged_on": self.data.judged_on,
                "held_out": list(self.data.held_out),
                "evaluation": report.evaluation.to_dict() if report.evaluation else None,
            },
        )
        if epoch > 0:
            checkpoint.save(self.run / "last.safetensors")
        if report.is_best:
            checkpoint.save(self.run / "best.safetensors")
        write_metrics(self.run, self.epochs)
        self._save_state(epoch)

    def _save_state(self, epoch: int) -> None:
        save_state(
            self.run,
            {
                "epoch": epoch,
                "digest": self.digest,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "seconds": self.seconds,
                "evaluation_seconds": self.judge.seconds,
                "epochs": [e.to_dict() for e in self.epochs],
                "skipped": {str(path): reason for path, reason in self.reader.skipped.items()},
            },
        )

    def _restore(self) -> int:
        state = load_state(self.run)
        if state["digest"] != self.digest:
            raise MismatchError(
                f"the pictures in `{self.folder}` are not those that `{self.run}` began with",
                hint="restore them, or start another run",
            )
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds = state["seconds"]
        self.judge.seconds = state["evaluation_seconds"]
        self.epochs = [epoch_from_dict(values) for values in state["epochs"]]
        self.reader.skipped |= {Path(path): reason for path, reason in state["skipped"].items()}
        return int(state["epoch"])

    def _finish(self) -> TrainReport:
        model = run_checkpoint(self.run)
        best = [e for e in self.epochs if e.is_best]
        chosen = best[-1] if best else self.epochs[-1]
        test = self.judge.test(model)
        self._compare_with_untrained(chosen)
        return TrainReport(
            run=self.run,
            model=model,
            best_epoch=best[-1].epoch if best else None,
            epochs=self.config.epochs,
            seconds=self.seconds,
            judged_on=self.data.judged_on,
            evaluation=chosen.evaluation,
            test=test,
            skipped=tuple(
                SkippedImage(str(p), reason) for p, reason in self.reader.skipped.items()
            ),
        )

    def _compare_with_untrained(self, chosen: EpochReport) -> None:
        before, after = self.epochs[0].evaluation, chosen.evaluation
        if before and after and _rank(after) < _rank(before):
            logger.warning(
                "training made it worse: R@1 %.4f, and %.4f by the backbone's pooled descriptors "
                "before; try more pictures, more --epochs or another --learning-rate",
                after.recall[1],
                before.recall[1],
            )

    def _start_report(self, done: int) -> StartReport:
        return StartReport(
            run=self.run,
            classes=len(self.data.train.classes),
            images=len(self.data.train),
            steps_per_epoch=self.batches.steps,
            epochs=self.config.epochs,
            first_epoch=done + 1,
            batch_size=self.batches.batch_size,
            device=str(self.device),
            judged_on=self.data.judged_on,
            notes=self.data.notes,
        )

    def _left(self, epoch: int, step: int, elapsed: float) -> float | None:
        """Expected seconds to the end by this epoch's pace; None while it is too early to say."""
        if step < min(STEPS_BEFORE_A_FORECAST, self.batches.steps):
            return None
        left = self.config.epochs - epoch
        steps = self.batches.steps - step + left * self.batches.steps
        return steps * elapsed / step + (left + 1) * self.judge.seconds

    def _diverged(self, epoch: int, step: int) -> TrainingError:
        rate = learning_rate(self.config, epoch)
        return TrainingError(
            f"the loss is no longer finite at step {step} of epoch {epoch}, learning rate {rate:g}",
            hint=f"lower --learning-rate; the last good weights are in `{self.run}`",
        )


def _rank(report: RecallReport) -> tuple[float, float]:
    return report.recall[1], report.map_at_r or 0.0


def _json(report: TrainReport) -> str:
    return json.dumps(report.to_dict(), indent=2) + "\n"
