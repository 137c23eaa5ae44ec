"""How sure a mean over queries is: a bootstrap that draws whole classes.

Shape letters: Q queries, G classes, R resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
PERCENTILES = (2.5, 97.5)
_VALUES_AT_ONCE = 4_000_000  # 32 MB, three times


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def class_interval(
    values: NDArray[np.float64], labels: Sequence[str] | NDArray[np.str_]
) -> Interval:
    """The mean of `values` (Q,) and its 95 % interval (percentiles) by drawing classes.

    Pictures of a class are not independent, so classes are drawn with replacement, each with all
    of its pictures (Efron & Tibshirani 1993, on clustered data). Of two models' values on the same
    pictures pass the difference: both are then judged by the same draws. The draws are always the
    same. It speaks of other classes of pictures, not of training again with another seed.

    Raises:
        ValueError: there are no values, or not one label for each.
    """
    if len(values) == 0 or len(values) != len(labels):
        raise ValueError(f"want a label for each of some values; got {len(values)}, {len(labels)}")
    _, group_Q = np.unique(np.asarray(labels), return_inverse=True)
    sum_G = np.bincount(group_Q, values)
    size_G = np.bincount(group_Q).astype(np.float64)
    rng, classes = np.random.default_rng(0), len(size_G)
    means, left = list[NDArray[np.float64]](), RESAMPLES
    while left:
        count = min(left, max(1, _VALUES_AT_ONCE // classes))
        draws = rng.integers(0, classes, (count, classes))
        means.append(sum_G[draws].sum(1) / size_G[draws].sum(1))
        left -= count
    low, high = np.percentile(np.concatenate(means), PERCENTILES)
    return Interval(float(values.mean()), float(low), float(high))
