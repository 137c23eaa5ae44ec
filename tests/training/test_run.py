"""The folder of a run: settings come back, states are written whole or not at all."""

import os
import resource
import time
import tomllib
from pathlib import Path

import pytest
import torch

from cgdcli.config import (
    Cache,
    Dataset,
    Device,
    Precision,
    Recipe,
    StrideMode,
    TrainConfig,
)
from cgdcli.config.training import AUTO
from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import ConfigError, OutputError, TrainingError
from cgdcli.locks import writer_lock
from cgdcli.training.choices import Choices
from cgdcli.training.run import (
    Settings,
    check_way_of_start,
    find_unfinished,
    load_state,
    make_run,
    read_settings,
    run_path,
    save_state,
    write_settings,
)
from cgdcli.training.toml import read_toml

ODD = TrainConfig(
    recipe=Recipe.reference,
    backbone="wide_resnet50_2",
    stride=StrideMode.layer4,
    descriptors="WRC",
    embedding_dim=48,
    image_size=64,
    backbone_weights='weights "odd" \\ é\n.pth',
    minutes=2.5,
    batch_size=AUTO,
    cache=Cache.none,
    learning_rate=1e-7,
    margin=0.25,
    val_fraction=0,
    seed=12345,
    dataset=Dataset.inshop,
    crop_box=True,
    device=Device.cpu,
)

ODD_NAMES = ("\U0001f600 smile", os.fsdecode(b"caf\xe9"), "del\x7f\x1b\x85\u2028\ttab")


def table(folder, *names):
    return ImageTable(tuple(folder / name for name in names), tuple(n[0] for n in names))


def data(folder, *names, held_out=()):
    train = table(folder, *names)
    return TrainingData(train, train, None, "held-out classes", held_out)


@pytest.mark.parametrize("config", [TrainConfig(), ODD], ids=["defaults", "odd"])
@pytest.mark.parametrize("folder", ["data", "d ü/\"quoted\" \\ 'x'", *ODD_NAMES])
@pytest.mark.parametrize("side", [64, 448])
def test_settings_come_back(tmp_path, config, folder, side):
    choices = Choices(Precision.bf16, side, 7, 11, 32)
    written = Settings(config, tmp_path / folder, choices)
    write_settings(tmp_path, written, data(tmp_path, "a/1", held_out=("é", folder)))
    settings = read_settings(tmp_path)
    assert settings.config == config and settings.choices == choices
    assert settings.data == tmp_path / folder and settings.data.is_absolute()
    tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))  # any reader takes it
    assert read_toml(tmp_path / "config.toml")["data"]["held_out"] == ["é", folder]


def test_settings_from_before_layouts_had_names_come_back(tmp_path):
    settings = Settings(TrainConfig(), tmp_path / "data", Choices(Precision.fp32, 64, 1, 1, 64))
    write_settings(tmp_path, settings, data(tmp_path, "a/1"))
    file = tmp_path / "config.toml"
    lines = [x for x in file.read_text().splitlines() if not x.startswith(("dataset", "crop_box"))]
    file.write_text("\n".join(lines))
    assert read_settings(tmp_path).config == TrainConfig()


@pytest.mark.parametrize(
    "text", ["", "epochs = 3", "not toml [", '[data]\npath = "x"', "\x00", "epochs = 'x'"]
)
def test_damaged_settings_are_refused(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_settings(tmp_path)


def test_bad_value_in_edited_settings_is_refused(tmp_path):
    settings = Settings(TrainConfig(), tmp_path, Choices(Precision.fp32, 64, 1, 1, 64))
    write_settings(tmp_path, settings, data(tmp_path, "a/1"))
    file = tmp_path / "config.toml"
    file.write_text(file.read_text().replace('"SG"', '"SX"'))
    with pytest.raises(TrainingError, match="SX"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"config": TrainConfig(), "resume": True}, "config is for a new run"),
        ({"config": TrainConfig(), "resume": False, "force": True}, "force without resume"),
        ({"config": None, "resume": False, "changes": {"epochs": 3}}, "changes without resume"),
    ],
)
def test_what_would_do_nothing_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        check_way_of_start(**given)


