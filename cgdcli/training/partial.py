"""How far an epoch is: what a run that is stopped in the middle of one goes on from."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cgdcli.training.batches import Batch
from cgdcli.training.objective import FIGURES


@dataclass
class PartialEpoch:
    """The steps of an epoch that were made.

    Attributes:
        batches: of the sampler's that are done with, those that could not be read among them.
        steps: that were made.
        shown: pictures in them.
        sums: of the steps' `FIGURES`, float64.
        learning_rate: the backbone's of the last step.
        before: seconds of training until the run was last taken up.
        taken_up: steps that were made until then.
    """

    batches: int = 0
    steps: int = 0
    shown: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(len(FIGURES), dtype=torch.float64))
    learning_rate: float = 0.0
    before: float = 0.0

    def __post_init__(self) -> None:
        self.take_up()

    def take_up(self) -> None:
        """The time counts from here."""
        self.taken_up = self.steps
        self._started: float | None = time.monotonic()

    def end(self) -> None:
        """The time has counted until here."""
        self.before, self._started = self.seconds, None

    @property
    def seconds_since(self) -> float:
        """Of training since `take_up`."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    @property
    def seconds(self) -> float:
        """Of training, the time between stopping and going on left out."""
        return self.before + self.seconds_since

    @property
    def images_per_second(self) -> float:
        """Of all its steps."""
        return self.shown / self.seconds

    @property
    def means(self) -> Tensor:
        """Of the steps' `FIGURES`; there must have been one."""
        return self.sums / self.steps

    def add(self, batch: Batch, figures: Tensor, learning_rate: float) -> None:
        """Take a step into account."""
        self.batches, self.steps = batch.number + 1, self.steps + 1
        self.shown += sum(batch.sizes)
        self.sums += figures
        self.learning_rate = learning_rate

    def to_state(self) -> dict[str, Any]:
        """For the state's file; `PartialEpoch(**state)` is it again."""
        return {
            "batches": self.batches,
            "steps": self.steps,
            "shown": self.shown,
            "sums": self.sums,
            "learning_rate": self.learning_rate,
            "before": self.seconds,
        }
