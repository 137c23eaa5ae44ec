"""How much two judgements of the same queries differ, measure by measure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgdcli.evaluation.scoring import QueryScores
from cgdcli.judging.intervals import class_interval
from cgdcli.reports import PairedDifference

Floats = NDArray[np.float64]


def paired_differences(
    first: QueryScores, second: QueryScores, labels: NDArray[np.str_]
) -> tuple[PairedDifference, ...]:
    """Recall at the ranks of both, and mAP@R over the queries with a partner in both."""
    averages = [
        np.where(scores.relevant > 0, scores.average_precision, np.nan)
        for scores in (first, second)
    ]
    return differences_of(
        (first.ranks, first.hits, averages[0]), (second.ranks, second.hits, averages[1]), labels
    )


def differences_of(
    first: tuple[Sequence[int], NDArray[np.bool_], Floats],
    second: tuple[Sequence[int], NDArray[np.bool_], Floats],
    labels: NDArray[np.str_],
) -> tuple[PairedDifference, ...]:
    """The same from ranks (K,), hits (Q, K) and AP@R (Q,), NaN for a query without partner."""
    ranks, ranks_of_other = list(first[0]), list(second[0])
    found = []
    for rank in [r for r in ranks if r in ranks_of_other]:
        a = first[1][:, ranks.index(rank)].astype(np.float64)
        b = second[1][:, ranks_of_other.index(rank)].astype(np.float64)
        found.append(_paired(f"Recall@{rank}", a, b, labels))
    a, b = first[2], second[2]
    partnered = ~np.isnan(a) & ~np.isnan(b)
    if partnered.any():
        found.append(_paired("mAP@R", a[partnered], b[partnered], labels[partnered]))
    return tuple(found)


def _paired(name: str, a: Floats, b: Floats, labels: NDArray[np.str_]) -> PairedDifference:
    return PairedDifference(name, float(a.mean()), float(b.mean()), *class_interval(b - a, labels))
