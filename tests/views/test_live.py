"""The lines of a run that goes on: what they say, at any width."""

import io

import pytest
from rich.console import Console

from cgdcli.reports import EpochReport, RecallReport, StartReport, StepReport
from cgdcli.views.live import LiveRun, live_view

LOSSES = {"class": 1.5, "ranking": 0.101, "proxy": 0.713, "other": 0.0}


def recall(share):
    return RecallReport({1: share, 2: 0.9}, 0.3, 10, 10, 3, 0)


def epoch(number, share):
    judged = None if share is None else recall(share)
    return EpochReport(number, 40, 1e-4, 2.0, 1.0, 0.1, 0.9, 0.3, 88.0, 1.0, judged, False)


def started(*before, tmp="runs/one", first=1):
    return StartReport(tmp, 10, 300, 46, 40, first, 64, "cpu", "val", (), before)


def step(number=12, left=725.0, **changes):
    values = {"loss": 2.314, "learning_rate": 9.1e-5, "active_triplets": 0.84}
    values |= {"mean_distance": 1.213, "parts": LOSSES, "images_per_second": 88.2}
    return StepReport(23, number, 46, left_seconds=left, **(values | changes))


def shown(run, width=60):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(live_view(run))
    return console.file.getvalue().splitlines()


def running(*shares):
    run = LiveRun()
    run.take_up(started())
    for number, share in enumerate(shares):
        run.take_epoch(epoch(number, share))
    run.take_step(step())
    return run


def test_everything_at_sixty_columns():
    first, *rest = shown(running(0.302, 0.42, None, 0.4123))
    assert first.startswith("epoch 23/40 step 12/46 ") and first.endswith("56 % 12 min 05 s left")
    assert rest == [
        "loss 2.314 (class 1.500, ranking 0.101, proxy 0.713)",
        "active 84 %  distance 1.21  lr 9.1e-05  88.2 pictures/s",
        "Recall@1 41.2 %, best 42.0 % (epoch 1), untrained 30.2 %",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
def test_no_line_is_longer_than_the_terminal(width):
    run = running(0.3, 0.4)
    run.take_step(step(parts={f"loss of kind {n}": 1.0 for n in range(9)}, left=1e6))
    lines = shown(run, width)
    assert len(lines) == 4 and max(map(len, lines)) <= width
    assert len(lines[0].rstrip()) == width or width < 60


def test_what_goes_on_besides_steps():
    run = LiveRun()
    assert shown(run) == ["reading the data, measuring"]
    run.take_up(started())
    assert shown(run) == ["judging the backbone before training"]
    run.take_epoch(epoch(0, 0.3))
    run.take_step(step(46))
    assert shown(run)[0].endswith("judging and saving")
    run.take_step(step(1, left=None))
    assert shown(run)[0].endswith(" 55 %") and shown(run)[-1] == "Recall@1 untrained 30.0 %"
    run.take_epoch(epoch(40, 0.2))
    assert shown(run)[0].endswith("judging, drawing the page")
    assert shown(run)[-1] == "Recall@1 20.0 %, best 20.0 % (epoch 40), untrained 30.0 %"


def test_a_run_that_goes_on_knows_what_it_had():
    run = LiveRun()
    run.take_up(started(epoch(0, 0.3), epoch(1, None), epoch(2, 0.25)))
    run.take_step(step())
    assert shown(run)[-1] == "Recall@1 25.0 %, best 25.0 % (epoch 2), untrained 30.0 %"


def test_a_run_with_nothing_left_to_train_is_about_to_end():
    run = LiveRun()
    run.take_up(started(epoch(0, 0.3), epoch(40, None), first=41))
    assert shown(run)[0] == "judging, drawing the page"
