"""When a run is judged, and what is said of one that goes wrong."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgdcli.config import TrainConfig
from cgdcli.reports import EpochReport
from cgdcli.training.watching import is_judged, warn_of_collapse


@given(st.integers(1, 300), st.integers(1, 400))
def test_judged_evenly_and_at_the_end(epochs, evaluations):
    judged = [e for e in range(1, epochs + 1) if is_judged(e, epochs, evaluations)]
    assert len(judged) == min(epochs, evaluations) and judged[-1] == epochs
    gaps = {b - a for a, b in zip([0, *judged], judged, strict=False)}
    assert max(gaps) - min(gaps) <= 1


def epoch(distance, triplet):
    return EpochReport(
        1, 2, 1e-4, 2.0, 1.0, triplet, 1.0, 0.1, 50.0, 9.0, None, False, 0.5, distance
    )


@pytest.mark.parametrize(
    ("settings", "distance", "triplet", "words"),
    [
        ({}, 0.01, 0.1, ("collapse", "stuck at its margin 0.1")),
        ({}, 0.01, 0.4, ("collapse",)),
        ({}, 0.9, 0.1, ()),
        ({}, 0.06, 0.0, ()),
        ({"loss": "batch-all"}, 0.01, 0.1, ("stuck at its margin 0.1",)),
        ({"loss": "soft-margin"}, 0.01, 0.693, ("stuck at log 2",)),
        ({"loss": "soft-margin"}, 0.01, 0.1, ("collapse",)),
        ({"loss": "supcon"}, 0.01, 0.1, ("collapse",)),
        ({"loss": "proxy-anchor"}, 0.01, 0.693, ("collapse",)),
        ({"ranking_weight": 0.0}, 0.01, 0.1, ("collapse",)),
    ],
    ids=str,
)
def test_collapse_is_said(caplog, monkeypatch, settings, distance, triplet, words):
    monkeypatch.setattr(logging.getLogger("cgdcli"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="cgdcli"):
        warn_of_collapse(epoch(distance, triplet), TrainConfig(**settings))
    assert bool(caplog.records) is bool(words)
    assert all(word in caplog.text for word in words)
    assert ("stuck" in caplog.text) is ("stuck" in "".join(words))
