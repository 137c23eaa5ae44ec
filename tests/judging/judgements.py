"""Judgements of made-up rows, for the tests here and of the run's page."""

from pathlib import Path

import numpy as np

from cgdcli.evaluation import EmbeddedTable, JudgedTable, score, score_queries


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(classes=6, each=5, dim=12, spread=1.0, seed=0):
    """Unit rows around a centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim))
    rows = np.repeat(centres, each, axis=0) + spread * rng.normal(size=(classes * each, dim))
    return unit(rows), [f"c{c}" for c in range(classes) for _ in range(each)]


def judgement(rows, labels, paths=None):
    """What `evaluate_table` hands out, without pictures."""
    paths = paths or [Path(f"/data/{label}/{i}.jpg") for i, label in enumerate(labels)]
    hashes = tuple(f"{i:064x}" for i in range(len(labels)))
    embedded = EmbeddedTable(rows, tuple(paths), tuple(labels), hashes, ())
    every = np.arange(len(rows))
    return JudgedTable(embedded, score_queries(rows, labels), score(rows, labels), every, every)
