"""Minutes become epochs and steps."""

import os
import time
from unittest import mock

import pytest
import torch

from cgdcli.config import TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cache import PictureCache
from cgdcli.training.batches import BatchReader
from cgdcli.training.fitting import (
    ReadingPace,
    StepPace,
    ending_seconds,
    reading_pace,
    step_pace,
    steps_that_fit,
)
from cgdcli.training.sampler import ClassBatches


@pytest.mark.parametrize(
    ("first", "later", "judging", "wanted"),
    [
        (1.0, 1.0, 0, (11, 50)),  # 552 steps: eleven epochs, and two steps are left over
        (1.0, 1.0, 52, (10, 50)),
        (3.0, 1.0, 0, (9, 50)),  # 452: the first epoch took the time of three
        (1.0, 1.0, 480, (2, 36)),  # 72: one epoch would waste a third of the time
        (30.0, 1.0, 0, (1, 18)),
        (1000.0, 1.0, 0, (1, 2)),
    ],
)
def test_ten_minutes_and_epochs_of_fifty_steps(first, later, judging, wanted):
    assert steps_that_fit(10, StepPace(first, later), 50, judging) == wanted


@pytest.mark.parametrize(
    ("ending", "wanted"),
    [
        (2.0, (11, 48)),  # 552 seconds, of which twelve ends take 24, epoch 0's among them
        (50.0, (5, 50)),
        (150.0, (2, 50)),
        (260.0, (1, 32)),
        (530.0, (1, 2)),
        (1e5, (1, 2)),
    ],
)
def test_the_end_of_each_epoch_takes_its_time_of_ten_minutes(ending, wanted):
    pace = StepPace(1.0, 1.0)
    assert steps_that_fit(10, pace, 50, 0, ending=ending) == wanted


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize("ending", [0.0, 0.01, 0.09, 1.0, 4.0])
def test_steps_and_ends_of_epochs_fit_the_time(steps, ending):
    epochs, each = steps_that_fit(0.4, StepPace(0.06, 0.03), steps, 1.0, ending=ending)
    assert each <= steps
    took = 1.0 + epochs * each * 0.03 + min(each, steps) * 0.03 + (epochs + 1) * ending
    assert 0.75 * 24 < took <= 0.93 * 24 or epochs * each == 2


class Looked:
    """A learner of 64 MB, of which 2 are looked at."""

    average = None

    def __init__(self, megabytes=64):
        self.tensors = {str(n): torch.zeros(2**18) for n in range(megabytes)}
        self.looks = 0

    def gives_numbers(self, pixels):
        self.looks += 1
        return True

    def judged_model(self):
        return torch.nn.ParameterDict(self.tensors)

    def model_bytes(self):
        return 2**20 * len(self.tensors)

    def state_bytes(self):
        return 4 * self.model_bytes()


def test_the_end_of_an_epoch_is_timed_where_the_runs_are(tmp_path, monkeypatch):
    """By a part of what it writes, and nothing is left."""
    sizes, fsync = [], os.fsync

    def slowly(descriptor):
        sizes.append((os.fstat(descriptor).st_size, os.fstat(descriptor).st_dev))
        time.sleep(0.02)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    learner = Looked()
    found = ending_seconds(learner, torch.zeros(1), tmp_path / "not" / "made yet")
    assert learner.looks == len(sizes) == 3
    assert 10 * 0.02 <= found < 10 * 2  # 320 MB are ten times the 32 that were written
    assert all(2**25 <= size < 1.1 * 2**25 for size, _ in sizes)
    assert {device for _, device in sizes} == {tmp_path.stat().st_dev}
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_said_by_the_one_who_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", mock.Mock(side_effect=OSError(28, "No space left on device")))
    assert ending_seconds(Looked(1), torch.zeros(1), tmp_path) >= 0


def test_what_is_read_more_slowly_than_learned_from_decides():
    quick, slow = ReadingPace(0.01, 0.01), ReadingPace(0.2, 0.01)
    assert step_pace(1.0, 10, (slow, quick), on_cpu=False) == StepPace(2.0, 1.0)
    # On a CPU decoding takes the network's cores, waiting for a disk does not.
    assert step_pace(1.0, 10, (slow, quick), on_cpu=True) == StepPace(2.0, 1.1)


@pytest.mark.parametrize("keeps", [True, False])
def test_reading_is_timed_as_it_will_be(tmp_path, monkeypatch, keeps):
    from PIL import Image

    paths = tuple(tmp_path / f"{n}.png" for n in range(8))
    for path in paths:
        Image.new("RGB", (40, 40)).save(path)
    picture = PictureCache.picture

    def slowly(self, path, box=None):
        if self.store is None or self.store.get(path, box) is None:
            time.sleep(0.02)
        return picture(self, path, box)

    monkeypatch.setattr(PictureCache, "picture", slowly)
    table = ImageTable(paths, ("a", "b") * 4)
    batches = ClassBatches(table.class_indices, batch_size=4, per_class=2, seed=0)
    config = TrainConfig(image_size=32, embedding_dim=16, workers=1)
    reader = BatchReader(table, batches, config, 64)
    anew, again = reading_pace(reader, keeps=keeps)
    assert 0.02 <= anew.seconds < 0.2 and anew.busy < anew.seconds
    assert (again.seconds < 0.02) is keeps
    assert reader.pictures.store is None
