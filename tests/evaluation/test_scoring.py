"""Rows that are ignored for a query, against a naive loop. The figures: tests/jobs."""

import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.config import RerankConfig
from cgdcli.evaluation import scoring
from cgdcli.evaluation.long_lists import Searched, right_in_order
from cgdcli.evaluation.scoring import same_groups, score_queries, summary
from cgdcli.index.exact import nearest


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def naive(rows, labels, groups, asks, stored, ranks):
    """Market-1501's rule: of the query's label and camera is neither a hit nor a mistake."""
    hits, precisions = dict.fromkeys(ranks, 0), []
    asked = [i for i in range(len(rows)) if asks[i]]
    for i in asked:
        others = [
            j
            for j in range(len(rows))
            if stored[j]
            and j != i
            and not (labels[j] == labels[i] and groups[i] is not None and groups[j] == groups[i])
        ]
        others.sort(key=lambda j: (-float(rows[i].astype(float) @ rows[j].astype(float)), j))
        right = [labels[j] == labels[i] for j in others]
        for rank in ranks:
            hits[rank] += any(right[:rank]) / len(asked)
        relevant = sum(right)
        if relevant:
            terms = [sum(right[: p + 1]) / (p + 1) for p in range(relevant) if right[p]]
            precisions.append(sum(terms) / relevant)
    return hits, sum(precisions) / len(precisions) if precisions else None


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 40), roles=st.booleans())
def test_ignoring_is_the_naive_loop(seed, count, roles):
    from cgdcli.evaluation.tables import Roles, judge_rows

    rng = np.random.default_rng(seed)
    rows = unit(rng.standard_normal((count, 4)))
    labels = [f"c{i}" for i in rng.integers(0, 4, count)]
    groups = [None if g == 0 else f"cam{g}" for g in rng.integers(0, 4, count)]
    asks = stored = np.ones(count, dtype=bool)
    if roles:
        asks, stored = rng.random((2, count)) < 0.6
        asks[0] = stored[1] = True
    given_roles = Roles(*((asks, stored) if roles else (None, None)), tuple(groups))
    asked, searched, scores = judge_rows(rows, labels, (1, 2, 4), given_roles)
    report = summary(scores, [labels[i] for i in asked])
    recall, map_at_r = naive(rows, labels, groups, asks, stored, (1, 2, 4))
    assert report.recall == pytest.approx(recall)
    assert report.map_at_r == (None if map_at_r is None else pytest.approx(map_at_r))
    assert asked.tolist() == np.flatnonzero(asks).tolist()
    assert searched.tolist() == np.flatnonzero(stored).tolist()


def test_only_what_has_both_is_ignored():
    """Of the query's camera with another label: a mistake if found."""
    ignored = same_groups("aab", ["1", None, "1"], "aabb", ["1", "2", "1", None])
    assert ignored == [{0}, set(), {2}]
    rows = unit(np.array([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.9]]))
    scores = score_queries(
        rows[:1], ["a"], (1,), gallery=rows[1:], gallery_labels=["a", "b", "a"],
        ignored=[frozenset([0])],
    )  # fmt: skip
    assert not scores.hits[0, 0] and scores.relevant[0] == 1
    assert scores.neighbours[0, :2].tolist() == [1, 2]


def test_no_partner_is_left_where_all_are_of_one_camera():
    rows = unit(np.random.default_rng(0).standard_normal((4, 3)))
    everything = [frozenset(range(4))] * 4
    scores = score_queries(rows, ["a"] * 4, (1,), ignored=everything)
    assert (scores.relevant == 0).all() and not scores.hits.any()
    assert summary(scores, ["a"] * 4).map_at_r is None


def whole_lists(monkeypatch):
    """Every query with more than a few relevant rows has the whole order looked at."""
    monkeypatch.setattr(scoring, "SHORT_LIST", 0)
    monkeypatch.setattr(scoring, "SHORT_SHARE", 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 60), half=st.booleans())
