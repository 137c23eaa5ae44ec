"""Settings of `cgd train`: where each comes from, and that they come back."""

import dataclasses
import tomllib

import pytest
from cli_toys import check_failure, draw_classes

from cgdcli.config import RECIPES, Recipe, TrainConfig
from cgdcli.config.training import AUTO


def printed(ran):
    assert ran.code == 0, ran.err
    return tomllib.loads(ran.out)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('epochs = 7\nmargin = 0.3\nstride = "layer4"\nerasing = 1\n')
    return path


def test_flag_before_environment_before_file_before_recipe(cgd, file, monkeypatch):
    monkeypatch.setenv("CGD_TRAIN_EPOCHS", "8")
    monkeypatch.setenv("CGD_TRAIN_MARGIN", "0.4")
    given = ("train", "--config", file, "--epochs", "9", "--recipe", "reference")
    found = printed(cgd(*given, "--print-config"))
    assert (found["epochs"], found["margin"], found["stride"]) == (9, 0.4, "layer4")
    assert found["batch_size"] == RECIPES[Recipe.reference]["batch_size"] == 128
    assert found["smoothing"] == TrainConfig().smoothing


def test_without_anything_it_is_the_default_recipe(cgd):
    found = printed(cgd("train", "--print-config"))
    assert TrainConfig.resolved(found) == TrainConfig()
    assert set(found) == {field.name for field in dataclasses.fields(TrainConfig)}


def test_a_recipe_in_a_file_is_the_ground_for_its_other_settings(cgd, tmp_path):
    (tmp_path / "r.toml").write_text('recipe = "reference"\nepochs = 3\n')
    found = printed(cgd("train", "--config", tmp_path / "r.toml", "--print-config"))
    assert (found["epochs"], found["optimizer"], found["schedule"]) == (3, "adam", "steps")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_recipe_holds_against_that_of_a_whole_file(cgd, tmp_path, monkeypatch, by):
    """What the file has by its own recipe was never chosen; what differs from it was."""
    file = tmp_path / "base.toml"
    file.write_text(cgd("train", "--erasing", "0.25", "--epochs", "12", "--print-config").out)
    given = ("--recipe", "reference") if by == "option" else ()
    if by == "environment":
        monkeypatch.setenv("CGD_TRAIN_RECIPE", "reference")
    found = printed(cgd("train", "--config", file, *given, "--print-config"))
    wanted = TrainConfig.of_recipe("reference").to_dict() | {"erasing": 0.25, "epochs": 12}
    assert found == wanted
    assert TrainConfig.resolved(found).to_dict() == wanted


def test_the_same_recipe_again_changes_nothing(cgd, tmp_path):
    file = tmp_path / "base.toml"
    first = cgd("train", "--recipe", "reference", "--epochs", "40", "--print-config").out
    file.write_text(first)
    assert cgd("train", "--config", file, "--recipe", "reference", "--print-config").out == first
    back = printed(cgd("train", "--config", file, "--recipe", "default", "--print-config"))
    assert back == TrainConfig().to_dict()


@pytest.mark.parametrize("of", ["typed", "environment"])
def test_what_was_written_by_hand_holds_against_a_recipe(cgd, tmp_path, monkeypatch, of):
    """Though it is what the file's own recipe says: who wrote it wanted it so."""
    file, lines = tmp_path / "hand.toml", "epochs = 20\nbatch_size = 128\n"
    given = ("train", "--config", file, "--print-config")
    if of == "typed":
        given += ("--recipe", "default")
    else:
        monkeypatch.setenv("CGD_TRAIN_RECIPE", "default")
    for recipe in ("", 'recipe = "reference"\n'):
        file.write_text(recipe + lines)
        found = printed(cgd(*given))
        assert (found["recipe"], found["epochs"], found["batch_size"]) == ("default", 20, 128)
        assert found["optimizer"] == TrainConfig.optimizer
    file.write_text('recipe = "reference"\nepochs = 20\nminutes = 3\n')
    check_failure(cgd(*given), 2, file, "minutes 3", "epochs 20")


