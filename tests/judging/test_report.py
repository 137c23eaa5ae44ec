"""The end of a run: its page and its queries are written, and never cost the run."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cgdcli.config import TrainConfig
from cgdcli.judging import report as job
from cgdcli.judging.judged import load_judged
from cgdcli.training import judge as judging
from cgdcli.training.loop import train
from cgdcli.views import run_page as page
from cgdcli.weights.header import read_header

CONFIG = TrainConfig(
    image_size=32, embedding_dim=16, backbone_weights="none", epochs=1, batch_size=8, per_class=2
)


def draw(folder, classes, first=0):
    for c in range(first, first + classes):
        for i in range(3):
            file = folder / f"c{c:02d}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([c, i])
            colour = np.random.default_rng(c).integers(40, 215, 3)
            values = np.clip(colour + rng.normal(0, 20, (24, 28, 3)), 0, 255)
            Image.fromarray(values.astype(np.uint8)).save(file)
    return folder


@pytest.fixture(autouse=True)
def tidy(tmp_path):
    """A run takes 200 MB: not kept after its test."""
    yield
    shutil.rmtree(tmp_path)


def test_a_run_with_a_test_is_judged_once_and_keeps_it(tmp_path, monkeypatch):
    seen, measured = [], []
    evaluate_table = judging.evaluate_table

    def spy(engine, table, *arguments, **options):
        measured.append(table)
        return evaluate_table(engine, table, *arguments, **options)

    monkeypatch.setattr(judging, "evaluate_table", spy)
    monkeypatch.setattr(page, "run_page", lambda report: seen.append(report) or "page")
    draw(tmp_path / "data/train", 10)
    draw(tmp_path / "data/test", 4, first=20)
    result = train(tmp_path / "data", CONFIG, runs=tmp_path / "runs", name="one")
    kept, header = load_judged(result.run), read_header(result.model).metadata
    assert len(measured) == 3  # before, epoch 1, test: embedded once, for test and page
    assert (kept.what, kept.fingerprint) == ("test", header["fingerprint"])
    assert kept.hits[:, 0].mean() == pytest.approx(result.test.recall[1])
    assert kept.average_precision.mean() == pytest.approx(result.test.map_at_r)
    (report,) = seen
    assert report.measures[0].value == pytest.approx(result.test.recall[1])
    assert [b.letter for b in report.branches] == ["S", "G"]
    assert [e.epoch for e in report.epochs] == [0, 1]
    assert (report.what, report.judged_on) == ("test", "held-out classes")
    assert (result.run / "report.html").read_text() == "page"


@pytest.mark.parametrize(
    ("classes", "what"),
    [(10, "held-out classes"), pytest.param(3, "train", marks=pytest.mark.slow)],
)
def test_a_run_without_test_shows_what_it_was_judged_on(tmp_path, classes, what):
    data = draw(tmp_path / "data", classes)
    result = train(data, CONFIG, runs=tmp_path / "runs", name="one")
    kept = load_judged(result.run)
    assert kept.what == what
    assert kept.hits[:, 0].mean() == pytest.approx(result.evaluation.recall[1])
    text = (result.run / "report.html").read_text(encoding="utf-8")
    assert f"Recall on {what}" in text
    assert ("These are the pictures trained on" in text) == (what == "train")


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), OSError(28, "No space left"), MemoryError(), KeyError("x")]
)
@pytest.mark.parametrize("where", ["describe_run", "write_text", "save_judged"])
def test_no_failure_of_the_page_costs_the_run(tmp_path, monkeypatch, caplog, where, error):
    def fail(*_):
        raise error

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(job, where, fail)
    if where != "describe_run":
        monkeypatch.setattr(job, "describe_run", lambda *_: _Any())
        monkeypatch.setattr(job, "judged_queries", lambda *_: None)
        monkeypatch.setattr(page, "run_page", lambda _: "page")
    if where == "write_text":
        monkeypatch.setattr(job, "save_judged", lambda *_: None)
    with caplog.at_level(logging.WARNING, "cgdcli"):
        job.finish_run(_Any(run=tmp_path / "run"), lambda: None, (), CONFIG, tmp_path)
    assert "report.html was not written" in caplog.text
    assert not list((tmp_path / "run").iterdir())


class _Any:
    what = fingerprint = "x"

    def __init__(self, **values):
        vars(self).update(values)


def test_a_run_whose_page_fails_is_finished_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "describe_run", lambda *_: 1 / 0)
    data = draw(tmp_path / "data", 3)
    result = train(data, replace(CONFIG), runs=tmp_path / "runs", name="one")
    assert json.loads((result.run / "result.json").read_text())["epochs"] == 1
    assert not (result.run / "report.html").exists()