def test_long_lists_are_ordered_as_short_ones(seed, count, half):
    """Rows that are there twice, under either label, and rows of which a bit differs."""
    rng = np.random.default_rng(seed)
    rows = unit(rng.integers(-1, 2, (count, 3)) + 0.01)[rng.integers(0, count, count)]
    rows *= 1 + 1e-7 * rng.integers(0, 2, (count, 1), dtype=np.int64).astype(np.float32)
    rows = rows.astype(np.float16) if half else rows
    labels = [f"c{i}" for i in rng.integers(0, 2, count)]
    ignored = [frozenset(rng.integers(0, count, 3).tolist()) - {i} for i in range(count)]
    ignored = [frozenset(j for j in s if labels[j] == labels[i]) for i, s in enumerate(ignored)]
    for more in ({}, {"ignored": ignored}, {"rerank": RerankConfig("aqe", top=6)}):
        short = score_queries(rows, labels, (1, 2), **more)
        with pytest.MonkeyPatch.context() as patch:
            whole_lists(patch)
            long = score_queries(rows, labels, (1, 2), **more)
        for name in ("hits", "neighbours", "similarities", "relevant"):
            assert (getattr(short, name) == getattr(long, name)).all(), name
        assert long.average_precision == pytest.approx(short.average_precision, abs=1e-12)


CUT = """
import os, sys
from pathlib import Path
from cgdcli.errors import IndexFileError
from cgdcli.evaluation import scoring
from cgdcli.index.rows import open_rows

path, rows = sys.argv[1], open_rows(Path(sys.argv[1]))
nearest = scoring.nearest

def cutting(*given, **named):
    found = nearest(*given, **named)
    os.truncate(path, 4_096)
    return found

scoring.nearest = cutting
try:
    scoring.score_queries(rows, ["ab"[row % 2] for row in range(len(rows))], (1,))
except IndexFileError as error:
    print(error.what)
"""


def test_rows_that_are_cut_short_before_a_long_list_are_an_error_and_no_crash(tmp_path):
    """A process of its own: to touch a map beyond the end of its file would end this one."""
    rows = np.random.default_rng(0).standard_normal((4_000, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    line = [sys.executable, "-c", CUT, str(tmp_path / "rows.npy")]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "become shorter" in ran.stdout, ran.stderr


def test_blocks_of_a_long_list_change_nothing():
    rng = np.random.default_rng(1)
    rows, labels = unit(rng.standard_normal((90, 5))), rng.integers(0, 2, 90)
    hidden = [{i} for i in range(90)]
    asked = rows, labels, Searched(rows, labels), hidden
    whole = list(right_in_order(*asked))
    config = SimpleNamespace(max_memory=9_000, threads=1)  # 6 queries, 28 rows
    assert all((a == b).all() for a, b in zip(whole, right_in_order(*asked, config), strict=True))
    assert not any(right[-1] for right in whole)  # the query itself


def test_two_large_classes_are_looked_at_quickly_and_in_bounded_memory(monkeypatch):
    """Pair by pair, 1500 candidates of each of 3000 queries are 4.5 million pairs."""
    rng = np.random.default_rng(2)
    rows, labels = unit(rng.standard_normal((3000, 16))), ["a", "b"] * 1500
    wanted = []

    def counted(queries, gallery, k, **more):
        wanted.append(len(queries) * k)
        return nearest(queries, gallery, k, **more)

    monkeypatch.setattr(scoring, "nearest", counted)
    tracemalloc.start()
    scores = score_queries(rows, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(wanted) < 100_000 and peak < 200e6
    assert (scores.relevant == 1499).all() and 0.2 < scores.average_precision.mean() < 0.3
    assert scores.neighbours.base is None  # the other ranks of a block are not kept


def test_many_ranks_are_looked_at_a_few_queries_at_a_time():
    assert scoring._queries_at_once(10, None) == scoring.QUERIES_AT_ONCE
    assert scoring._queries_at_once(100_000, None) <= 10
    assert scoring._queries_at_once(10**9, None) == 1
    assert scoring._queries_at_once(10, [frozenset(range(100_000))]) <= 13
