"""The folder of a run: settings come back, states are written whole or not at all."""

import resource
import time
import tomllib
from dataclasses import replace
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
from cgdcli.datasets.reading import TrainingData
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import OutputError, TrainingError
from cgdcli.images.cropping import Box
from cgdcli.training.choices import Choices
from cgdcli.training.run import (
    Settings,
    data_digest,
    find_unfinished,
    load_state,
    new_run,
    read_settings,
    save_state,
    write_settings,
)

ODD = TrainConfig(
    recipe=Recipe.reference,
    backbone="wide_resnet50_2",
    stride=StrideMode.layer4,
    descriptors="WRC",
    embedding_dim=48,
    image_size=64,
    backbone_weights='weights "odd" \\ é\n.pth',
    minutes=2.5,
    cache=Cache.none,
    learning_rate=1e-7,
    margin=0.25,
    val_fraction=0,
    seed=12345,
    dataset=Dataset.inshop,
    crop_box=True,
    device=Device.cpu,
)


def table(folder, *names):
    return ImageTable(tuple(folder / name for name in names), tuple(n[0] for n in names))


def data(folder, *names, held_out=()):
    train = table(folder, *names)
    return TrainingData(train, train, None, "held-out classes", held_out)


@pytest.mark.parametrize("config", [TrainConfig(), ODD], ids=["defaults", "odd"])
@pytest.mark.parametrize("folder", ["data", "d ü/\"quoted\" \\ 'x'"])
@pytest.mark.parametrize("side", [None, 448])
def test_settings_come_back(tmp_path, config, folder, side):
    choices = Choices(Precision.bf16, side, 7, 11)
    written = Settings(config, tmp_path / folder, choices)
    write_settings(tmp_path, written, data(tmp_path, "a/1", held_out=("é", "b")))
    settings = read_settings(tmp_path)
    assert settings.config == config and settings.choices == choices
    assert settings.data == tmp_path / folder and settings.data.is_absolute()
    saved = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    assert saved["data"]["held_out"] == ["é", "b"]


def test_settings_from_before_layouts_had_names_come_back(tmp_path):
    settings = Settings(TrainConfig(), tmp_path / "data", Choices(Precision.fp32, None, 1, 1))
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
    settings = Settings(TrainConfig(), tmp_path, Choices(Precision.fp32, None, 1, 1))
    write_settings(tmp_path, settings, data(tmp_path, "a/1"))
    file = tmp_path / "config.toml"
    file.write_text(file.read_text().replace('"SG"', '"SX"'))
    with pytest.raises(TrainingError, match="SX"):
        read_settings(tmp_path)


def test_run_is_named_by_time_backbone_and_letters(tmp_path):
    run = new_run(tmp_path / "a/runs", None, TrainConfig(descriptors="GS"))
    day, _, rest = run.name.partition("-")
    assert run.is_dir() and rest.endswith("-resnet18-GS")
    assert abs(time.mktime(time.strptime(day, "%Y%m%d")) - time.time()) < 2 * 86_400


def test_two_runs_in_one_second_without_names_do_not_share_a_folder(tmp_path):
    first = new_run(tmp_path, None, TrainConfig())
    try:
        assert new_run(tmp_path, None, TrainConfig()) != first
    except OutputError as error:
        assert first.name in error.what


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


def test_digest_is_of_paths_below_the_folder_and_labels(tmp_path):
    here = data_digest(data(tmp_path / "x", "a/1", "b/2"), tmp_path / "x")
    assert here == data_digest(data(tmp_path / "y", "a/1", "b/2"), tmp_path / "y")
    others = [("a/1",), ("a/1", "b/3"), ("b/2", "a/1"), ("a/1b", "/2")]
    digests = {data_digest(data(tmp_path / "x", *names), tmp_path / "x") for names in others}
    assert here not in digests and len(digests) == 4


def test_digest_is_of_boxes_and_roles_too(tmp_path):
    plain = table(tmp_path, "a/1", "a/2")
    variants = [
        plain,
        replace(plain, boxes=(None, Box(0, 0, 5, 5))),
        replace(plain, boxes=(None, Box(0, 0, 5, 6))),
        replace(plain, is_query=(True, False), is_gallery=(False, True)),
        replace(plain, is_query=(True, True), is_gallery=(False, True)),
    ]
    made = [TrainingData(plain, plain, test, "val") for test in variants]
    assert len({data_digest(one, tmp_path) for one in made}) == len(variants)


def test_digest_of_names_that_are_not_utf8(tmp_path):
    names = (b"a/caf\xe9".decode(errors="surrogateescape"), "b/2")
    assert data_digest(data(tmp_path, *names), tmp_path)
