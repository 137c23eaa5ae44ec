"""What can be read off embeddings that were judged: best and worst queries, branches, a map.
Everything from the same rows, embedded once. Means and confusions: `evaluation.details`.

Shape letters: Q queries, N rows that are searched (all against all: the same); D dimensions.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import DESCRIPTOR_NAMES
from cgdcli.engines import Rows
from cgdcli.evaluation.details import measure
from cgdcli.evaluation.tables import JudgedTable
from cgdcli.index.exact import nearest
from cgdcli.reports import (
    BranchRecall,
    Hit,
    JudgedQuery,
    MapPoint,
    QueryHits,
)

# Each branch costs two searches; 4 000 queries know Recall@1 to within a point.
BRANCH_QUERIES = 4_000
_PLANE_ROWS = 5_000


def extreme_queries(judged: JudgedTable, count: int, *, best: bool) -> tuple[JudgedQuery, ...]:
    """The queries of largest (or smallest) AP@R; of equal ones, the surest: by the first hit's
    similarity. One of a class as far as there are classes; queries without partner are left out.
    """
    scores, labels = judged.scores, judged.labels.tolist()
    average = scores.average_precision
    order = np.lexsort((-scores.similarities[:, 0], -average if best else average))
    order = order[scores.relevant[order] > 0]
    before = Counter[str]()
    turns = []
    for place, query in enumerate(order.tolist()):
        turns.append((before[labels[query]], place, query))
        before[labels[query]] += 1
    chosen = sorted((place, query) for _, place, query in sorted(turns)[:count])
    return tuple(JudgedQuery(float(average[q]), _answer(judged, q)) for _, q in chosen)


def branch_recalls(
    judged: JudgedTable, blocks: Sequence[tuple[str, int, int]]
) -> tuple[tuple[BranchRecall, ...], int]:
    """Recall@1 of each branch alone and of all others, and on how many queries.

    Args:
        blocks: of the model: (letter, start, stop) of columns.
    """
    rows = judged.embedded.rows
    queries = evenly(len(judged.asked), BRANCH_QUERIES)
    asked = judged.labels[queries]
    whole = _first_is_right(judged, rows, queries)
    found = []
    for letter, start, stop in blocks:
        block = slice(start, stop)
        alone = _first_is_right(judged, rows[:, block], queries)
        without = loss = None
        if len(blocks) > 1:
            rest = _first_is_right(judged, np.delete(rows, block, axis=1), queries)
            without = measure("without", rest, asked)
            loss = measure("loss", whole - rest, asked)
        name = DESCRIPTOR_NAMES.get(letter, letter)
        found.append(BranchRecall(letter, name, measure("alone", alone, asked), without, loss))
    return tuple(found), len(queries)


def map_points(judged: JudgedTable, count: int) -> tuple[tuple[MapPoint, ...], tuple[float, float]]:
    """At most `count` queries, evenly spaced in the table's order, on the principal plane."""
    places_N2, shares = principal_plane(judged.embedded.rows)
    embedded = judged.embedded
    right = _nearest_is_right(judged)
    return (
        tuple(
            MapPoint(
                float(places_N2[row, 0]),
                float(places_N2[row, 1]),
                str(embedded.paths[row]),
                embedded.labels[row],
                bool(right[query]),
            )
            for query in evenly(len(judged.asked), count)
            for row in (int(judged.asked[query]),)
        ),
        shares,
    )


def principal_plane(rows: Rows) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Rows (N, D) on their first two principal components (N, 2), and the variance each holds.

    The axes are found from at most 5 000 of the rows. Signs are fixed: an axis's largest loading
    is positive. A component that does not exist (N or D below 2) is 0.
    """
    some = rows[evenly(len(rows), _PLANE_ROWS)].astype(np.float64)
    center = some.mean(axis=0)
    _, lengths, axes = np.linalg.svd(some - center, full_matrices=False)
    variance = lengths**2
    shares, places = [0.0, 0.0], np.zeros((len(rows), 2))
    for i in range(min(2, len(axes))):
        if variance[i] <= 1e-12 * max(1.0, len(rows)):
            continue
        axis = axes[i] * np.sign(axes[i][np.argmax(np.abs(axes[i]))])
        places[:, i] = rows @ axis.astype(np.float32) - center @ axis  # no copy of all rows
        shares[i] = float(variance[i] / variance.sum())
    return places, (shares[0], shares[1])


def evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` of the positions 0 ... count - 1, evenly spaced, rising."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _first_is_right(
    judged: JudgedTable, rows: Rows, queries: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each of `queries` 1 if its nearest, by these columns, of what is searched besides itself
    has its label."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    labels, stored = np.array(judged.embedded.labels), judged.stored
    place = np.full(len(rows), -1)
    place[stored] = np.arange(len(stored))
    asked = judged.asked[queries]
    hidden = [{row} if row >= 0 else set() for row in place[asked].tolist()]
    searched = unit if len(stored) == len(unit) else unit[stored]
    _, ids = nearest(unit[asked], searched, 1, exclude=hidden)
    right = (labels[stored[ids[:, 0]]] == labels[asked]) & (ids[:, 0] >= 0)
    return np.asarray(right, dtype=np.float64)


def _nearest_is_right(judged: JudgedTable) -> NDArray[np.bool_]:
    labels, ids = np.array(judged.embedded.labels), judged.scores.neighbours[:, 0]
    return np.asarray((labels[ids] == judged.labels) & (ids >= 0), dtype=np.bool_)


def _answer(judged: JudgedTable, query: int) -> QueryHits:
    embedded, scores = judged.embedded, judged.scores
    found = zip(scores.neighbours[query].tolist(), scores.similarities[query].tolist(), strict=True)
    hits = tuple(
        Hit(rank, min(1.0, max(-1.0, cosine)), str(embedded.paths[i]), embedded.labels[i], i)
        for rank, (i, cosine) in enumerate(found, 1)
        if i >= 0
    )
    row = int(judged.asked[query])
    path = str(embedded.paths[row])
    return QueryHits(path, hits, embedded.labels[row], path)
