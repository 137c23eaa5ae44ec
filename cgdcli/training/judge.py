"""Judging a network while and after it trains: on val each epoch, on test once."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from cgdcli.config import Device, EmbedConfig
from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.evaluation import (
    EmbeddedTable,
    JudgedTable,
    embed_part,
    evaluate_table,
    join_parts,
)
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.reports import RecallReport
from cgdcli.training.distributed import ALONE, Processes
from cgdcli.weights.loading import load_model

logger = logging.getLogger("cgdcli")


class Judge:
    """Measures retrieval on a run's own pictures.

    Several processes embed a table together, and the first one scores it; each gets the report.
    """

    def __init__(
        self,
        data: TrainingData,
        device: torch.device,
        *,
        workers: int,
        skipped: dict[Path, str],
        processes: Processes = ALONE,
    ) -> None:
        self.data, self.device, self.skipped = data, Device(device.type), skipped
        self.config, self.processes = EmbedConfig(workers=workers), processes
        self._kept: list[JudgedTable] = []
        self._has_kept = False

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
        report = self._keep(checkpoint, self.data.test)
        return replace(report, what="test")

    def prepare(self, checkpoint: Path) -> None:
        """Measure what `judged` gives, if it was not yet; called by every process."""
        if not self._has_kept:
            self._keep(checkpoint, self.data.test or self.data.val)

    def judged(self, checkpoint: Path) -> JudgedTable:
        """What `test` measured, query by query; where there is no test, the checkpoint on val."""
        self.prepare(checkpoint)
        return self._kept[-1]

    def _keep(self, checkpoint: Path, table: ImageTable) -> RecallReport:
        self._has_kept = True
        model = self.processes.on_first(lambda: load_model(checkpoint))  # others may not see it
        return self._measure(model, table, keep=True)

    def _measure(self, model: CGD, table: ImageTable, *, keep: bool = False) -> RecallReport:
        on_judged = self._kept.append if keep else None
        engine = TorchEngine(model, self.device)
        parts = self._parts(engine, table)

        def judge() -> RecallReport:
            embedded = join_parts(parts) if parts else None
            return evaluate_table(
                engine, table, self.config, embedded=embedded, on_judged=on_judged
            )

        report = self.processes.on_first(judge)
        for image in report.skipped:  # said once, like those of train, and exit code 3
            if Path(image.path) not in self.skipped:
                self.skipped[Path(image.path)] = image.reason
                if self.processes.first:
                    logger.warning("skipped: `%s` %s", image.path, image.reason)
        return report

    def _parts(self, engine: TorchEngine, table: ImageTable) -> list[EmbeddedTable]:
        """What each of several processes embeds of a table: whole batches, those of one process.

        A picture's row may differ in its last bits with the batch that it is in.
        """
        if self.processes.alone:
            return []
        size = self.config.pass_size(on_cpu=engine.on_cpu)
        batches = self.processes.part(-(-len(table) // size))
        places = range(batches.start * size, min(batches.stop * size, len(table)))
        own = self.processes.together(lambda: embed_part(engine, table, self.config, places))
        return self.processes.gather_on_first(own)
