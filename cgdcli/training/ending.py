"""How a run ends: its checkpoint judged on test, its result and its page written."""

import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from cgdcli.config import TrainConfig
from cgdcli.errors import CGDError
from cgdcli.files import write_text
from cgdcli.images.filestore import remove_stores
from cgdcli.judging.report import finish_run
from cgdcli.reports import RecallReport, TrainReport
from cgdcli.training.distributed import Processes
from cgdcli.training.judge import Judge
from cgdcli.training.keeping import Progress
from cgdcli.training.metrics import write_metrics
from cgdcli.training.watching import warn_if_worse
from cgdcli.weights.loading import load_model
from cgdcli.weights.sources import RESULT_FILE, run_checkpoint


def end_run(
    run: Path,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
    judge: Judge,
    processes: Processes,
    *,
    epochs: int,
) -> TrainReport:
    """Judge what was kept, on test where there is one, and finish the run's folder.

    Called by every process: they embed together, and the first one writes.

    Args:
        folder: of the pictures.
        epochs: that the run was to have.
    """
    model = processes.on_first(lambda: run_checkpoint(run))
    _judge_unjudged(run, model, progress, judge, processes)
    test = judge.test(model)
    if not processes.alone:  # what the page shows is embedded by all; written by the first
        with contextlib.suppress(CGDError):
            judge.prepare(model)

    def write() -> TrainReport:
        result = _result(run, model, progress, judge, test, epochs)
        finish_run(result, partial(judge.judged, model), progress.epochs, config, folder)
        write_text(run / RESULT_FILE, json.dumps(result.to_dict(), indent=2) + "\n")
        remove_stores(run)
        return result

    return processes.on_first(write)


def _judge_unjudged(
    run: Path, model: Path, progress: Progress, judge: Judge, processes: Processes
) -> None:
    """Judge the last epoch's checkpoint where none was: --epochs may end a resumed run at an epoch
    that was not to be judged."""
    last = progress.epochs[-1]
    if progress.best is None and last.evaluation is None:
        kept = processes.on_first(lambda: load_model(model))  # others may not see it
        progress.epochs[-1] = replace(last, evaluation=judge.val(kept))
        processes.on_first(lambda: write_metrics(run, progress.epochs))


def _result(
    run: Path,
    model: Path,
    progress: Progress,
    judge: Judge,
    test: RecallReport | None,
    epochs: int,
) -> TrainReport:
    best = progress.best
    chosen = best or progress.epochs[-1]
    warn_if_worse(progress.epochs[0], chosen)
    return TrainReport(
        run=run,
        model=model,
        best_epoch=best.epoch if best else None,
        epochs=epochs,
        seconds=progress.seconds,
        judged_on=judge.data.judged_on,
        evaluation=chosen.evaluation,
        test=test,
        skipped=progress.skipped_images(),
    )
