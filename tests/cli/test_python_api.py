"""The Python API is the command line's: every public name, used once."""

import numpy as np
import pytest
from cli_toys import draw_classes

import cgdcli
from cgdcli import (
    CGD,
    CGDConfig,
    CGDError,
    EmbeddingIndex,
    ProfileConfig,
    SearchConfig,
    TrainConfig,
    Transform,
    convert_weights,
    embed_images,
    evaluate,
    load_model,
    profile_model,
    search_images,
    train,
)

NAMES = {
    *("CGD", "CGDConfig", "EmbeddingIndex", "load_model", "embed_images", "search_images"),
    *("train", "evaluate", "profile_model", "convert_weights", "CGDError", "__version__"),
}


def test_dir_names_what_there_is():
    assert set(dir(cgdcli)) >= NAMES
    assert set(dir(cgdcli)) == set(cgdcli.__all__)
    for name in dir(cgdcli):
        assert getattr(cgdcli, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        cgdcli.nonsense  # noqa: B018


def test_star_import():
    space = {}
    exec("from cgdcli import *", space)
    assert set(space) >= NAMES


def test_modules_of_the_same_name_do_not_hide_a_public_name():
    """`cgdcli.training` is a package and `cgdcli.train` a function; both stay what they are."""
    import cgdcli.embedding
    import cgdcli.evaluation
    import cgdcli.training.loop

    assert callable(cgdcli.train) and callable(cgdcli.evaluate) and callable(cgdcli.embed_images)


def test_from_training_to_hits(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data/train", "red green", 3)
    draw_classes(tmp_path / "data/val", "red green", 2, first=20)
    draw_classes(tmp_path / "data/test", "blue yellow", 2)
    config = TrainConfig(
        backbone_weights="none", image_size=32, epochs=1, batch_size=4, per_class=2
    )
    reports = []
    trained = train("data", config, runs="runs", name="one", on_report=reports.append)
    assert (trained.best_epoch, trained.judged_on) == (1, "val")
    assert trained.test.queries == 4 and reports
    assert trained.model == trained.run / "best.safetensors"

    model = load_model(trained.run)
    assert isinstance(model, CGD) and not model.training
    made = embed_images(["data/test"], "feats.npy", model=model)
    assert made.rows == 4

    index = EmbeddingIndex.open("feats.npy")
    assert len(index) == 4 and index.labels() == ["blue", "blue", "yellow", "yellow"]
    found = search_images(["data/test/blue/0.png"], index, SearchConfig(k=2), model=model)
    assert found.results[0].hits[0].path == "data/test/blue/0.png"
    by_path = search_images(["row:1"], "feats.npy", SearchConfig(k=9))
    assert len(by_path.results[0].hits) == 4

    assert evaluate(index=index).queries == 4
    assert evaluate("data/test", model=model).recall == trained.test.recall
    assert evaluate(query="data/val", gallery="data/train", model=trained.run).gallery == 6

    out, err = capfd.readouterr()
    assert out == ""  # a library does not print
    assert "Traceback" not in err


def test_a_model_in_memory(toy, tmp_path):
    import torch

    torch.manual_seed(0)
    model = CGD(CGDConfig(embedding_dim=None, transform=Transform(image_size=32)))
    assert model.training
    made = embed_images([toy.folder / "imgs"], tmp_path / "f.npy", model=model)
    assert made.embedding_dim == 1024 and np.load(tmp_path / "f.npy").shape == (9, 1024)
    query = toy.folder / "query.jpg"
    assert (
        search_images([query], tmp_path / "f.npy", SearchConfig(k=1), model=model).results[0].hits
    )
    with pytest.raises(CGDError) as caught:  # nothing on disk is that model
        search_images([query], tmp_path / "f.npy", SearchConfig(k=1))
    assert "in memory" in caught.value.what and caught.value.hint


def test_profile_and_conversion(toy, tmp_path):
    report = profile_model(
        CGDConfig(transform=Transform(image_size=32)), ProfileConfig(repeats=1, warmup=0)
    )
    assert report.counts.flops == 2 * report.counts.macs
    converted = convert_weights(toy.folder / "old.pth", tmp_path / "new.safetensors")
    assert (converted.source_entries, converted.written_entries) == (181, 129)
    assert load_model(converted.target).config.embedding_dim == 256


def test_errors_are_one_class_with_what_and_hint(tmp_path):
    for call in (
        lambda: load_model(tmp_path / "gone"),
        lambda: CGDConfig(descriptors="X"),
        lambda: EmbeddingIndex.open(tmp_path / "gone.npy"),
        lambda: convert_weights(tmp_path / "gone.pth"),
        lambda: train(tmp_path / "gone"),
        lambda: evaluate(tmp_path / "gone", index="x"),
    ):
        with pytest.raises(CGDError) as caught:
            call()
        assert caught.value.what and caught.value.hint


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_one_is_an_error_in_python_too(toy, k):
    with pytest.raises(CGDError, match=str(k)):
        search_images(["row:0"], toy.index, SearchConfig(k=k))


@pytest.mark.parametrize("ranks", [[], [0], [-1]])
def test_ranks_below_one_are_an_error_in_python_too(toy, ranks):
    with pytest.raises(CGDError):
        evaluate(index=toy.index, ranks=ranks)
