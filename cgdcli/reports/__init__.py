"""Everything that is shown: the results of the jobs as frozen dataclasses, plain values only.

`to_dict` gives what `--json` prints. Similarities are cosines, recall values fractions of 1,
durations seconds, sizes bytes.
"""

from cgdcli.reports.base import ModelInfo, Report, SkippedImage
from cgdcli.reports.checking import CheckReport, Finding, SplitCount
from cgdcli.reports.conversion import (
    ConversionPlan,
    ConversionReport,
    DataBaseReport,
    ExportReport,
    PlannedEntry,
)
from cgdcli.reports.exporting import GraphParity, GraphReport
from cgdcli.reports.inspection import InspectReport
from cgdcli.reports.latency import FolderReport, LatencyReport, MachinePeaks, StageSpeed
from cgdcli.reports.profile import (
    CompareReport,
    Counts,
    LayerProfile,
    ProfileReport,
    StageProfile,
)
from cgdcli.reports.retrieval import (
    ApproximateReport,
    EmbedReport,
    Hit,
    QueryHits,
    RecallReport,
    SearchReport,
    StageTimes,
    VectorsReport,
    VectorStep,
)
from cgdcli.reports.run import (
    BranchRecall,
    ComparedRun,
    ConfusedPair,
    JudgedQuery,
    MapPoint,
    Measure,
    PairedDifference,
    RunComparison,
    RunReport,
)
from cgdcli.reports.training import EpochReport, StartReport, StepReport, TrainReport
from cgdcli.reports.trial import ReadingScore, TrialReport

__all__ = [
    "ApproximateReport",
    "BranchRecall",
    "CheckReport",
    "CompareReport",
    "ComparedRun",
    "ConfusedPair",
    "ConversionPlan",
    "ConversionReport",
    "Counts",
    "DataBaseReport",
    "EmbedReport",
    "EpochReport",
    "ExportReport",
    "Finding",
    "FolderReport",
    "GraphParity",
    "GraphReport",
    "Hit",
    "InspectReport",
    "JudgedQuery",
    "LatencyReport",
    "LayerProfile",
    "MachinePeaks",
    "MapPoint",
    "Measure",
    "ModelInfo",
    "PairedDifference",
    "PlannedEntry",
    "ProfileReport",
    "QueryHits",
    "ReadingScore",
    "RecallReport",
    "Report",
    "RunComparison",
    "RunReport",
    "SearchReport",
    "SkippedImage",
    "SplitCount",
    "StageProfile",
    "StageSpeed",
    "StageTimes",
    "StartReport",
    "StepReport",
    "TrainReport",
    "TrialReport",
    "VectorStep",
    "VectorsReport",
]
