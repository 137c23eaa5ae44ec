"""Minutes become epochs and steps."""

import time

import pytest

from cgdcli.config import TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cache import PictureCache
from cgdcli.training.batches import BatchReader
from cgdcli.training.fitting import (
    ReadingPace,
    StepPace,
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