def test_a_whole_file_less_its_length_is_whole(cgd, tmp_path):
    """`--epochs` takes the minutes of a file out of it, and what its recipe gave still yields."""
    file = tmp_path / "timed.toml"
    file.write_text(cgd("train", "--minutes", "30", "--print-config").out)
    given = ("--recipe", "reference", "--epochs", "5", "--print-config")
    found = printed(cgd("train", "--config", file, *given))
    assert found == TrainConfig.of_recipe("reference").to_dict() | {"epochs": 5}


def lengths(ran):
    found = printed(ran)
    return found["minutes"], found["epochs"]


def test_of_minutes_and_epochs_the_higher_place_decides(cgd, tmp_path, monkeypatch):
    epochs = TrainConfig.epochs
    file = tmp_path / "timed.toml"
    file.write_text(cgd("train", "--minutes", "30", "--print-config").out)
    given = ("train", "--config", file, "--print-config")
    assert lengths(cgd(*given)) == (30, epochs)  # what a run of that file was
    assert lengths(cgd(*given, "--epochs", "5")) == (0, 5)
    assert lengths(cgd(*given, "--epochs", str(epochs))) == (0, epochs)
    assert lengths(cgd(*given, "--minutes", "2")) == (2, epochs)
    assert lengths(cgd(*given, "--minutes", "0")) == (0, epochs)
    assert lengths(cgd(*given, "--recipe", "reference")) == (30, 20)
    monkeypatch.setenv("CGD_TRAIN_EPOCHS", "7")
    assert lengths(cgd(*given)) == (0, 7)
    assert lengths(cgd(*given, "--minutes", "2")) == (2, epochs)
    file.write_text(cgd("train", "--epochs", "9", "--print-config").out)
    monkeypatch.delenv("CGD_TRAIN_EPOCHS")
    monkeypatch.setenv("CGD_TRAIN_MINUTES", "3")
    assert lengths(cgd(*given)) == (3, epochs)
    assert lengths(cgd(*given, "--epochs", "4")) == (0, 4)


@pytest.mark.parametrize("place", ["options", "environment", "file"])
def test_minutes_and_epochs_in_one_place_are_refused(cgd, tmp_path, monkeypatch, place):
    file, given = tmp_path / "run.toml", ()
    file.write_text("minutes = 3\nepochs = 5\n" if place == "file" else "")
    if place == "options":
        given = ("--minutes", "3", "--epochs", "5")
    if place == "environment":
        monkeypatch.setenv("CGD_TRAIN_MINUTES", "3")
        monkeypatch.setenv("CGD_TRAIN_EPOCHS", "5")
    ran = cgd("train", "data", "--config", file, *given)
    named = file if place == "file" else place
    check_failure(ran, 2, named, "minutes 3", "epochs 5", "one of them")


def test_name_and_runs_may_stand_in_a_file(cgd, tmp_path, monkeypatch):
    """Read off the words with which a run that exists is refused."""
    there, file = tmp_path / "there", tmp_path / "run.toml"
    for run in ("three", "four", "five"):
        (there / run).mkdir(parents=True)
    file.write_text(f'name = "three"\nruns = "{there}"\n')
    given = ("train", "data", "--config", file)
    check_failure(cgd(*given), 1, there / "three", "exists")
    monkeypatch.setenv("CGD_TRAIN_NAME", "four")
    check_failure(cgd(*given), 1, there / "four")
    check_failure(cgd(*given, "--name", "five"), 1, there / "five")
    check_failure(cgd(*given, "--resume"), 1, there / "four", "no run")


def test_what_is_printed_is_a_config_file(cgd, file, tmp_path):
    first = cgd("train", "--config", file, "--seed", "5", "--print-config")
    (tmp_path / "again.toml").write_text(first.out)
    again = cgd("train", "--config", tmp_path / "again.toml", "--print-config")
    assert again.out == first.out


