"""Job: a finished run as one report, from the rows of its last judgement."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cgdcli.config import TrainConfig
from cgdcli.evaluation.details import confused_pairs, measures
from cgdcli.evaluation.tables import JudgedTable
from cgdcli.files import write_text
from cgdcli.judging.insights import (
    branch_recalls,
    extreme_queries,
    map_points,
)
from cgdcli.judging.judged import judged_queries, save_judged
from cgdcli.model.cgd import meta_model
from cgdcli.reports import EpochReport, RunReport, TrainReport
from cgdcli.weights.header import read_header

logger = logging.getLogger("cgdcli")

REPORT_FILE = "report.html"
QUERIES_SHOWN = 8
PAIRS_SHOWN = 8
MAP_POINTS = 600


def finish_run(
    result: TrainReport,
    judge: Callable[[], JudgedTable],
    epochs: Sequence[EpochReport],
    config: TrainConfig,
    data: Path,
) -> None:
    """Write `judged.npz` and `report.html` into a finished run's folder.

    Whatever fails here is a warning: the run has its model and its figures, and no page is a
    reason to lose them.

    Args:
        judge: gives the rows of the last judgement; called once.
        data: the folder trained on.
    """
    try:
        from cgdcli.views.run_page import run_page  # upwards: see tests/test_floors.py

        judged = judge()
        report = describe_run(result, judged, epochs, config, data)
        save_judged(result.run, judged_queries(judged, report.what, report.fingerprint))
        write_text(result.run / REPORT_FILE, run_page(report))
        logger.info("the run as a page: %s", result.run / REPORT_FILE)
    except Exception as error:
        logger.warning("the run has finished, but %s was not written: %s", REPORT_FILE, error)
        logger.debug("why not", exc_info=True)


def describe_run(
    result: TrainReport,
    judged: JudgedTable,
    epochs: Sequence[EpochReport],
    config: TrainConfig,
    data: Path,
) -> RunReport:
    """Everything that a run's page shows.

    Args:
        judged: rows and scores of the model that was kept, on test, else on what `best` was
            chosen from.
    """
    header = read_header(result.model)
    branches, branch_queries = branch_recalls(judged, meta_model(header.config()).blocks)
    points, plane = map_points(judged, MAP_POINTS)
    return RunReport(
        run=result.run.name,
        model=result.model,
        fingerprint=str((header.metadata or {})["fingerprint"]),
        data=str(data),
        what="test" if result.test is not None else result.judged_on,
        judged_on=result.judged_on,
        settings=config.to_dict(),
        epochs=tuple(epochs),
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        result=judged.report,
        measures=measures(judged),
        best=extreme_queries(judged, QUERIES_SHOWN, best=True),
        worst=extreme_queries(judged, QUERIES_SHOWN, best=False),
        confused=confused_pairs(judged, PAIRS_SHOWN),
        branches=branches,
        branch_queries=branch_queries,
        points=points,
        plane=plane,
        in_gallery=judged.stored is not judged.asked,
    )
