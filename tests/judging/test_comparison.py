"""Two runs, query by query: their difference, its interval, and when there is none to be had."""

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judgements import clustered, judgement
from PIL import Image
from test_intervals import naive

from cgdcli.config import CGDConfig, Transform
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.judging.comparison import compare_runs, settings_difference
from cgdcli.judging.judged import judged_queries, load_judged, save_judged
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One small checkpoint, which all runs here share: their judgements are made up."""
    file = tmp_path_factory.mktemp("model") / "last.safetensors"
    config = CGDConfig(embedding_dim=4, transform=Transform(image_size=32))
    return file, Checkpoint(config, dict(CGD(config).state_dict())).save(file)


def a_run(folder, model, judged, what="test", settings="epochs = 3\n[data]\npath = 'data'\n"):
    folder.mkdir(parents=True)
    (folder / "last.safetensors").symlink_to(model[0])
    (folder / "config.toml").write_text(settings)
    save_judged(folder, judged_queries(judged, what, model[1]))
    (folder / "result.json").write_text(
        json.dumps({"epochs": 3, "best_epoch": None, "seconds": 60.0})
    )
    return folder


def both(tmp_path, model, **changes):
    """Two judgements of the same pictures by other rows."""
    first = judgement(*clustered(spread=1.7, seed=1))
    second = judgement(*clustered(spread=1.2, seed=2))
    return (
        a_run(tmp_path / "runs/a", model, first),
        a_run(tmp_path / "runs/b", model, second, **changes),
        first,
        second,
    )


def test_difference_is_that_of_the_queries(tmp_path, model):
    a, b, first, second = both(tmp_path, model)
    report = compare_runs(a, b)
    assert (report.what, report.queries, report.classes) == ("test", 30, 6)
    assert (report.first.run, report.first.seconds, report.second.epochs) == (a, 60.0, 3)
    labels = first.embedded.labels
    assert [d.name for d in report.differences] == [
        *(f"Recall@{k}" for k in (1, 2, 4, 8)),
        "mAP@R",
    ]
    values = [second.scores.hits[:, i].astype(float) - first.scores.hits[:, i] for i in range(4)]
    values.append(second.scores.average_precision - first.scores.average_precision)
    for found, each in zip(report.differences, values, strict=True):
        expected = naive(each.tolist(), labels)
        assert (found.difference, found.low, found.high) == pytest.approx(expected, abs=1e-9)
        assert found.second - found.first == pytest.approx(found.difference)


def test_the_other_way_round_changes_the_sign_alone(tmp_path, model):
    a, b, *_ = both(tmp_path, model)
    for one, other in zip(
        compare_runs(a, b).differences, compare_runs(b, a).differences, strict=True
    ):
        assert one.difference == pytest.approx(-other.difference)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_run_with_itself_does_not_differ(tmp_path, model):
    a, *_ = both(tmp_path, model)
    report = compare_runs(a, a)
    assert all((d.difference, d.low, d.high) == (0, 0, 0) for d in report.differences)
    assert report.settings == {}


def test_runs_are_found_by_name(tmp_path, model, monkeypatch):
    both(tmp_path, model)
    monkeypatch.chdir(tmp_path)
    assert compare_runs("a", "b").second.run == Path("runs/b")
    assert compare_runs("a", "b", runs=tmp_path / "runs").first.run == tmp_path / "runs/a"


def test_other_order_and_place_of_the_same_pictures_change_nothing(tmp_path, model):
    """Moved and listed otherwise: pictures are known by their content."""
    a, b, *_ = both(tmp_path, model)
    before = compare_runs(a, b)
    kept = load_judged(b)
    order = np.random.default_rng(0).permutation(30)
    per_query = {
        n: getattr(kept, n)[order] for n in ("labels", "sha256", "hits", "average_precision")
    }
    moved = np.array([f"/elsewhere{p}" for p in kept.paths[order]])
    save_judged(b, replace(kept, paths=moved, **per_query))
    assert compare_runs(a, b).differences == before.differences


def test_another_gallery_is_refused(tmp_path, model):
    """The same queries are asked, among other pictures."""
    a, b, *_ = both(tmp_path, model)
    save_judged(b, replace(load_judged(b), gallery="e" * 64))
    with pytest.raises(MismatchError, match="galleries that differ"):
        compare_runs(a, b)


@pytest.mark.parametrize("change", ["content", "label", "fewer"])
def test_other_pictures_are_refused(tmp_path, model, change):
    a, b, *_ = both(tmp_path, model)
    kept = load_judged(b)
    if change == "fewer":
        names = ("paths", "labels", "sha256", "hits", "average_precision")
        kept = replace(kept, **{n: getattr(kept, n)[:-1] for n in names})
    else:
        name = "sha256" if change == "content" else "labels"
        values = getattr(kept, name).copy()
        values[3] = "e" * 64 if change == "content" else "c5"
        kept = replace(kept, **{name: values})
    save_judged(b, kept)
    with pytest.raises(MismatchError, match="same pictures") as raised:
        compare_runs(a, b)
    assert raised.value.exit_code == 4
    assert "1 only" in raised.value.what


def test_settings_that_differ_are_named(tmp_path, model):
    text = "epochs = 5\nseed = 1\n[data]\npath = 'data'\n"
    a, b, *_ = both(tmp_path, model, settings=text)
    assert compare_runs(a, b).settings == {"epochs": (3, 5), "seed": (None, 1)}


def test_settings_difference_looks_into_tables():
    one, other = (tomllib.loads(t) for t in ("a = 1\n[data]\nx = [1]", "a = 1\n[data]\nx = [2]"))
    assert settings_difference(one, other) == {"data.x": ([1], [2])}
    assert settings_difference(one, {"a": 1}) == {"data.x": ([1], None)}


def test_an_unfinished_run_has_no_time(tmp_path, model):
    a, b, *_ = both(tmp_path, model)
    (b / "result.json").unlink()
    assert compare_runs(a, b).second.seconds is None


def held_out_run(folder, model, data, held_out, seed=0, judged_on="held-out classes"):
    """A run that kept no judgement: its own pictures are embedded."""
    text = (
        f'val_fraction = 0.2\nseed = {seed}\n[data]\npath = "{data}"\n'
        f'judged_on = "{judged_on}"\nheld_out = {json.dumps(held_out)}\n'
    )
    run = a_run(folder, model, judgement(*clustered()), settings=text)
    (run / "judged.npz").unlink()
    return run


@pytest.fixture
def classes(tmp_path):
    """Ten classes of two pictures, no val and no test."""
    for number in range(20):
        file = tmp_path / "data" / f"c{number // 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 12, 90, 250 - number * 12)).save(file)
    return tmp_path / "data"


def test_a_run_is_judged_again_on_the_classes_that_it_recorded(tmp_path, model, classes):
    """What would be drawn today is another thing: by the seed, and by classes that came later."""
    runs = [
        held_out_run(tmp_path / f"runs/{seed}", model, classes, ["c3", "c7"], seed)
        for seed in range(2)
    ]
    shutil.copytree(classes / "c1", classes / "d1")
    report = compare_runs(*runs)
    assert (report.what, report.queries, report.classes) == ("held-out classes", 4, 2)
    assert all(d.difference == 0 for d in report.differences)


def test_a_run_whose_held_out_classes_are_gone_is_refused(tmp_path, model, classes):
    run = held_out_run(tmp_path / "runs/a", model, classes, ["c3", "c7"])
    shutil.rmtree(classes / "c3")
    with pytest.raises(MismatchError, match=r"lacks 1 class of them \(c3\)"):
        compare_runs(run, run)


def test_a_run_whose_data_is_judged_otherwise_by_now_is_refused(tmp_path, model, classes):
    run = held_out_run(tmp_path / "runs/a", model, classes, [], judged_on="val")
    with pytest.raises(MismatchError, match=r"was judged on val, .* now judged on train"):
        compare_runs(run, run)


def test_recorded_classes_that_are_no_list_are_a_damaged_file(tmp_path, model, classes):
    run = held_out_run(tmp_path / "runs/a", model, classes, 3)
    with pytest.raises(CheckpointError, match=r"config\.toml"):
        compare_runs(run, run)


@pytest.mark.parametrize("file", ["config.toml", "result.json"])
def test_a_damaged_run_is_said(tmp_path, model, file):
    a, b, *_ = both(tmp_path, model)
    (b / file).write_text("{no")
    with pytest.raises(CheckpointError, match=file):
        compare_runs(a, b)


def test_what_is_no_run_is_said(tmp_path, model):
    a, *_ = both(tmp_path, model)
    with pytest.raises(CheckpointError, match="does not exist"):
        compare_runs(a, tmp_path / "gone")
    with pytest.raises(CheckpointError, match="not a run's folder"):
        compare_runs(tmp_path, a)
