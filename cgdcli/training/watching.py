"""What a run is watched for: when it is judged, whether it collapses, whether it helped."""

import logging
from math import log

from cgdcli.config import RankingLoss, TrainConfig
from cgdcli.config.losses import LOSSES
from cgdcli.reports import EpochReport, RecallReport

logger = logging.getLogger("cgdcli")

# Mean Euclidean distance of a batch's unit embeddings; pretrained descriptors begin at 0.5 to 0.9.
COLLAPSED = 0.05


def is_judged(epoch: int, epochs: int, evaluations: int) -> bool:
    """Whether val is judged after an epoch: evenly over the run, and at its end."""
    return epoch * evaluations // epochs > (epoch - 1) * evaluations // epochs


def warn_of_collapse(epoch: EpochReport, config: TrainConfig) -> None:
    """Say it when all embeddings are alike: from there no gradient leads back."""
    distance = epoch.mean_distance
    if distance is None or distance >= COLLAPSED:
        return
    logger.warning(
        "the embeddings collapse: a batch's pictures are %.3f apart in the mean (2 is opposite)%s; "
        "lower --learning-rate, or give another loss weight: --proxy-weight, --class-weight",
        distance,
        _stuck(epoch, config),
    )


def _stuck(epoch: EpochReport, config: TrainConfig) -> str:
    """Whether a triplet loss has the value that it has where all embeddings are the same; from
    there it has no gradient. Of the other losses it is not known."""
    loss, takes_margin = epoch.ranking_loss, LOSSES[config.loss].takes_margin
    if not (takes_margin or config.loss is RankingLoss.soft_margin):
        return ""
    value = config.margin if takes_margin else log(2)
    if loss is None or not config.ranking_weight or abs(loss - value) >= 0.1 * value:
        return ""
    where = f"its margin {value:g}" if takes_margin else "log 2, what equal distances give"
    return f", and the triplet loss is stuck at {where}"


def warn_if_worse(before: EpochReport, after: EpochReport) -> None:
    """Say it when the backbone's pooled descriptors were better than what was made of them."""
    if before.evaluation and after.evaluation and rank(after.evaluation) < rank(before.evaluation):
        logger.warning(
            "training made it worse: R@1 %.4f, and %.4f by the backbone's pooled descriptors "
            "before; try more pictures, more --epochs or another --learning-rate",
            after.evaluation.recall[1],
            before.evaluation.recall[1],
        )


def rank(report: RecallReport) -> tuple[float, float]:
    """Recall@1, and of equal ones mAP@R: what `best` is chosen by."""
    return report.recall[1], report.map_at_r or 0.0
