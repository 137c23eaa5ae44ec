"""Everything that is shown: the results of the jobs as frozen dataclasses, plain values only.

`to_dict` gives what `--json` prints. Similarities are cosines, recall values fractions of 1,
durations seconds, sizes bytes.
"""

from cgdcli.reports.base import ModelInfo, Report, SkippedImage
from cgdcli.reports.conversion import ConversionReport
from cgdcli.reports.inspection import InspectReport
from cgdcli.reports.profile import ProfileReport, StageProfile
from cgdcli.reports.retrieval import EmbedReport, Hit, QueryHits, RecallReport, SearchReport
from cgdcli.reports.training import EpochReport, StartReport, StepReport, TrainReport

__all__ = [
    "ConversionReport",
    "EmbedReport",
    "EpochReport",
    "Hit",
    "InspectReport",
    "ModelInfo",
    "ProfileReport",
    "QueryHits",
    "RecallReport",
    "Report",
    "SearchReport",
    "SkippedImage",
    "StageProfile",
    "StartReport",
    "StepReport",
    "TrainReport",
]
