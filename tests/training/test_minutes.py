"""A run by minutes, planned on a disk that is slow."""

import os
import time
from dataclasses import replace

import pytest
from test_loop import CONFIG, draw

from cgdcli.training import choices
from cgdcli.training.loop import Trainer


def planned(data, runs, monkeypatch, minutes):
    """Epochs and steps of so many minutes, were a step 10 ms."""
    monkeypatch.setattr(choices, "step_seconds", lambda *_, **__: 0.01)
    config = replace(CONFIG, minutes=minutes, epochs=40, evaluations=1)
    made = Trainer(data, config, runs=runs, name="one", resume=False).choices
    return made.epochs, made.steps


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_what_is_saved_after_each_epoch_is_planned_for(tmp_path, monkeypatch, seconds):
    """Of small pictures the steps are the least of it: 24 s became 88, 37 of them for saving."""
    fsync = os.fsync

    def slowly(descriptor):
        time.sleep(seconds)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    data, runs = draw(tmp_path / "data", 4, each=5), tmp_path / "runs"
    epochs, steps = planned(data, runs, monkeypatch, minutes=0.2)
    assert epochs * (steps * 0.01 + 3 * seconds) < 12  # `last`, metrics and the state
    assert epochs > 2 and steps == 2
    assert not runs.exists()


def test_the_disk_of_the_runs_is_timed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(choices, "ending_seconds", lambda *given: asked.append(given[-1]) or 0.0)
    data = draw(tmp_path / "data", 4)
    planned(data, tmp_path / "runs", monkeypatch, minutes=0.2)
    assert asked == [tmp_path / "runs"]
