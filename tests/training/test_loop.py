"""A run on drawn pictures of 32 px: unbroken or killed it ends with the same bits."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgdcli.config import Precision, StrideMode, TrainConfig
from cgdcli.errors import MismatchError, OutputError, TrainingError
from cgdcli.reports import EpochReport, StartReport, StepReport
from cgdcli.training import judge, keeping, leaving
from cgdcli.training.learner import Learner
from cgdcli.training.loop import Trainer, train
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint
from cgdcli.weights.loading import load_model

CONFIG = TrainConfig(
    backbone="shufflenet_v2_x0_5",  # a run takes a quarter of a ResNet-18's time: 45 MB a file
    stride=StrideMode.standard,
    image_size=32,
    embedding_dim=16,
    backbone_weights="none",
    epochs=3,
    batch_size=8,
    per_class=2,
    learning_rate=1e-3,
    workers=2,
    precision=Precision.fp32,
)
RESNET = replace(CONFIG, backbone="resnet18", stride=StrideMode.layer3)
REPOSITORY = Path(__file__).parents[2]


def draw(folder, classes, each=3, first=0):
    """Noise around a colour of the class's own."""
    for c in range(first, first + classes):
        place = folder / f"c{c:02d}"
        place.mkdir(parents=True)
        for i in range(each):
            rng = np.random.default_rng([c, i])
            colour = np.random.default_rng(c).integers(40, 215, 3)
            values = np.clip(colour + rng.normal(0, 20, (24, 28, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(place / f"{i}.png")
    return folder


def metrics(run):
    """Rows of metrics.csv less what tells the time."""
    with (run / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        del row["images_per_second"], row["train_seconds"]
    return rows


def tensors(path):
    return load_checkpoint(path)[0].tensors


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(autouse=True)
def tidy(tmp_path):
    """A run takes 200 MB: not kept after its test."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten classes, of which two are held out, and a test split."""
    folder = tmp_path_factory.mktemp("data")
    draw(folder / "train", 10)
    draw(folder / "test", 2, first=20)
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An unbroken run, and everything it reported."""
    seen, runs = [], tmp_path_factory.mktemp("runs")
    yield train(data, CONFIG, runs=runs, name="whole", on_report=seen.append), seen
    shutil.rmtree(runs)


def test_reports_come_in_order(whole):
    report, seen = whole
    kinds = [type(item) for item in seen]
    steps = seen[0].steps_per_epoch
    epoch = [StepReport] * steps + [EpochReport]
    assert kinds == [StartReport, EpochReport, *epoch * 3]
    assert [item.epoch for item in seen if isinstance(item, EpochReport)] == [0, 1, 2, 3]
    assert (report.epochs, report.judged_on) == (3, "held-out classes")


def test_run_folder_holds_what_it_says(whole):
    report, _ = whole
    assert {"last.safetensors", "best.safetensors", "metrics.csv", "config.toml"} <= {
        file.name for file in report.run.iterdir()
    }
    assert len(metrics(report.run)) == 4
    assert report.model == report.run / "best.safetensors"
    assert not list(report.run.glob("*.tmp")) and not list(report.run.glob("*.lock"))


def test_best_is_the_epoch_of_the_best_held_out_recall(whole):
    report, seen = whole
    judged = [e for e in seen if isinstance(e, EpochReport) and e.epoch > 0]
    order = [(e.evaluation.recall[1], e.evaluation.map_at_r) for e in judged]
    assert report.best_epoch == judged[order.index(max(order))].epoch
    assert load_checkpoint(report.model)[0].training["epoch"] == report.best_epoch
    assert len(load_checkpoint(report.model)[0].training["held_out"]) == 2


def test_test_is_judged_once_at_the_end_with_the_chosen_model(data, tmp_path, monkeypatch):
    judged = []
    evaluate_table = judge.evaluate_table

    def spy(engine, table, *arguments, **options):
        judged.append(table)
        return evaluate_table(engine, table, *arguments, **options)

    monkeypatch.setattr(judge, "evaluate_table", spy)
    report = train(data, replace(CONFIG, epochs=2), runs=tmp_path)
    tested = ["test" in str(table.paths[0].relative_to(data)) for table in judged]
    assert tested == [False, False, False, True]
    assert report.test.queries == 6 and report.test.labels == 2


def test_recall_on_test_cannot_move_best(data, tmp_path, monkeypatch):
    """With held-out recall falling, the first epoch is best, whatever test says."""
    falling = iter([0.9, 0.8, 0.7, 0.6, 1.0])
    evaluate_table = judge.evaluate_table

    def fake(*arguments, **options):
        report = evaluate_table(*arguments, **options)
        return replace(report, recall=dict.fromkeys(report.recall, next(falling)))

    monkeypatch.setattr(judge, "evaluate_table", fake)
    report = train(data, CONFIG, runs=tmp_path)
    assert report.best_epoch == 1
    assert load_checkpoint(report.model)[0].training["epoch"] == 1


def test_fewer_than_ten_classes_choose_no_best(tmp_path):
    data = draw(tmp_path / "data", 3)
    report = train(data, replace(CONFIG, epochs=1), runs=tmp_path / "runs")
    assert report.judged_on == "train" and report.best_epoch is None
    assert report.model.name == "last.safetensors"
    assert not (report.run / "best.safetensors").exists()
    assert report.test is None


def test_val_chooses_best_where_there_is_one(tmp_path):
    draw(tmp_path / "data/train", 3)
    draw(tmp_path / "data/val", 2, first=30)
    report = train(tmp_path / "data", replace(CONFIG, epochs=1), runs=tmp_path / "runs")
    assert (report.judged_on, report.best_epoch) == ("val", 1)
    assert report.evaluation.queries == 6


def test_same_seed_same_bits_another_seed_others(data, whole, tmp_path):
    again = train(data, CONFIG, runs=tmp_path, name="again")
    assert same(tensors(again.run / "last.safetensors"), tensors(whole[0].run / "last.safetensors"))
    assert metrics(again.run) == metrics(whole[0].run)
    other = train(data, replace(CONFIG, seed=1, epochs=1), runs=tmp_path, name="other")
    assert metrics(other.run)[1] != metrics(again.run)[1]


def test_number_of_reading_threads_changes_nothing(data, whole, tmp_path):
    report = train(data, replace(CONFIG, workers=5), runs=tmp_path)
    assert metrics(report.run) == metrics(whole[0].run)


# Stop and go on


def finish(data, whole, runs):
    report = train(runs=runs, name="broken", resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        assert same(tensors(report.run / name), tensors(whole[0].run / name))
    assert metrics(report.run) == metrics(whole[0].run)
    assert report.best_epoch == whole[0].best_epoch
    assert report.test.recall == whole[0].test.recall
    assert not list(report.run.glob(".*.tmp")) and not (report.run / "run.lock").exists()


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "stop", [1, pytest.param(3, marks=_SLOW), 6, pytest.param(10, marks=_SLOW)]
)
def test_run_stopped_anywhere_and_resumed_ends_with_the_same_bits(data, whole, tmp_path, stop):
    trainer = Trainer(data, CONFIG, runs=tmp_path, name="broken", resume=False)
    reports = trainer.reports()
    for _ in range(stop + 1):
        next(reports)
    reports.close()
    (tmp_path / "broken/.resume.pt.77.tmp").write_bytes(b"half")  # a kill while writing
    finish(data, whole, tmp_path)


@pytest.mark.parametrize(
    "which", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_in_an_epoch_saves_its_steps(data, whole, tmp_path, monkeypatch, which):
    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    before = signal.signal(which, stop)
    steps, step = [], Learner.step

    def interrupted(self, *arguments):
        steps.append(arguments[2])
        if arguments[2] == 4:  # the second of the second epoch: it is not cut in two
            signal.raise_signal(which)
        return step(self, *arguments)

    monkeypatch.setattr(Learner, "step", interrupted)
    try:
        with pytest.raises(Stopped):
            train(data, CONFIG, runs=tmp_path, name="broken")
        assert signal.getsignal(which) is stop
    finally:
        signal.signal(which, before)
    assert whole[1][0].steps_per_epoch == 3 and steps == [0, 1, 2, 3, 4]
    steps.clear()
    finish(data, whole, tmp_path)
    assert steps == [5, 6, 7, 8]


class Stopped(BaseException):
    """What a signal's handler raises."""


def told(monkeypatch, place, name, when):
    """SIGTERM as `place.name` is called for the `when`th time; what gives the handler back."""
    calls, real = [], getattr(place, name)

    def stop(*_):
        raise Stopped

    def interrupted(*given, **named):
        calls.append(name)
        if len(calls) == when:
            signal.raise_signal(signal.SIGTERM)
        return real(*given, **named)

    monkeypatch.setattr(place, name, interrupted)
    return signal.signal(signal.SIGTERM, stop)


@pytest.mark.parametrize(
    ("place", "name", "when"),
    [(Learner, "gives_numbers", 1), (Checkpoint, "save", 1), (keeping, "save_state", 3)],
)
def test_a_signal_at_the_end_of_an_epoch_costs_none_of_it(
    data, whole, tmp_path, monkeypatch, place, name, when
):
    """While the first epoch's last weights are looked at, and while it is saved."""
    steps, step = [], Learner.step
    monkeypatch.setattr(Learner, "step", lambda *a: (steps.append(a[3]), step(*a))[1])
    with monkeypatch.context() as patched:
        before = told(patched, place, name, when)
        try:
            with pytest.raises(Stopped):
                train(data, CONFIG, runs=tmp_path, name="broken")
        finally:
            signal.signal(signal.SIGTERM, before)
    assert steps == [0, 1, 2]
    finish(data, whole, tmp_path)
    assert steps == list(range(9))


def test_a_lock_that_another_host_took_over_ends_the_run(data, tmp_path):
    """A machine that slept: the run is another's by now."""
    reports = Trainer(data, CONFIG, runs=tmp_path, name="taken", resume=False).reports()
    next(reports)
    lock = tmp_path / "taken/run.lock"
    lock.write_text(json.dumps({"host": "another-host", "pid": 77}))
    with pytest.raises(OutputError, match="another-host"):
        list(reports)
    assert "another-host" in lock.read_text()


def test_a_signal_while_judging_saves_the_epoch(data, whole, tmp_path, monkeypatch):
    val, steps, step = judge.Judge.val, [], Learner.step

    def interrupted(self, model):
        if steps == [0, 1, 2]:  # of the first epoch all
            raise KeyboardInterrupt
        return val(self, model)

    monkeypatch.setattr(judge.Judge, "val", interrupted)
    monkeypatch.setattr(Learner, "step", lambda *a: (steps.append(a[3]), step(*a))[1])
    with pytest.raises(KeyboardInterrupt):
        train(data, CONFIG, runs=tmp_path, name="broken")
    steps.clear()
    finish(data, whole, tmp_path)
    assert steps[0] == 3


def test_a_second_signal_is_not_waited_with(data, tmp_path, monkeypatch):
    def impatient(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still here")

    monkeypatch.setattr(Learner, "step", impatient)
    monkeypatch.setattr(leaving, "SAME_WISH", 0)
    # A shell that starts the suite in the background leaves Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(data, CONFIG, runs=tmp_path, name="broken")
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_same_wish_told_twice_is_one(data, whole, tmp_path, monkeypatch, caplog):
    """By a launcher that passes on what each of its processes was sent as well."""
    step, steps = Learner.step, []

    def told_twice(*arguments):
        steps.append(arguments[3])
        if steps == [0, 1]:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(Learner, "step", told_twice)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(data, CONFIG, runs=tmp_path, name="broken")
    finally:
        signal.signal(signal.SIGINT, before)
    assert "SIGINT: the run stops once this step" in caplog.text
    assert "saved after step 2 of 3 of epoch 1" in caplog.text
    finish(data, whole, tmp_path)
    assert steps == list(range(9))


def test_an_ignored_signal_stays_ignored(data, tmp_path, monkeypatch):
    """As of a run that was started with nohup, or in the background."""
    step = Learner.step

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(Learner, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(data, replace(CONFIG, epochs=1), runs=tmp_path, name="one").epochs == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_long_epoch_is_saved_in_between(data, whole, tmp_path, monkeypatch):
    """What a kill in the second epoch then costs is a step, not the epoch."""
    monkeypatch.setattr(keeping, "SAVE_AFTER", 0.0)
    trainer = Trainer(data, CONFIG, runs=tmp_path, name="broken", resume=False)
    for report in trainer.reports():
        if getattr(report, "epoch", 0) == 2 and report.step == 3:
            break  # and nothing is saved any more
    monkeypatch.undo()
    again = Trainer(None, None, runs=tmp_path, name="broken", resume=True)
    for report in again.reports():
        if isinstance(report, StepReport):
            break
    assert (report.epoch, report.step) == (2, 3)
    finish(data, whole, tmp_path)


@pytest.mark.slow
def test_run_killed_and_resumed_ends_with_the_same_bits(data, whole, tmp_path):
    """SIGKILL in the middle of the second epoch, in a real process."""
    code = (
        "import sys, dataclasses; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_loop import CONFIG; from cgdcli.training.loop import train\n"
        "def say(report): print(type(report).__name__, getattr(report, 'epoch', ''), flush=True)\n"
        "train(sys.argv[1], CONFIG, runs=sys.argv[2], name='broken', on_report=say)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(data), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    for line in process.stdout:
        if line == "StepReport 2\n":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "broken/result.json").exists()
    finish(data, whole, tmp_path)


def test_newest_unfinished_run_is_resumed_without_a_name(data, tmp_path):
    small = replace(CONFIG, epochs=1)
    for name in ("first", "second"):
        reports = Trainer(data, small, runs=tmp_path, name=name, resume=False).reports()
        next(reports), next(reports)
        reports.close()
    assert train(runs=tmp_path, resume=True).run.name == "second"
    assert train(runs=tmp_path, resume=True).run.name == "first"
    with pytest.raises(TrainingError, match="no unfinished run"):
        train(runs=tmp_path, resume=True)


def test_finished_run_is_not_resumed(whole):
    with pytest.raises(TrainingError, match="has finished"):
        train(runs=whole[0].run.parent, name="whole", resume=True)


def test_run_that_is_not_there_is_not_resumed(tmp_path):
    with pytest.raises(TrainingError, match="nowhere"):
        train(runs=tmp_path, name="nowhere", resume=True)


def stopped(folder, runs):
    draw(folder, 3)
    reports = Trainer(
        folder, replace(CONFIG, epochs=1), runs=runs, name="broken", resume=False
    ).reports()
    next(reports), next(reports)
    reports.close()


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "relabelled"])
def test_changed_data_is_refused_at_resume(tmp_path, change):
    data, runs = tmp_path / "data", tmp_path / "runs"
    stopped(data, runs)
    picture = data / "c00/0.png"
    if change == "added":
        (data / "c00/9.png").write_bytes(picture.read_bytes())
    elif change == "removed":
        picture.unlink()
    else:
        picture.rename(data / ("c00/x.png" if change == "renamed" else "c01/x.png"))
    with pytest.raises(MismatchError, match="not those") as caught:
        train(runs=runs, name="broken", resume=True)
    assert caught.value.exit_code == 4


def test_moved_data_goes_on_when_its_place_is_given(tmp_path):
    stopped(tmp_path / "data", tmp_path / "runs")
    (tmp_path / "data").rename(tmp_path / "moved")
    report = train(tmp_path / "moved", runs=tmp_path / "runs", name="broken", resume=True)
    assert report.epochs == 1


@pytest.mark.parametrize("name", ["resume.pt", "config.toml"])
@pytest.mark.parametrize("data", [b"", b"damaged"])
def test_damaged_state_is_a_training_error(tmp_path, name, data):
    stopped(tmp_path / "data", tmp_path / "runs")
    (tmp_path / "runs/broken" / name).write_bytes(data)
    with pytest.raises(TrainingError, match="cannot be read"):
        train(runs=tmp_path / "runs", name="broken", resume=True)


# What goes wrong


def test_name_that_is_taken_is_refused_and_nothing_touched(data, whole):
    run = whole[0].run
    before = {file: file.stat().st_mtime_ns for file in run.iterdir()}
    with pytest.raises(OutputError, match="exists") as caught:
        train(data, CONFIG, runs=run.parent, name="whole")
    assert "--name" in caught.value.hint
    assert {file: file.stat().st_mtime_ns for file in run.iterdir()} == before


def test_runs_folder_that_is_a_file_is_refused(data, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OutputError):
        train(data, CONFIG, runs=tmp_path / "runs")


def test_broken_pictures_are_skipped_and_reported(tmp_path):
    data = draw(tmp_path / "data", 4)
    (data / "c00/0.png").write_bytes(b"no picture")
    (data / "c01/1.png").write_bytes(b"")
    report = train(data, replace(CONFIG, epochs=2), runs=tmp_path / "runs")
    skipped = {Path(entry.path).relative_to(data).as_posix() for entry in report.skipped}
    assert skipped == {"c00/0.png", "c01/1.png"}
    assert all(entry.reason for entry in report.skipped)
    assert report.evaluation.queries == 10


def test_broken_pictures_of_val_and_test_are_reported(tmp_path):
    for split in ("train", "val", "test"):
        draw(tmp_path / "data" / split, 3)
    for split in ("val", "test"):
        (tmp_path / "data" / split / "c00/0.png").write_bytes(b"no picture")
    report = train(tmp_path / "data", replace(CONFIG, epochs=1), runs=tmp_path / "runs")
    assert [Path(entry.path).name for entry in report.evaluation.skipped] == ["0.png"]
    assert [Path(entry.path).name for entry in report.test.skipped] == ["0.png"]


def test_no_readable_picture_is_said(tmp_path):
    from cgdcli.errors import CGDError

    data = draw(tmp_path / "data", 3)
    for file in data.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(CGDError, match="could be read"):
        train(data, CONFIG, runs=tmp_path / "runs")


def test_loss_that_is_not_finite_stops_the_run_with_the_last_good_weights(
    data, tmp_path, monkeypatch
):
    losses, calls = Learner.losses, []

    def diverge(*arguments, **options):
        calls.append(0)
        found = losses(*arguments, **options)
        return replace(found, total=found.total * float("nan")) if len(calls) > 7 else found

    monkeypatch.setattr(Learner, "losses", diverge)
    with pytest.raises(TrainingError, match="no longer finite") as caught:
        train(data, CONFIG, runs=tmp_path, name="nan")
    assert "--learning-rate" in caught.value.hint
    last = tmp_path / "nan/last.safetensors"
    assert all(value.isfinite().all() for value in tensors(last).values())
    assert not (tmp_path / "nan/run.lock").exists()


def test_weights_that_are_no_longer_finite_are_not_saved(data, tmp_path, monkeypatch):
    """The loss of an epoch's last step was finite before the weights changed."""
    step = Learner.step

    def spoil(self, pixels, labels, number, sizes):
        figures = step(self, pixels, labels, number, sizes)
        if number == 5:  # the last of the second epoch, which is not judged
            with torch.no_grad():
                next(self.model.backbone.parameters()).mul_(1e38).mul_(1e38)
        return figures

    monkeypatch.setattr(Learner, "step", spoil)
    config = replace(CONFIG, epochs=4, evaluations=1)
    with pytest.raises(TrainingError, match="step 3 of epoch 2") as caught:
        train(data, config, runs=tmp_path, name="nan")
    assert "last.safetensors" in caught.value.hint and "--resume" in caught.value.hint
    last = tmp_path / "nan/last.safetensors"
    assert all(value.isfinite().all() for value in tensors(last).values())
    monkeypatch.undo()
    assert train(runs=tmp_path, name="nan", resume=True).epochs == 4


def test_absurd_learning_rate_is_a_training_error_not_a_crash(data, tmp_path):
    with pytest.raises(TrainingError, match="no longer finite"):
        said = {"learning_rate": 1e3, "epochs": 30, "recipe": "reference"}
        small = ("image_size", "embedding_dim", "backbone_weights", "batch_size", "per_class")
        said |= {name: getattr(CONFIG, name) for name in small}
        absurd = TrainConfig.resolved(said)
        train(data, absurd, runs=tmp_path)


def test_two_processes_do_not_write_one_run(data, tmp_path):
    first = Trainer(data, CONFIG, runs=tmp_path, name="one", resume=False).reports()
    next(first), next(first)
    with pytest.raises(OutputError, match="being written"):
        train(runs=tmp_path, name="one", resume=True)
    first.close()


# What is learned


def test_classes_of_the_classifier_are_those_trained_on(whole, data):
    model = load_model(whole[0].model)
    held_out = load_checkpoint(whole[0].model)[0].training["held_out"]
    names = {folder.name for folder in (data / "train").iterdir()}
    assert set(model.info.class_names) == names - set(held_out)
    assert model.config.classes == 8


def test_random_weights_learn_statistics_and_given_ones_keep_theirs(data, tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "trunk.pth")
    given = replace(RESNET, epochs=1, backbone_weights=str(tmp_path / "trunk.pth"))
    kept = tensors(train(data, given, runs=tmp_path).run / "last.safetensors")
    assert (kept["backbone.bn1.running_mean"] == 0).all()
    assert kept["backbone.bn1.num_batches_tracked"] == 0
    assert (kept["backbone.bn1.weight"] != 1).any()
    scratch = train(data, replace(RESNET, epochs=1), runs=tmp_path, name="scratch")
    assert (tensors(scratch.model)["backbone.bn1.running_mean"] != 0).any()
