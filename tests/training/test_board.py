"""TensorBoard's event files: the same figures as metrics.csv, whole after a resume."""

import csv
import os
import re
import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from cli_toys import check_failure
from test_loop import CONFIG, draw

from cgdcli.reports import EpochReport, RecallReport
from cgdcli.training.board import Board
from cgdcli.training.loop import Trainer, train
from cgdcli.training.metrics import metrics_columns, metrics_row

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def epoch(number, loss, recall=None):
    judged = recall and RecallReport({1: recall, 2: 0.9}, 0.3, 10, 10, 3, 0)
    return EpochReport(
        number, 9, 1e-4, loss, 1.0, 0.1, 0.9, 0.3, 88.0, 10.0 * number, judged, False
    )


def shown(run):
    """What TensorBoard shows of a run: {tag: {step: value}}."""
    events = accumulator.EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def test_a_run_and_its_resume_show_what_metrics_say(tmp_path):
    data = draw(tmp_path / "data", 3)
    config = replace(CONFIG, epochs=2, evaluations=1, tensorboard=True)
    reports = Trainer(data, config, runs=tmp_path, name="one", resume=False).reports()
    while not (isinstance(report := next(reports), EpochReport) and report.epoch == 1):
        pass
    reports.close()
    (first,) = (tmp_path / "one").glob("events.out.tfevents.*")
    os.truncate(first, first.stat().st_size - 20)  # what a crash of the machine may take
    # TensorBoard reads files by the second in their names, and no run is stopped and taken up by
    # one process within a second but here.
    begin, second, rest = re.fullmatch(r"(.*tfevents\.)(\d+)(\..*)", first.name).groups()
    first.rename(first.with_name(f"{begin}{int(second) - 1}{rest}"))
    run = train(runs=tmp_path, name="one", resume=True).run
    with (run / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    found = shown(run)
    assert {"loss", "mean_distance", "recall@1", "map@r", "learning_rate"} <= found.keys()
    for name, values in found.items():
        wanted = {int(row["epoch"]): float(row[name]) for row in rows if row[name]}
        assert values == pytest.approx(wanted, rel=1e-6), name
    shutil.rmtree(tmp_path)


def test_each_epoch_is_written_once_and_at_once(tmp_path):
    board, epochs = Board(tmp_path), [epoch(0, None, 0.2)]
    board.write(epochs)
    assert shown(tmp_path)["recall@1"] == pytest.approx({0: 0.2}) and "loss" not in shown(tmp_path)
    for number in (1, 2):
        epochs.append(epoch(number, 3.0 - number))
        board.write(epochs)
        assert shown(tmp_path)["loss"] == pytest.approx({n: 3.0 - n for n in range(1, number + 1)})
    before = board.path.stat().st_size
    board.write(epochs)
    assert board.path.stat().st_size == before


def test_epochs_of_before_stand_at_their_time(tmp_path):
    Board(tmp_path).write([epoch(n, 1.0) for n in range(4)])
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("loss")]
    assert [round(b - a) for a, b in pairwise(times)] == [10, 10, 10]


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    board = Board(tmp_path / "gone")
    for _ in range(2):
        board.write([epoch(0, None, 0.2)])
    assert caplog.text.count("cannot be written") == 1


def test_without_the_extra_it_is_refused_before_any_work(cgd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    ran = cgd("train", draw(tmp_path / "data", 2), "--tensorboard", "--runs", tmp_path / "runs")
    check_failure(ran, 2, "--tensorboard", "not installed")
    assert "pip install 'cgdcli[tensorboard]'" in ran.err and not (tmp_path / "runs").exists()


def test_columns_are_those_of_the_ranks_that_were_judged():
    epochs = [epoch(0, None), epoch(1, 2.0, 0.25)]
    columns = metrics_columns(epochs)
    assert columns[-3:] == ["recall@1", "recall@2", "map@r"]
    assert metrics_row(epochs[0], columns)[-3:] == [None] * 3
    assert metrics_row(epochs[1], columns)[-3:] == [0.25, 0.9, 0.3]
