"""Job: train a CGD. `train` runs it; `Trainer.reports` is the same, step by step."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgdcli.config import EmbedConfig, TrainConfig
from cgdcli.datasets.folders import TrainingData, read_training_data
from cgdcli.engines.torch_engine import TorchEngine, torch_device
from cgdcli.errors import ImageError, MismatchError, TrainingError
from cgdcli.evaluation import evaluate_table
from cgdcli.files import write_text, writer_lock
from cgdcli.images.decoding import Pixels, read_image
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.images.transforms import train_pixels
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
from cgdcli.training.losses import batch_hard_triplet, smoothed_cross_entropy
from cgdcli.training.run import (
    data_digest,
    find_unfinished,
    load_state,
    new_run,
    read_settings,
    save_state,
    write_metrics,
    write_settings,
)
from cgdcli.training.sampler import ClassBatches
from cgdcli.weights.checkpoint import Checkpoint, load_strictly
from cgdcli.weights.loading import (
    RESULT_FILE,
    download_backbone_weights,
    load_model,
    read_backbone_weights,
    run_checkpoint,
)

logger = logging.getLogger("cgdcli")

STEPS_BEFORE_A_FORECAST = 20


@dataclass(frozen=True)
class StepLosses:
    """The losses of one batch: scalars with gradient, and detached figures."""

    total: Tensor
    class_loss: Tensor
    triplet_loss: Tensor
    active: Tensor
    accuracy: Tensor


def train(
    data: Path | str | None = None,
    config: TrainConfig | None = None,
    *,
    runs: Path | str = "runs",
    name: str | None = None,
    resume: bool = False,
    on_report: Callable[[Report], None] | None = None,
) -> TrainReport:
    """Train on a folder of classes (or train/val/test of them) and return how it ended.

    Args:
        data: see `datasets.folders`; with `resume` the run's own, unless given.
        resume: go on with the run `name`, or the newest unfinished one, with its own settings.
        on_report: called with a `StartReport`, then `StepReport`s and `EpochReport`s.

    Raises:
        DatasetError: nothing to train on. OutputError: the run exists or cannot be written.
        TrainingError: nothing to resume, or the loss is not finite.
        MismatchError: the data of a resumed run has changed.
    """
    trainer = Trainer(data, config, runs=Path(runs), name=name, resume=resume)
    for report in trainer.reports():
        if isinstance(report, TrainReport):
            return report
        if on_report:
            on_report(report)
    raise AssertionError("a run ends with a TrainReport")


def step_losses(model: CGD, images: Tensor, labels: Tensor, config: TrainConfig) -> StepLosses:
    """Forward pass and both losses, weighted 1 : 1. images (B, 3, H, W), labels (B,) int64."""
    output = model(images)
    class_loss = smoothed_cross_entropy(
        output.logits, labels, smoothing=config.smoothing, temperature=config.temperature
    )
    triplet = batch_hard_triplet(output.embedding, labels, margin=config.margin)
    accuracy = (output.logits.detach().argmax(1) == labels).float().mean()
    total = class_loss + triplet.loss
    return StepLosses(total, class_loss, triplet.loss, triplet.active, accuracy)


def make_optimizer(model: CGD, config: TrainConfig) -> torch.optim.Adam:
    """The reference's: Adam over all parameters, no weight decay."""
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Of epoch 1, 2, ...: a tenth after 60 % and a hundredth after 80 % of the epochs."""
    passed = sum(epoch > int(share * config.epochs) for share in (0.6, 0.8))
    return config.learning_rate * 0.1**passed


def initial_model(config: TrainConfig, classes: int) -> CGD:
    """The network before training: heads drawn by the seed, the backbone's weights as asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CGD(config.model_config(classes))
    if config.backbone_weights == "none":
        return model
    if config.backbone_weights == "default":
        trunk = download_backbone_weights(config.backbone)
    else:
        trunk = read_backbone_weights(Path(config.backbone_weights), config.backbone)
    load_strictly(model.backbone, trunk, f"--backbone-weights {config.backbone_weights}")
    return model


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
    ) -> None:
        self.resumed = resume
        if resume:
            self.run = find_unfinished(runs, name)
            settings = read_settings(self.run)
            self.config, self.folder = settings.config, Path(data or settings.data)
        else:
            if data is None:
                raise TrainingError("no data to train on", hint="cgd train DATA")
            self.config, self.folder = config or TrainConfig(), Path(data)
        self.device = torch_device(self.config.device)
        self.data: TrainingData = read_training_data(
            self.folder, val_fraction=self.config.val_fraction, seed=self.config.seed
        )
        self.digest = data_digest(self.data, self.folder)
        self.batches = ClassBatches(
            self.data.train.class_indices,
            batch_size=self.config.batch_size,
            per_class=self.config.per_class,
            seed=self.config.seed,
        )
        self.model = self._model()
        if not resume:
            self.run = new_run(runs, name, self.config)
            write_settings(self.run, self.config, self.folder, self.data)
        self.model.to(self.device)
        self.optimizer = make_optimizer(self.model, self.config)
        self.epochs: list[EpochReport] = []
        self.seconds = 0.0
        self.evaluation_seconds = 0.0
        self.skipped: dict[Path, str] = {}

    def reports(self) -> Iterator[Report]:
        """Run to the end: StartReport, then steps and epochs, then TrainReport."""
        with writer_lock(self.run / "run"):
            done = self._restore() if self.resumed else 0
            yield self._start_report(done)
            if not self.epochs:
                self.epochs.append(self._before_training())
                self._save(0)
                yield self.epochs[0]
            for epoch in range(done + 1, self.config.epochs + 1):
                yield from self._epoch(epoch)
                self._save(epoch)
                yield self.epochs[-1]
            result = self._finish()
            write_text(self.run / RESULT_FILE, _json(result))
            yield result

    def _model(self) -> CGD:
        classes = len(self.data.train.classes)
        if self.resumed:  # weights come from the state; the backbone's need not be there any more
            return initial_model(replace(self.config, backbone_weights="none"), classes)
        return initial_model(self.config, classes)

    def _epoch(self, epoch: int) -> Iterator[Report]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, epoch)
        self.model.train()
        freeze_batch_norm(self.model)
        started, shown, steps = time.monotonic(), 0, 0
        sums = torch.zeros(5, dtype=torch.float64)
        for step, (pixels, labels) in enumerate(self._read_batches(epoch), start=1):
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
        means = (sums / steps).tolist()
        judged = self._evaluate()
        self.epochs.append(
            EpochReport(
                epoch,
                self.config.epochs,
                learning_rate(self.config, epoch),
                *means,
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
        losses.total.backward()
        self.optimizer.step()
        figures = (
            losses.total,
            losses.class_loss,
            losses.triplet_loss,
            losses.active,
            losses.accuracy,
        )
        return torch.stack([figure.detach() for figure in figures]).double().cpu()

    def _read_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 (B, H, W, 3) and labels; pictures that cannot be read are left out, and noted."""
        batches = self.batches.epoch(epoch)
        places = [(place, picture) for place, picture in enumerate(p for b in batches for p in b)]

        def read(item: tuple[int, int]) -> Pixels | None:
            return self._read(epoch, *item)

        workers = worker_count(self.config.workers)
        reads = read_ahead(read, places, workers=workers, ahead=2 * self.batches.batch_size)
        for batch in batches:
            pixels = [(next(reads), self.data.train.class_indices[picture]) for picture in batch]
            good = [(p, label) for p, label in pixels if p is not None]
            if len(good) < 2:
                continue
            yield (
                torch.from_numpy(np.stack([p for p, _ in good])),
                torch.tensor([label for _, label in good]),
            )

    def _read(self, epoch: int, place: int, picture: int) -> Pixels | None:
        path = self.data.train.paths[picture]
        # Drawn from seed, epoch and place: the same whichever thread reads it, and after a resume.
        rng = np.random.default_rng((self.config.seed, epoch, place))
        try:
            return train_pixels(read_image(path)[0], self.config.image_size, rng)
        except ImageError as error:
            if path not in self.skipped:
                self.skipped[path] = error.what
                logger.warning("skipped: %s", error.what)
            return None

    def _evaluate(self) -> RecallReport:
        started = time.monotonic()
        report = self._judge(self.model)
        self.model.train()
        self.evaluation_seconds = time.monotonic() - started
        return report

    def _judge(self, model: CGD) -> RecallReport:
        engine = TorchEngine(model, self.config.device)
        config = EmbedConfig(workers=self.config.workers, device=self.config.device)
        return evaluate_table(engine, self.data.val, config)

    def _before_training(self) -> EpochReport:
        """Epoch 0: the backbone's pooled descriptors, what training has to beat."""
        started = time.monotonic()
        with torch.device(self.device):
            pooled = CGD(replace(self.model.config, embedding_dim=None, classes=0))
        pooled.backbone = self.model.backbone
        judged = self._judge(pooled)
        self.evaluation_seconds = time.monotonic() - started
        nothing = dict.fromkeys(
            ("loss", "class_loss", "triplet_loss", "active_triplets", "accuracy")
        )
        return EpochReport(
            0,
            self.config.epochs,
            self.config.learning_rate,
            **nothing,
            images_per_second=None,
            train_seconds=0.0,
            evaluation=judged,
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
        save_state(
            self.run,
            {
                "epoch": epoch,
                "digest": self.digest,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "seconds": self.seconds,
                "evaluation_seconds": self.evaluation_seconds,
                "epochs": [e.to_dict() for e in self.epochs],
                "skipped": {str(path): reason for path, reason in self.skipped.items()},
            },
        )

    def _restore(self) -> int:
        state = load_state(self.run)
        if state["digest"] != self.digest:
            raise MismatchError(
                f"the pictures in `{self.folder}` are not those that the run `{self.run}` began with",
                hint="restore them, or start another run",
            )
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds = state["seconds"]
        self.evaluation_seconds = state["evaluation_seconds"]
        self.epochs = [_epoch_report(values) for values in state["epochs"]]
        self.skipped = {Path(path): reason for path, reason in state["skipped"].items()}
        return int(state["epoch"])

    def _finish(self) -> TrainReport:
        model = run_checkpoint(self.run)
        best = [e for e in self.epochs if e.is_best]
        chosen = best[-1] if best else self.epochs[-1]
        test = None
        if self.data.test is not None:
            engine = TorchEngine(load_model(model), self.config.device)
            config = EmbedConfig(workers=self.config.workers, device=self.config.device)
            test = replace(evaluate_table(engine, self.data.test, config), what="test")
        return TrainReport(
            run=self.run,
            model=model,
            best_epoch=best[-1].epoch if best else None,
            epochs=self.config.epochs,
            seconds=self.seconds,
            judged_on=self.data.judged_on,
            evaluation=chosen.evaluation,
            test=test,
            skipped=tuple(SkippedImage(str(p), reason) for p, reason in self.skipped.items()),
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
        """Expected seconds to the end, by this epoch's pace; None while there is too little to go by."""
        if step < min(STEPS_BEFORE_A_FORECAST, self.batches.steps):
            return None
        left = self.config.epochs - epoch
        steps = self.batches.steps - step + left * self.batches.steps
        return steps * elapsed / step + (left + 1) * self.evaluation_seconds

    def _diverged(self, epoch: int, step: int) -> TrainingError:
        rate = learning_rate(self.config, epoch)
        return TrainingError(
            f"the loss is no longer finite at step {step} of epoch {epoch}, learning rate {rate:g}",
            hint=f"lower --learning-rate; the last good weights are in `{self.run}`",
        )


def _rank(report: RecallReport) -> tuple[float, float]:
    return report.recall[1], report.map_at_r or 0.0


def _epoch_report(values: dict[str, object]) -> EpochReport:
    """From `EpochReport.to_dict`, whose rank keys became text."""
    judged = values["evaluation"]
    if isinstance(judged, dict):
        recall = {int(rank): share for rank, share in judged["recall"].items()}
        skipped = tuple(SkippedImage(**entry) for entry in judged["skipped"])
        values = values | {"evaluation": RecallReport(**judged | {"recall": recall, "skipped": skipped})}
    return EpochReport(**values)  # type: ignore[arg-type]


def _json(report: TrainReport) -> str:
    import json

    return json.dumps(report.to_dict(), indent=2) + "\n"
