"""What a run leaves on the disk after each epoch, and how it is taken up again."""

from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.config import TrainConfig
from cgdcli.datasets.reading import TrainingData
from cgdcli.errors import MismatchError
from cgdcli.reports import EpochReport, RecallReport, SkippedImage
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.training.learner import Learner
from cgdcli.training.run import (
    data_digest,
    epoch_from_dict,
    load_state,
    save_state,
    write_metrics,
)
from cgdcli.training.watching import rank
from cgdcli.weights.checkpoint import Checkpoint


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epochs: one report each, epoch 0 (before training) first.
        seconds: of training, without judging.
        evaluation_seconds: of the last judgement.
        skipped: pictures that could not be read, and why.
    """

    epochs: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    skipped: dict[Path, str] = field(default_factory=dict)

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


def refuse_other_data(data: TrainingData, folder: Path, processes: Processes) -> None:
    """Refuse processes that do not see the same pictures: they would train on something else.

    Raises:
        MismatchError: one does not.
    """
    if processes.alone:
        return
    digests = processes.gather(data_digest(data, folder))
    for number, digest in enumerate(digests):
        if digest != digests[0]:
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
        folder: of the data, as given.
        epochs: of the whole run.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        data: TrainingData,
        folder: Path,
        epochs: int,
        processes: Processes = ALONE,
    ) -> None:
        self.run, self.config, self.epochs = run, config, epochs
        self.data, self.folder, self.processes = data, folder, processes
        self.digest = data_digest(data, folder)

    def save(self, learner: Learner, progress: Progress) -> None:
        """Checkpoints first, the state last: what the state speaks of is there."""
        self.processes.on_first(lambda: self._save(learner, progress))

    def _save(self, learner: Learner, progress: Progress) -> None:
        report = progress.epochs[-1]
        checkpoint = self._checkpoint(learner, report)
        if report.epoch > 0:
            checkpoint.save(self.run / "last.safetensors")
        if report.is_best:
            checkpoint.save(self.run / "best.safetensors")
        write_metrics(self.run, progress.epochs)
        self._save_state(learner, progress)

    def _checkpoint(self, learner: Learner, report: EpochReport) -> Checkpoint:
        kept = learner.judged_model()
        return Checkpoint(
            kept.config,
            {name: value.contiguous() for name, value in kept.state_dict().items()},
            class_names=self.data.train.classes,
            origin={"trained_by": "cgd train", "run": self.run.name, "data": str(self.folder)},
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

    def save_state(self, learner: Learner, progress: Progress) -> None:
        """What the run goes on from."""
        self.processes.on_first(lambda: self._save_state(learner, progress))

    def _save_state(self, learner: Learner, progress: Progress) -> None:
        save_state(
            self.run,
            {
                "epoch": progress.done,
                "digest": self.digest,
                **learner.state(),
                "seconds": progress.seconds,
                "evaluation_seconds": progress.evaluation_seconds,
                "epochs": [e.to_dict() for e in progress.epochs],
                "skipped": {str(path): reason for path, reason in progress.skipped.items()},
            },
        )

    def restore(self, learner: Learner, progress: Progress) -> None:
        """Bring both to where the run stopped.

        Raises:
            MismatchError: the pictures are no longer those that it began with.
        """
        state = self.processes.on_first(lambda: load_state(self.run))
        self.processes.together(lambda: self._check_digest(state["digest"]))
        learner.restore(state)
        progress.seconds = state["seconds"]
        progress.evaluation_seconds = state["evaluation_seconds"]
        progress.epochs[:] = [epoch_from_dict(values) for values in state["epochs"]]
        progress.skipped |= {Path(path): reason for path, reason in state["skipped"].items()}

    def _check_digest(self, began_with: str) -> None:
        if self.digest != began_with:
            raise MismatchError(
                f"the pictures in `{self.folder}` are not those that `{self.run}` began with",
                hint="restore them, or start another run",
            )
