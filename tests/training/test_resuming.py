"""Runs whose pictures or settings changed while they were stopped: said, and gone on with where
that can work."""

import copy
import csv
import os
import shutil
import tomllib
from dataclasses import replace

import pytest
import torch
from PIL import Image
from test_loop import CONFIG, draw

from cgdcli.config import CANNOT_CHANGE, MAY_CHANGE, TrainConfig
from cgdcli.config.layers import Place
from cgdcli.errors import ConfigError, MismatchError, TrainingError
from cgdcli.reports import StartReport, StepReport
from cgdcli.training import choices
from cgdcli.training.learner import Learner
from cgdcli.training.loop import Trainer, train
from cgdcli.training.run import read_config_file, save_state

SMALL = replace(CONFIG, epochs=3, evaluations=1)


def stop(data, runs, config=SMALL, after=1):
    """A run of the name `one`, stopped after some epochs."""
    trainer = Trainer(data, config, runs=runs, name="one", resume=False)
    reports = trainer.reports()
    while trainer.progress.done < after or not trainer.progress.epochs:
        next(reports)
    next(reports)  # saved by now
    reports.close()


def go_on(runs, data=None, **changes):
    """Resumed by force up to its first step; what it said at the start, and the trainer."""
    how = {"runs": runs, "name": "one", "resume": True, "force": True}
    trainer = Trainer(data, None, changes=changes, **how)
    reports = trainer.reports()
    start, step = next(reports), next(reports)
    assert isinstance(start, StartReport) and isinstance(step, StepReport)
    reports.close()
    return start, trainer


