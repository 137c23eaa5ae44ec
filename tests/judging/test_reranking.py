"""Whether another order of the hits helps: against the two orders judged by hand."""

import numpy as np
import pytest

from cgdcli import RerankConfig, judge_reranking
from cgdcli.errors import ConfigError
from cgdcli.evaluation.scoring import score
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.exact import nearest
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.index.rerank import reranked

DIM, CLASSES, EACH = 16, 6, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Rows of classes that overlap, labels, and an index of them."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((CLASSES, DIM))
    values = np.repeat(centres, EACH, axis=0) + 1.3 * rng.standard_normal((CLASSES * EACH, DIM))
    rows = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    labels = [str(i // EACH) for i in range(CLASSES * EACH)]
    path = tmp_path_factory.mktemp("rerank") / "feats.npy"
    with IndexBuilder(path, DIM) as builder:
        files = [Picture(path.parent, f"{i}.jpg", label) for i, label in enumerate(labels)]
        builder.append(rows, files)
        known = {"source": "m", "fingerprint": "f" * 64}
        builder.finish(IndexHeader(0, DIM, known, "torch", "fp32", None, [str(path.parent)]))
    return path, rows, labels


def naive_recall_at_1(rows, labels, config):
    right = 0
    for query in range(len(rows)):
        _, ids = nearest(rows[query : query + 1], rows, config.top, exclude=[{query}])
        found = rows[ids[0]].astype(np.float64)
        best = ids[0][np.argmax(reranked(rows[query].astype(np.float64), found, config))]
        right += labels[best] == labels[query]
    return right / len(rows)


@pytest.mark.parametrize("method", ["k-reciprocal", "aqe", "dba"])
def test_both_orders_are_judged_on_the_same_queries(made, method):
    path, rows, labels = made
    config = RerankConfig(method, top=20)
    report = judge_reranking(path, config)
    first = report.differences[0]
    assert (report.queries, report.classes, report.top) == (len(rows), CLASSES, 20)
    assert first.name == "Recall@1"
    assert first.first == pytest.approx(score(rows, labels).recall[1])
    assert first.second == pytest.approx(naive_recall_at_1(rows, labels, config))
    assert first.low < first.high, "some query fares otherwise: the case that is wanted"
    assert first.low <= first.difference <= first.high
    average = report.differences[-1]
    assert average.name == "mAP@R" and average.first == pytest.approx(score(rows, labels).map_at_r)


def test_no_method_is_refused(made):
    with pytest.raises(ConfigError, match="named"):
        judge_reranking(made[0], RerankConfig())
