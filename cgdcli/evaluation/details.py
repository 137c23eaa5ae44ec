"""What is told of a judgement beside its means: intervals, classes, confusions."""

from collections import Counter, defaultdict
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from cgdcli.evaluation.tables import Judgement
from cgdcli.judging.intervals import class_interval
from cgdcli.reports import (
    ClassFigures,
    ConfusedPair,
    EvaluationReport,
    Measure,
    RecallReport,
)


@dataclass(frozen=True)
class Details:
    """What is wanted beside the figures and their intervals.

    Attributes:
        per_class: the figures of every class.
        confused: so many of the most confused pairs of classes.
    """

    per_class: bool = False
    confused: int = 0


def detailed(
    judged: Judgement,
    report: RecallReport,
    details: Details,
    *,
    what: str,
    ignore_same: str = "",
    left_out: int = 0,
) -> EvaluationReport:
    """The report of a judgement with what is wanted of its details."""
    known = {field.name: getattr(report, field.name) for field in fields(RecallReport)}
    return replace(
        EvaluationReport(**known),
        what=what,
        measures=measures(judged),
        classes=class_figures(judged) if details.per_class else (),
        confused=confused_pairs(judged, details.confused) if details.confused else (),
        ignore_same=ignore_same,
        left_out=left_out,
    )


def class_figures(judged: Judgement) -> tuple[ClassFigures, ...]:
    """Of every class of the queries; by mAP@R, then Recall@1, then name. Classes without any
    partner come last: nothing could have been found for them."""
    scores = judged.scores
    row_labels = np.array(judged.row_labels)
    nearest = scores.neighbours[:, 0]
    right = (row_labels[nearest] == judged.labels) & (nearest >= 0)
    names, class_Q = np.unique(judged.labels, return_inverse=True)
    queries = np.bincount(class_Q)
    partnered = np.bincount(class_Q, scores.relevant > 0)
    hits, average = np.bincount(class_Q, right), np.bincount(class_Q, scores.average_precision)
    found = [
        ClassFigures(
            str(name),
            int(queries[i]),
            float(hits[i] / queries[i]),
            float(average[i] / partnered[i]) if partnered[i] else None,
        )
        for i, name in enumerate(names)
    ]
    return tuple(
        sorted(
            found,
            key=lambda c: (c.map_at_r is None, c.map_at_r or 0.0, c.recall_at_1, c.label),
        )
    )


def measures(judged: Judgement) -> tuple[Measure, ...]:
    """Recall@K and mAP@R with their intervals; mAP@R over the queries with a partner."""
    labels, scores = judged.labels, judged.scores
    found = [
        measure(f"Recall@{rank}", scores.hits[:, i].astype(np.float64), labels)
        for i, rank in enumerate(scores.ranks)
    ]
    partnered = scores.relevant > 0
    if partnered.any():
        found.append(measure("mAP@R", scores.average_precision[partnered], labels[partnered]))
    return tuple(found)


def measure(name: str, values: NDArray[np.float64], labels: NDArray[np.str_]) -> Measure:
    """A mean over queries with its interval, by name."""
    return Measure(name, *class_interval(values, labels))


def confused_pairs(judged: Judgement, count: int) -> tuple[ConfusedPair, ...]:
    """The pairs of classes with the most queries whose nearest picture is of the other class."""
    labels, searched = judged.labels.tolist(), judged.row_labels
    mistakes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for query, other in enumerate(judged.scores.neighbours[:, 0].tolist()):
        if other >= 0 and labels[query] != searched[other]:
            first, second = sorted((labels[query], searched[other]))
            mistakes[first, second].append(query)
    sizes = Counter(labels)
    ranked = sorted(mistakes.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(_pair(judged, pair, queries, sizes) for pair, queries in ranked[:count])


def _pair(
    judged: Judgement, pair: tuple[str, str], queries: list[int], sizes: Counter[str]
) -> ConfusedPair:
    paths, scores, labels = judged.paths, judged.scores, judged.labels
    surest = max(queries, key=lambda query: (scores.similarities[query, 0], -query))
    of_first = int((labels[queries] == pair[0]).sum())
    return ConfusedPair(
        *pair,
        first_as_second=of_first,
        second_as_first=len(queries) - of_first,
        of_first=sizes[pair[0]],
        of_second=sizes[pair[1]],
        query=str(paths[int(judged.asked[surest])]),
        query_is_first=bool(labels[surest] == pair[0]),
        neighbour=str(paths[int(scores.neighbours[surest, 0])]),
        similarity=float(np.clip(scores.similarities[surest, 0], -1, 1)),
    )