def refused(runs, data=None, kind=MismatchError, force=False, **changes):
    before = {f: f.stat().st_ino for f in (runs / "one").iterdir()}
    with pytest.raises(kind) as caught:
        train(data, runs=runs, name="one", resume=True, force=force, changes=changes)
    assert {f: f.stat().st_ino for f in (runs / "one").iterdir()} == before
    return caught.value


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Data of three classes, and a run on it stopped after an epoch of three."""
    folder = tmp_path_factory.mktemp("stopped")
    draw(folder / "data", 3)
    stop(folder / "data", folder / "runs")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def here(stopped, tmp_path):
    """The same, to be changed: what a run writes takes the place of a link, not of its file."""
    shutil.copytree(stopped / "data", tmp_path / "data")
    shutil.copytree(stopped / "runs", tmp_path / "runs", copy_function=os.link)
    return tmp_path


def test_every_setting_named_as_special_is_one():
    known = set(TrainConfig().to_dict())
    assert known >= MAY_CHANGE | set(CANNOT_CHANGE) and not MAY_CHANGE & set(CANNOT_CHANGE)


# ---- pictures


def change(data, kind):
    """Change the folder; what must be said of it."""
    picture = data / "c00/0.png"
    if kind == "added":
        (data / "c00/9.png").write_bytes(picture.read_bytes())
        return ["1 picture added (c00/9.png)"]
    if kind == "removed":
        picture.unlink()
        return ["1 picture removed (c00/0.png)"]
    if kind == "replaced":
        Image.new("RGB", (40, 30)).save(picture)
        return ["1 picture with other contents (c00/0.png)"]
    picture.rename(data / ("c00/x.png" if kind == "renamed" else "c01/x.png"))
    return ["1 picture added", "1 picture removed (c00/0.png)"]


@pytest.mark.parametrize("kind", ["added", "removed", "renamed", "replaced", "to another class"])
def test_changed_pictures_are_named_and_gone_on_with_by_force(here, kind):
    words = change(here / "data", kind)
    error = refused(here / "runs", here / "data")
    assert error.exit_code == 4 and all(word in error.what for word in words)
    assert "--force" in error.hint
    start, _ = go_on(here / "runs", here / "data")
    assert (start.first_epoch, start.epochs) == (2, 3)
    assert any(words[0] in note for note in start.notes)
    assert start.images == len(list((here / "data").rglob("*.png")))


def test_what_was_forced_once_is_not_asked_again(here):
    change(here / "data", "added")
    go_on(here / "runs", here / "data", epochs=4)  # and stopped before its first epoch ends
    report = train(runs=here / "runs", name="one", resume=True)
    assert report.epochs == 4 and report.evaluation.queries == 10


def test_a_label_of_a_table_is_told(tmp_path):
    draw(tmp_path / "data", 3)
    rows = [f"c{c:02d}/{i}.png,c{c:02d},train" for c in range(3) for i in range(3)]
    table = tmp_path / "data/all.csv"
    table.write_text("\n".join(["path,label,split", *rows]))
    stop(table, tmp_path / "runs")
    table.write_text("\n".join(["path,label,split", *rows[:-1], "c02/2.png,c00,train"]))
    assert "c02/2.png: c02 -> c00" in refused(tmp_path / "runs").what


@pytest.mark.parametrize("kind", ["new", "gone"])
@pytest.mark.parametrize("force", [False, True])
def test_other_classes_cannot_be_forced(here, kind, force):
    if kind == "new":
        draw(here / "data", 1, first=7)
    else:
        (here / "data/c02").rename(here / "c02")
    error = refused(here / "runs", here / "data", force=force)
    name = "c07" if kind == "new" else "c02"
    assert f"1 class {kind} ({name})" in error.what and "--force" not in error.hint
    assert "--backbone-weights" in error.hint


def test_held_out_classes_stay_whatever_else_changes(tmp_path):
    """Drawn anew from one class more they would be others, and the new one the least of it."""
    data, runs = tmp_path / "data", tmp_path / "runs"
    draw(data, 10)
    stop(data, runs, after=0)
    draw(data, 1, first=20)
    assert "1 class new (c20);" in refused(runs).what
    shutil.rmtree(data / "c20")
    held_out = settings(runs)["data"]["held_out"]
    shutil.rmtree(data / held_out[0])
    assert f"3 pictures removed ({held_out[0]}/0.png," in refused(runs, seed=5).what
    start, trainer = go_on(runs, seed=5)
    assert trainer.data.held_out == (held_out[1],) and start.classes == 8


# ---- settings


def settings(runs):
    return tomllib.loads((runs / "one/config.toml").read_text())


def test_an_option_that_repeats_the_run_is_welcome(here):
    same = {"epochs": 3, "learning_rate": SMALL.learning_rate, "backbone": SMALL.backbone}
    report = train(runs=here / "runs", name="one", resume=True, changes=same)
    assert report.epochs == 3


def test_what_tells_not_on_the_weights_may_change(here, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    report = train(here / "data", SMALL, runs=whole, name="one")
    changes = {"workers": 1, "evaluations": 3, "device": "cpu"}
    again = train(runs=here / "runs", name="one", resume=True, changes=changes)
    states = [torch.load(r.run / "resume.pt", weights_only=True)["model"] for r in (report, again)]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert settings(here / "runs")["evaluations"] == 3
    with (again.run / "metrics.csv").open() as handle:
        judged = [bool(row["recall@1"]) for row in csv.DictReader(handle)]
    assert judged == [True, False, True, True]  # the first epoch had passed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", 5, "--epochs 3 -> 5"),
        ("learning_rate", 1e-4, "--learning-rate 0.001 -> 0.0001"),
        ("weight_decay", 0.0, "--weight-decay 0.0001 -> 0.0"),
        ("optimizer", "adam", "--optimizer adamw -> adam"),
        ("batch_size", 4, "--batch-size 8 -> 4"),
        ("image_size", 48, "--image-size 32 -> 48"),
        ("ema", 0.0, "--ema 0.05 -> 0.0"),
        ("precision", "bf16", "--precision fp32 -> bf16"),
    ],
)
def test_a_setting_that_tells_on_them_wants_force(here, name, value, words):
    error = refused(here / "runs", **{name: value})
    assert words in error.what and "--force" in error.hint and "settings" in error.what
    start, _ = go_on(here / "runs", **{name: value})
    assert any(words in note for note in start.notes)
    assert settings(here / "runs")[name] == value
    assert start.epochs == (5 if name == "epochs" else 3)
    assert (start.batch_size, start.steps_per_epoch) == ((4, 2) if name == "batch_size" else (6, 2))
    assert settings(here / "runs")["measured"]["precision"] == (
        value if name == "precision" else "fp32"
    )


def test_the_optimizers_memory_is_kept_under_another_weight_decay(here):
    """Without decay its groups are others: what it knows must follow each parameter."""
    saved = torch.load(here / "runs/one/resume.pt", weights_only=True)
    how = {"runs": here / "runs", "name": "one", "resume": True, "force": True}
    trainer = Trainer(None, None, changes={"weight_decay": 0.0}, **how)
    next(trainer.reports())
    model, state = trainer.learner.model, trainer.learner.optimizer.state
    assert {group["weight_decay"] for group in trainer.learner.optimizer.param_groups} == {0.0}
    before = Learner(copy.deepcopy(model), SMALL, steps=9, precision=SMALL.precision)
    before.restore(saved, SMALL)
    pairs = zip(before.model.parameters(), model.parameters(), strict=True)
    learned = [(old, new) for old, new in pairs if old.requires_grad]
    assert len(learned) > 60  # all but the two projections
    for old, new in learned:
        assert torch.equal(before.optimizer.state[old]["exp_avg"], state[new]["exp_avg"])
    assert any(kept["exp_avg"].abs().sum() > 0 for kept in state.values())


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", "resnet34"),
        ("descriptors", "MG"),
        ("embedding_dim", 32),
        ("recipe", "reference"),
        ("minutes", 3.0),
        ("val_fraction", 0.5),
        ("backbone_weights", "default"),
    ],
)
def test_what_no_force_can_change(here, name, value, force):
    error = refused(here / "runs", kind=ConfigError, force=force, **{name: value})
    assert (
        f"--{name.replace('_', '-')} cannot be changed" in error.what and str(value) in error.what
    )


def test_a_loss_whose_proxies_are_not_there_does_not_fit(tmp_path):
    draw(tmp_path / "data", 3)
    stop(tmp_path / "data", tmp_path / "runs", replace(SMALL, proxy_weight=0.0))
    error = refused(tmp_path / "runs", force=True, proxy_weight=1.0)
    assert "--proxy-weight" in error.what and "does not fit" in error.what


def test_fewer_epochs_than_are_done(tmp_path):
    draw(tmp_path / "data", 3)
    stop(tmp_path / "data", tmp_path / "runs", after=2)
    error = refused(tmp_path / "runs", kind=ConfigError, force=True, epochs=1)
    assert "--epochs 1" in error.what and "2" in error.what
    ended = train(
        runs=tmp_path / "runs", name="one", resume=True, force=True, changes={"epochs": 2}
    )
    assert ended.epochs == 2


def test_a_run_that_epochs_end_where_it_stands_is_judged(tmp_path):
    """Its last epoch was not to be: without that there was no figure at all."""
    draw(tmp_path / "data", 3)
    stop(tmp_path / "data", tmp_path / "runs")
    how = {"runs": tmp_path / "runs", "name": "one", "resume": True, "force": True}
    seen = []
    ended = train(changes={"epochs": 1}, on_report=seen.append, **how)
    assert (seen[0].first_epoch, seen[0].epochs, len(seen)) == (2, 1, 1)
    assert ended.evaluation.queries == 9 and ended.model.name == "last.safetensors"
    with (ended.run / "metrics.csv").open() as handle:
        assert [bool(row["recall@1"]) for row in csv.DictReader(handle)] == [True, True]


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """A run of so many minutes that it came to three epochs, stopped after two."""
    monkeypatch.setattr(choices, "steps_that_fit", lambda *_, **__: (3, 2))
    draw(tmp_path / "data", 3)
    config = replace(SMALL, epochs=TrainConfig.epochs, minutes=5)
    stop(tmp_path / "data", tmp_path / "runs", config, after=2)
    return tmp_path


def read_by_config(runs):
    """What `cgd train --config` makes of the run's own file."""
    return TrainConfig.of_new_run(Place("file", read_config_file(runs / "one/config.toml")))


