"""Judging a network while and after it trains: on val each epoch, on test once."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from cgdcli.config import Device, EmbedConfig
from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import DatasetError
from cgdcli.evaluation import JudgedTable, evaluate_table
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.reports import RecallReport
from cgdcli.weights.loading import load_model

logger = logging.getLogger("cgdcli")


class Judge:
    """Measures retrieval on a run's own pictures."""

    def __init__(
        self, data: TrainingData, device: torch.device, *, workers: int, skipped: dict[Path, str]
    ) -> None:
        self.data, self.device, self.skipped = data, Device(device.type), skipped
        self.config = EmbedConfig(workers=workers)
        self._kept: list[JudgedTable] = []

    def val(self, model: CGD) -> RecallReport:
        """The network as it is, on what `best` is chosen from."""
        return self._measure(model, self.data.val)

    def untrained(self, model: CGD) -> RecallReport:
        """The same on the pooled descriptors of the network's backbone, without its heads."""
        bare = replace(model.config, embedding_dim=None, classes=0, heads=(), learned_p=False)
        pooled = meta_model(bare)
        pooled.backbone = model.backbone
        return self.val(pooled)

    def test(self, checkpoint: Path) -> RecallReport | None:
        """The checkpoint that was kept, read back, on test; None where there is no test."""
        if self.data.test is None:
            return None
        report = self._measure(load_model(checkpoint), self.data.test, keep=True)
        return replace(report, what="test")

    def judged(self, checkpoint: Path) -> JudgedTable:
        """What `test` measured, query by query; where there is no test, the checkpoint on val."""
        if not self._kept:
            self._measure(load_model(checkpoint), self.data.test or self.data.val, keep=True)
        if not self._kept:
            raise DatasetError(
                "queries were searched in a gallery, and the page shows what was judged all "
                "against all",
                hint="cgd evaluate shows the figures",
            )
        return self._kept[-1]

    def _measure(self, model: CGD, table: ImageTable, *, keep: bool = False) -> RecallReport:
        on_judged = self._kept.append if keep else None
        engine = TorchEngine(model, self.device)
        report = evaluate_table(engine, table, self.config, on_judged=on_judged)
        for image in report.skipped:  # said once, like those of train, and exit code 3
            if Path(image.path) not in self.skipped:
                self.skipped[Path(image.path)] = image.reason
                logger.warning("skipped: `%s` %s", image.path, image.reason)
        return report
