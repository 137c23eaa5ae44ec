"""Everything that is shown: the results of the jobs as frozen dataclasses, plain values only.

`to_dict` gives what `--json` prints. Similarities are cosines, recall values fractions of 1,
durations seconds, sizes bytes.

A class is imported when it is asked for: to make all of them takes 50 ms, which a search would pay.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "ApproximateReport": "retrieval",
    "BranchRecall": "run",
    "CalibrationPoint": "evaluation",
    "CalibrationReport": "evaluation",
    "CheckReport": "checking",
    "ClassFigures": "evaluation",
    "CompareReport": "profile",
    "ComparedIndexes": "evaluation",
    "ComparedRun": "run",
    "ConfusedPair": "run",
    "ConversionPlan": "conversion",
    "ConversionReport": "conversion",
    "CopyReport": "retrieval",
    "Counts": "profile",
    "DataBaseReport": "conversion",
    "DuplicateGroup": "duplicates",
    "DuplicateImage": "duplicates",
    "DuplicatesReport": "duplicates",
    "EmbedReport": "retrieval",
    "EpochReport": "training",
    "EvaluationReport": "evaluation",
    "ExportReport": "conversion",
    "Finding": "checking",
    "FolderReport": "latency",
    "GraphParity": "exporting",
    "GraphReport": "exporting",
    "Hit": "retrieval",
    "InspectReport": "inspection",
    "JudgedQuery": "run",
    "LatencyReport": "latency",
    "LayerProfile": "profile",
    "MachinePeaks": "latency",
    "MapPoint": "run",
    "Measure": "run",
    "ModelInfo": "base",
    "PairedDifference": "run",
    "PlannedEntry": "conversion",
    "ProfileReport": "profile",
    "QueryHits": "retrieval",
    "ReadingScore": "trial",
    "RecallReport": "retrieval",
    "Report": "base",
    "RerankReport": "evaluation",
    "RunComparison": "run",
    "RunReport": "run",
    "SearchReport": "retrieval",
    "SentReport": "sending",
    "SkippedImage": "base",
    "SplitCount": "checking",
    "StageProfile": "profile",
    "StageSpeed": "latency",
    "StageTimes": "retrieval",
    "StartReport": "training",
    "StepReport": "training",
    "TrainReport": "training",
    "TrialReport": "trial",
    "VectorStep": "retrieval",
    "VectorsReport": "retrieval",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605

if TYPE_CHECKING:
    from cgdcli.reports.base import ModelInfo as ModelInfo
    from cgdcli.reports.base import Report as Report
    from cgdcli.reports.base import SkippedImage as SkippedImage
    from cgdcli.reports.checking import CheckReport as CheckReport
    from cgdcli.reports.checking import Finding as Finding
    from cgdcli.reports.checking import SplitCount as SplitCount
    from cgdcli.reports.conversion import (
        ConversionPlan as ConversionPlan,
    )
    from cgdcli.reports.conversion import (
        ConversionReport as ConversionReport,
    )
    from cgdcli.reports.conversion import (
        DataBaseReport as DataBaseReport,
    )
    from cgdcli.reports.conversion import (
        ExportReport as ExportReport,
    )
    from cgdcli.reports.conversion import (
        PlannedEntry as PlannedEntry,
    )
    from cgdcli.reports.duplicates import DuplicateGroup as DuplicateGroup
    from cgdcli.reports.duplicates import DuplicateImage as DuplicateImage
    from cgdcli.reports.duplicates import DuplicatesReport as DuplicatesReport
    from cgdcli.reports.evaluation import CalibrationPoint as CalibrationPoint
    from cgdcli.reports.evaluation import CalibrationReport as CalibrationReport
    from cgdcli.reports.evaluation import ClassFigures as ClassFigures
    from cgdcli.reports.evaluation import ComparedIndexes as ComparedIndexes
    from cgdcli.reports.evaluation import EvaluationReport as EvaluationReport
    from cgdcli.reports.evaluation import RerankReport as RerankReport
    from cgdcli.reports.exporting import GraphParity as GraphParity
    from cgdcli.reports.exporting import GraphReport as GraphReport
    from cgdcli.reports.inspection import InspectReport as InspectReport
    from cgdcli.reports.latency import FolderReport as FolderReport
    from cgdcli.reports.latency import LatencyReport as LatencyReport
    from cgdcli.reports.latency import MachinePeaks as MachinePeaks
    from cgdcli.reports.latency import StageSpeed as StageSpeed
    from cgdcli.reports.profile import (
        CompareReport as CompareReport,
    )
    from cgdcli.reports.profile import (
        Counts as Counts,
    )
    from cgdcli.reports.profile import (
        LayerProfile as LayerProfile,
    )
    from cgdcli.reports.profile import (
        ProfileReport as ProfileReport,
    )
    from cgdcli.reports.profile import (
        StageProfile as StageProfile,
    )
    from cgdcli.reports.retrieval import (
        ApproximateReport as ApproximateReport,
    )
    from cgdcli.reports.retrieval import (
        CopyReport as CopyReport,
    )
    from cgdcli.reports.retrieval import (
        EmbedReport as EmbedReport,
    )
    from cgdcli.reports.retrieval import (
        Hit as Hit,
    )
    from cgdcli.reports.retrieval import (
        QueryHits as QueryHits,
    )
    from cgdcli.reports.retrieval import (
        RecallReport as RecallReport,
    )
    from cgdcli.reports.retrieval import (
        SearchReport as SearchReport,
    )
    from cgdcli.reports.retrieval import (
        StageTimes as StageTimes,
    )
    from cgdcli.reports.retrieval import (
        VectorsReport as VectorsReport,
    )
    from cgdcli.reports.retrieval import (
        VectorStep as VectorStep,
    )
    from cgdcli.reports.run import (
        BranchRecall as BranchRecall,
    )
    from cgdcli.reports.run import (
        ComparedRun as ComparedRun,
    )
    from cgdcli.reports.run import (
        ConfusedPair as ConfusedPair,
    )
    from cgdcli.reports.run import (
        JudgedQuery as JudgedQuery,
    )
    from cgdcli.reports.run import (
        MapPoint as MapPoint,
    )
    from cgdcli.reports.run import (
        Measure as Measure,
    )
    from cgdcli.reports.run import (
        PairedDifference as PairedDifference,
    )
    from cgdcli.reports.run import (
        RunComparison as RunComparison,
    )
    from cgdcli.reports.run import (
        RunReport as RunReport,
    )
    from cgdcli.reports.sending import SentReport as SentReport
    from cgdcli.reports.training import EpochReport as EpochReport
    from cgdcli.reports.training import StartReport as StartReport
    from cgdcli.reports.training import StepReport as StepReport
    from cgdcli.reports.training import TrainReport as TrainReport
    from cgdcli.reports.trial import ReadingScore as ReadingScore
    from cgdcli.reports.trial import TrialReport as TrialReport


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