def test_a_runs_own_config_starts_another_like_it(cgd, in_toy, tmp_path):
    file = in_toy.run / "config.toml"
    found = printed(cgd("train", "--config", file, "--print-config"))
    assert found["epochs"] == 1 and found["image_size"] == 32
    draw_classes(tmp_path / "data", "red green", 3)
    options = ("--config", file, "--runs", tmp_path / "runs", "--name", "two")
    assert cgd("train", tmp_path / "data", *options).code == 0
    kept = tomllib.loads((tmp_path / "runs/two/config.toml").read_text())
    assert kept["image_size"] == 32 and kept["measured"]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", ("'epoch'",)),
        ("epochs = 0", ("--epochs", "0")),
        ("epochs = 2.5", ("epochs", "2.5")),
        ('epochs = "3"', ("epochs", "'3'")),
        ("crop_box = 1", ("crop_box", "1")),
        ("batch_size = 0", ("--batch-size 0", "2 to 100000")),
        ('batch_size = "autos"', ("batch_size", "'autos'")),
        ('stride = "layer5"', ("layer5",)),
        ('recipe = "best"', ("best",)),
        ('data = "pictures"', ("`data`", "bad.toml")),
        ("measured = 3", ("'measured'",)),
        ("resume = true", ("`resume`", "bad.toml")),
        ("name = 3", ("name = 3", "bad.toml")),
        ('batch_norm = "x"', ("batch_norm", "'x'")),
        ("epochs = ", ("bad.toml",)),
        ("\x00", ("bad.toml",)),
    ],
)
def test_bad_files_are_refused(cgd, tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    check_failure(cgd("train", "data", "--config", tmp_path / "bad.toml"), 2, *words)


def test_a_batch_size_may_be_a_word(cgd, tmp_path, monkeypatch):
    (tmp_path / "r.toml").write_text('batch_size = "auto"')
    for given in (("--batch-size", "auto"), ("--config", tmp_path / "r.toml")):
        assert printed(cgd("train", *given, "--print-config"))["batch_size"] == "auto"
    monkeypatch.setenv("CGD_TRAIN_BATCH_SIZE", "auto")
    assert printed(cgd("train", "--print-config"))["batch_size"] == "auto"
    assert TrainConfig(batch_size=AUTO) == TrainConfig(batch_size="auto")
    assert TrainConfig(recipe="reference", batch_size=AUTO).recipe_batch_size == 128


@pytest.mark.parametrize("value", ["0", "1", "-4", "automatic", "2.5", ""])
def test_other_words_for_a_batch_size_are_refused(cgd, value):
    check_failure(cgd("train", "data", f"--batch-size={value}"), 2, "--batch-size", value)


def test_the_nearest_name_is_suggested(cgd, tmp_path):
    (tmp_path / "bad.toml").write_text("learning_rates = 3")
    ran = cgd("train", "data", "--config", tmp_path / "bad.toml")
    assert "did you mean learning_rate?" in ran.err


def test_a_hint_names_the_option_as_it_is_typed(cgd, tmp_path):
    (tmp_path / "bad.toml").write_text('batch_norm = "x"')
    assert "--batch-norm" in cgd("train", "data", "--config", tmp_path / "bad.toml").err


def test_a_missing_file_is_refused(cgd):
    check_failure(cgd("train", "data", "--config", "gone.toml"), 2, "gone.toml")


def test_a_resumed_run_has_its_settings(cgd):
    check_failure(cgd("train", "--resume", "--print-config"), 2, "--print-config")


def test_help_tells_every_setting_with_its_default(cgd):
    said = " ".join(cgd("train", "--help").out.split())
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in said
        assert " ".join(str(field.metadata["help"]).split())[:30] in said
    assert "default: 64; reference: 128" in said