@pytest.mark.parametrize("epochs", [4, TrainConfig.epochs])
def test_epochs_in_place_of_minutes(timed, epochs):
    """The settings then say epochs alone, and --config takes them."""
    runs = timed / "runs"
    assert "--minutes 5.0 -> 0.0" in refused(runs, epochs=epochs).what
    start, _ = go_on(runs, epochs=epochs)
    assert (start.first_epoch, start.epochs) == (3, epochs)
    assert (settings(runs)["epochs"], settings(runs)["minutes"]) == (epochs, 0)
    config = read_by_config(runs)
    assert (config.epochs, config.minutes) == (epochs, 0)
    again = Trainer(None, None, runs=runs, name="one", resume=True, changes={"epochs": epochs})
    assert again.choices.epochs == epochs


def test_minutes_stay_where_epochs_are_not_given_anew(timed):
    """Not even by the run's own file, which says both."""
    runs = timed / "runs"
    file = read_config_file(runs / "one/config.toml")
    for changes in ({}, {"minutes": 5.0}, file):
        trainer = Trainer(None, None, runs=runs, name="one", resume=True, changes=changes)
        assert (trainer.config.minutes, trainer.choices.epochs) == (5, 3)
    for changes in ({"minutes": 0.0}, {"minutes": 3.0}, {"minutes": 3.0, "epochs": 9}):
        error = refused(runs, kind=ConfigError, force=True, **changes)
        assert "--minutes cannot be changed" in error.what
    error = refused(runs, kind=ConfigError, force=True, epochs=1)
    assert "--epochs 1 is fewer than the 2" in error.what


def test_a_config_file_edited_by_hand_is_noticed(here):
    file = here / "runs/one/config.toml"
    text = file.read_text()
    file.unlink()
    file.write_text(text.replace("margin = 0.1", "margin = 0.2"))
    assert "--margin 0.1 -> 0.2" in refused(here / "runs").what
    assert any("--margin" in note for note in go_on(here / "runs")[0].notes)


def test_pictures_and_settings_are_said_together(here):
    change(here / "data", "added")
    what = refused(here / "runs", here / "data", epochs=9).what
    assert "the pictures and settings are not those" in what
    assert "c00/9.png" in what and "--epochs 3 -> 9" in what


def test_a_state_of_another_version_is_said(here):
    state = torch.load(here / "runs/one/resume.pt", weights_only=True)
    del state["settings"]
    save_state(here / "runs/one", state)
    assert "another version" in refused(here / "runs", kind=TrainingError).what