def test_both_ways_to_start_are_taken():
    check_way_of_start(TrainConfig(), resume=False, changes={})
    check_way_of_start(None, resume=True, changes={"epochs": 3}, force=True)


def test_run_is_named_by_time_backbone_and_letters(tmp_path):
    run = run_path(tmp_path / "a/runs", None, TrainConfig(descriptors="GS"))
    assert not run.parent.exists()
    make_run(run)
    day, _, rest = run.name.partition("-")
    assert run.is_dir() and rest.endswith("-resnet18-GS")
    assert abs(time.mktime(time.strptime(day, "%Y%m%d")) - time.time()) < 2 * 86_400


def test_two_starts_at_the_same_moment_do_not_share_a_folder(tmp_path):
    first, second = (run_path(tmp_path, "one", TrainConfig()) for _ in range(2))
    make_run(first)
    with pytest.raises(OutputError, match="exists"):
        make_run(second)


@pytest.mark.parametrize("place", ["file", "file/below", "locked"])
def test_a_place_for_runs_that_will_not_do_is_said_at_once(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o555)
    if os.access(tmp_path / "locked", os.W_OK):  # root may write anywhere
        place = place.replace("locked", "file")
    with pytest.raises(OutputError, match="cannot make a run"):
        run_path(tmp_path / place, "one", TrainConfig())


def test_a_run_that_exists_is_told_by_how_far_it_came(tmp_path):
    run = tmp_path / "one"
    run.mkdir()

    def told():
        with pytest.raises(OutputError) as caught:
            run_path(tmp_path, "one", TrainConfig())
        assert str(run) in caught.value.what and "another --name" in caught.value.hint
        return str(caught.value)

    assert "remove its folder" in told()
    (run / "resume.pt").touch()
    assert f"cgd train --resume --name one --runs {tmp_path}" in told()
    with writer_lock(run / "run"):
        assert f"pid {os.getpid()}" in told() and "--resume" not in told()
    (run / "result.json").touch()
    assert "has finished" in told()


def test_the_newest_run_that_nobody_is_at_is_taken_up(tmp_path):
    for age, name in enumerate(("new", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resume.pt").touch()
        os.utime(tmp_path / name / "resume.pt", (0, 1000 - age))
    assert find_unfinished(tmp_path, None).name == "new"
    with writer_lock(tmp_path / "new/run"):
        assert find_unfinished(tmp_path, None).name == "old"
        with writer_lock(tmp_path / "old/run"), pytest.raises(OutputError, match="pid"):
            find_unfinished(tmp_path, None)
        with pytest.raises(OutputError, match=f"the run `{tmp_path}/new` is being"):
            find_unfinished(tmp_path, "new")
    assert find_unfinished(tmp_path, "new").name == "new"


def test_state_comes_back(tmp_path):
    state = {"epoch": 3, "model": {"a": torch.arange(4.0)}, "epochs": [{"x": None, "y": (1, 2)}]}
    save_state(tmp_path, state)
    again = load_state(tmp_path)
    assert torch.equal(again.pop("model")["a"], state.pop("model")["a"])
    assert again == state


def test_full_disk_is_an_output_error_and_keeps_the_old_state(tmp_path):
    """torch.save raises a RuntimeError of its own there, which is no OSError."""
    save_state(tmp_path, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError):
            save_state(tmp_path, {"epoch": 2, "model": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_state(tmp_path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.mkdir, (self.mark,)


def test_state_with_code_in_it_is_refused_and_never_run(tmp_path):
    torch.save({"epoch": Evil(tmp_path / "ran")}, tmp_path / "resume.pt")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_missing_state_is_refused_in_words(tmp_path):
    for name in ("gone", None):
        with pytest.raises(TrainingError):
            find_unfinished(tmp_path / "runs", name)
