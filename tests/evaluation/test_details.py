"""Figures of classes against a loop; means and confusions are tested with the run's page."""

import numpy as np
import pytest
from judgements import clustered, judgement
from test_intervals import naive as naive_interval

from cgdcli.evaluation.details import Details, class_figures, detailed


def test_classes_are_the_means_of_their_queries_worst_first():
    rows, labels = clustered(classes=7, each=5, spread=1.6)
    labels[-1] = "lonely"
    judged = judgement(rows, labels)
    found = class_figures(judged)
    assert sorted(c.label for c in found) == sorted(set(labels))
    scores = judged.scores
    for one in found:
        mine = [i for i, label in enumerate(labels) if label == one.label]
        assert one.queries == len(mine)
        assert one.recall_at_1 == pytest.approx(scores.hits[mine, 0].mean())
        partnered = [i for i in mine if scores.relevant[i]]
        if partnered:
            assert one.map_at_r == pytest.approx(scores.average_precision[partnered].mean())
    assert found[-1].label == "lonely" and found[-1].map_at_r is None
    figures = [(c.map_at_r, c.recall_at_1) for c in found[:-1]]
    assert figures == sorted(figures)


def test_recall_at_1_is_known_whatever_the_ranks():
    from dataclasses import replace

    from cgdcli.evaluation.scoring import score_queries

    rows, labels = clustered(spread=1.6)
    judged = judgement(rows, labels)
    other = replace(judged, scores=score_queries(rows, labels, (3, 8)))
    assert class_figures(other) == class_figures(judged)


def test_each_figure_has_its_interval_and_is_the_reports():
    rows, labels = clustered(spread=1.6)
    judged = judgement(rows, labels)
    report = detailed(judged, judged.report, Details(), what="x")
    for rank, share in report.recall.items():
        measure = next(m for m in report.measures if m.name == f"Recall@{rank}")
        column = judged.scores.ranks.index(rank)
        expected = naive_interval(judged.scores.hits[:, column].astype(float).tolist(), labels)
        assert (measure.value, measure.low, measure.high) == pytest.approx(expected, abs=1e-9)
        assert measure.value == pytest.approx(share)
    assert report.measures[-1].value == pytest.approx(report.map_at_r)
    assert report.classes == report.confused == () and report.what == "x"


def test_details_are_there_when_asked_for():
    rows, labels = clustered(spread=2.5)
    judged = judgement(rows, labels)
    report = detailed(judged, judged.report, Details(per_class=True, confused=2), what="x")
    assert len(report.classes) == 6 and len(report.confused) == 2
    wrong = np.array(labels)[judged.scores.neighbours[:, 0]] != np.array(labels)
    pairs = detailed(judged, judged.report, Details(confused=99), what="x").confused
    assert sum(p.first_as_second + p.second_as_first for p in pairs) == wrong.sum() > 0
