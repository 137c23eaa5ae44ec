"""What a run keeps, measures and notices, where two processes train it."""

import shutil
from dataclasses import replace

import pytest
import torch
from gang import gang
from test_loop import CONFIG, draw

from cgdcli.config import Cache
from cgdcli.config.training import AUTO
from cgdcli.errors import CGDError
from cgdcli.training import choices
from cgdcli.training.distributed import joined
from cgdcli.training.loop import Trainer, train

SMALL = replace(CONFIG, epochs=2, evaluations=1, cache=Cache.disk, batch_size=AUTO)
CHANGED = replace(SMALL, tensorboard=True)


@pytest.fixture(autouse=True)
def tidy(tmp_path):
    yield
    shutil.rmtree(tmp_path)


def begin(data, runs, fits):
    """A run left in its second epoch: what this process kept, and the size of its batches."""
    choices.largest_batch = lambda model, config, shares: fits[torch.distributed.get_rank()]
    with joined() as processes:
        trainer = Trainer(data, CHANGED, runs=runs, name="one", resume=False, processes=processes)
        reports = trainer.reports()
        for report in reports:
            if getattr(report, "epoch", 0) == 2:
                break
        kept = trainer.reader.pictures.store.path.name
        reports.close()
    return kept, trainer.batches.batch_size


def go_on(runs, changes, force):
    try:
        return train(runs=runs, name="one", resume=True, changes=changes, force=force)
    except CGDError as error:
        return type(error).__name__, error.what, error.everywhere


@pytest.mark.slow
def test_two_processes_keep_refuse_and_go_on(tmp_path):
    data, runs = draw(tmp_path / "data", 4), tmp_path / "runs"
    found = gang(2, begin, tmp_path / "begun", data, runs, (8, 6))
    assert found == [("pictures.cache", 6), ("pictures1.cache", 6)]  # what fits both
    assert len(list((runs / "one").glob("events.out.tfevents.*"))) == 1
    (data / "c00/9.png").write_bytes((data / "c00/0.png").read_bytes())
    changes = {"margin": 0.2}
    for kind, what, everywhere in gang(2, go_on, tmp_path / "no", runs, changes, False):
        assert kind == "MismatchError" and everywhere
        assert "c00/9.png" in what and "--margin 0.1 -> 0.2" in what
    ends = gang(2, go_on, tmp_path / "yes", runs, changes, True)
    assert [end.epochs for end in ends] == [2, 2] and ends[0] == ends[1]
    assert ends[0].evaluation.queries == 13
    assert not list((runs / "one").glob("*.cache")) and not list((runs / "one").glob("*.lock"))
    assert (runs / "one/report.html").is_file()
