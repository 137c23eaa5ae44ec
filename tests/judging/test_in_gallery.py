"""Queries that are searched in a gallery: what a run's page and a comparison read off them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judgements import clustered

from cgdcli.config import EmbedConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.evaluation import EmbeddedTable, evaluate_table
from cgdcli.evaluation.details import confused_pairs, measures
from cgdcli.judging.insights import branch_recalls, extreme_queries, map_points
from cgdcli.judging.judged import judged_queries

BLOCKS = [("S", 0, 6), ("G", 6, 12)]
ROWS, LABELS = clustered(spread=1.6)
# Of each class two ask alone, two are searched alone, one does both; the third file is broken.
ASKS = tuple(i % 5 in (0, 3, 4) for i in range(30))
STORED = tuple(i % 5 in (1, 2, 4) for i in range(30))
READABLE = [i for i in range(30) if i != 2]


@pytest.fixture(scope="module")
def judged():
    paths = tuple(Path(f"/data/{i:02}.jpg") for i in range(30))
    table = ImageTable(paths, tuple(LABELS), is_query=ASKS, is_gallery=STORED)
    embedded = EmbeddedTable(
        ROWS[READABLE],
        tuple(paths[i] for i in READABLE),
        tuple(LABELS[i] for i in READABLE),
        tuple(f"{i:064x}" for i in READABLE),
        (),
        tuple(READABLE),
    )
    kept = []
    report = evaluate_table(None, table, EmbedConfig(), embedded=embedded, on_judged=kept.append)
    assert kept[0].report == report
    return kept[0]


def naive_nearest(i, columns=slice(None)):
    """Number of the picture of the gallery that is nearest to picture `i`, itself left out."""
    part = ROWS[:, columns].astype(np.float64)
    part = part / np.linalg.norm(part, axis=1, keepdims=True)
    stored = [j for j in READABLE if STORED[j] and j != i]
    return max(stored, key=lambda j: part[j] @ part[i])


QUERIES = [i for i in READABLE if ASKS[i]]


def number(path):
    return int(Path(path).stem)


def test_best_and_worst_are_queries_and_their_hits_of_the_gallery(judged):
    for best in (True, False):
        shown = extreme_queries(judged, 8, best=best)
        assert len(shown) == 8
        for query in shown:
            i = number(query.answer.query)
            assert ASKS[i] and query.answer.label == LABELS[i]
            assert number(query.answer.hits[0].path) == naive_nearest(i)
            assert all(
                STORED[number(hit.path)] and number(hit.path) != i for hit in query.answer.hits
            )


def test_recall_of_branches_is_that_of_the_gallery(judged):
    found, count = branch_recalls(judged, BLOCKS)
    assert count == len(QUERIES)
    for (letter, start, stop), branch in zip(BLOCKS, found, strict=True):
        right = [LABELS[naive_nearest(i, slice(start, stop))] == LABELS[i] for i in QUERIES]
        assert branch.letter == letter and branch.alone.value == pytest.approx(np.mean(right))


def test_confusions_and_measures_count_queries(judged):
    wrong = [i for i in QUERIES if LABELS[naive_nearest(i)] != LABELS[i]]
    pairs = confused_pairs(judged, 100)
    assert sum(p.first_as_second + p.second_as_first for p in pairs) == len(wrong) > 3
    assert all(p.of_first == p.of_second == 3 for p in pairs)
    assert all(ASKS[number(p.query)] and STORED[number(p.neighbour)] for p in pairs)
    recall = next(m for m in measures(judged) if m.name == "Recall@1")
    assert recall.value == pytest.approx(1 - len(wrong) / len(QUERIES))


def test_the_map_shows_queries(judged):
    points, _ = map_points(judged, 100)
    assert [number(p.path) for p in points] == QUERIES
    assert [p.is_hit for p in points] == [LABELS[naive_nearest(i)] == LABELS[i] for i in QUERIES]


def test_what_is_kept_are_queries(judged):
    kept = judged_queries(judged, "test", "f")
    assert [number(path) for path in kept.paths] == QUERIES
    assert kept.labels.tolist() == [LABELS[i] for i in QUERIES]
    assert [int(sha, 16) for sha in kept.sha256] == QUERIES
    assert len(kept.hits) == len(QUERIES)
    fewer = replace(judged, stored=judged.stored[1:])
    assert judged_queries(fewer, "test", "f").gallery != kept.gallery


def test_a_gallery_that_could_not_be_read_is_said(judged):
    from cgdcli.errors import DatasetError

    table = ImageTable(
        judged.embedded.paths,
        judged.embedded.labels,
        is_query=(True,) * 29,
        is_gallery=(False,) * 29,
    )
    embedded = replace(judged.embedded, places=tuple(range(29)))
    with pytest.raises(DatasetError, match="no picture of the gallery could be read"):
        evaluate_table(None, table, EmbedConfig(), embedded=embedded)
