"""What each step gives, against indexes that are made with so many of them, one by one."""

import numpy as np
import pytest
import torch
from cli_toys import draw, draw_classes

from cgdcli import embed_images, evaluate, evaluate_vectors
from cgdcli.config import CGDConfig, EmbedConfig, Transform, VectorConfig
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import Checkpoint

LADDER = {
    "as the network gives them": VectorConfig(),
    "--flip": VectorConfig(flip=True),
    "--scales 1,1.5": VectorConfig(flip=True, scales=(1, 1.5)),
    "--whiten": VectorConfig(flip=True, scales=(1, 1.5), whiten=True),
    "--dim 4": VectorConfig(flip=True, scales=(1, 1.5), whiten=True, dim=4),
    "--dtype float16": VectorConfig(True, (1, 1.5), True, 4, "float16"),
}
WHOLE = LADDER["--dtype float16"]
SMALL = {"batch_size": 8, "workers": 1, "engine": "torch"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=16)).eval()


def noise(folder, labels, each):
    """Classes that only chance tells apart: any other row ranks them otherwise."""
    for place, label in enumerate(labels.split()):
        for number in range(each):
            draw(folder / f"{label}/{number}.png", "red", 100 * place + number)
    return folder


@pytest.fixture(scope="module")
def imgs(tmp_path_factory):
    return noise(tmp_path_factory.mktemp("steps") / "imgs", "a b c d", 6)


def made(imgs, model, vectors):
    file = imgs.parent / "f.npy"
    config = EmbedConfig(**SMALL, vectors=vectors)
    embed_images(imgs, file, model=model, config=config, rebuild=True)
    return file


def test_every_step_gives_what_an_index_made_so_gives(imgs, model):
    report = evaluate_vectors(imgs, vectors=WHOLE, model=model, config=EmbedConfig(**SMALL))
    assert [step.step for step in report.steps] == list(LADDER)
    assert (report.queries, report.gallery, report.labels) == (24, 24, 4)
    assert [step.dim for step in report.steps] == [16, 16, 16, 16, 4, 4]
    assert [step.row_bytes for step in report.steps] == [64, 64, 64, 64, 16, 8]
    assert [step.compute for step in report.steps] == [1, 2, *[2 * (1 + 1.5**2)] * 4]
    for step, vectors in zip(report.steps, LADDER.values(), strict=True):
        wanted = evaluate(index=made(imgs, model, vectors))
        assert step.recall == wanted.recall, step.step
        assert step.map_at_r == pytest.approx(wanted.map_at_r, abs=1e-9)
    plain = evaluate(imgs, model=model, config=EmbedConfig(**SMALL))
    assert report.steps[0].map_at_r == plain.map_at_r
    assert len({step.map_at_r for step in report.steps}) >= 4  # they are not one and the same


def test_scales_without_one_are_compared_with_one(imgs, model):
    report = evaluate_vectors(
        imgs, vectors=VectorConfig(scales=(1.5,)), model=model, config=EmbedConfig(**SMALL)
    )
    assert [step.step for step in report.steps] == ["as the network gives them", "--scales 1.5"]
    assert [step.compute for step in report.steps] == [1, 2.25]
    assert report.steps[0].map_at_r == evaluate(imgs, model=model).map_at_r


def test_queries_in_a_gallery_whose_rows_alone_are_learned_on(imgs, model, tmp_path):
    asked = draw_classes(tmp_path / "asked", "red green", 40, first=50)
    searched = draw_classes(tmp_path / "searched", "red green blue", 4, first=20)
    pair = {"query": asked, "gallery": searched, "model": model}
    report = evaluate_vectors(**pair, vectors=VectorConfig(dim=10))
    assert (report.queries, report.gallery) == (80, 12)
    assert report.steps[0].recall == evaluate(**pair).recall
    with pytest.raises(DatasetError, match="12 rows are too few"):
        evaluate_vectors(**pair, vectors=VectorConfig(dim=12))


def test_with_rows_enough_for_the_cut_alone_the_two_are_one_step(model, tmp_path):
    few = noise(tmp_path / "few", "a b", 6)
    report = evaluate_vectors(few, vectors=VectorConfig(whiten=True, dim=4), model=model)
    assert [step.step for step in report.steps[1:]] == ["--whiten --dim 4"]


def test_of_an_index_the_last_step_is_what_it_holds(imgs, model, tmp_path):
    """Its projection is frozen, learned on fewer pictures than it has now; its model is loaded."""
    folder = noise(tmp_path / "imgs", "a b c", 6)
    Checkpoint(model.config, dict(model.state_dict())).save(tmp_path / "m.safetensors")
    config = EmbedConfig(**SMALL, vectors=WHOLE)
    how = {"model": tmp_path / "m.safetensors", "config": config}
    embed_images(folder, tmp_path / "f.npy", **how)
    for number in range(20, 30):
        draw(folder / f"d/{number}.png", "red", 500 + number)
    embed_images(folder, tmp_path / "f.npy", **how)
    report = evaluate_vectors(index=tmp_path / "f.npy", config=EmbedConfig(**SMALL))
    assert [step.step for step in report.steps] == [
        *("as the network gives them", "--flip", "--scales 1,1.5"),
        *("--whiten --dim 4", "--dtype float16"),
    ]
    wanted = evaluate(index=tmp_path / "f.npy")
    assert report.steps[-1].recall == wanted.recall
    assert report.steps[-1].map_at_r == pytest.approx(wanted.map_at_r, abs=1e-9)
    assert report.gallery == 28


def test_what_cannot_be(imgs, model):
    with pytest.raises(ConfigError, match="no step"):
        evaluate_vectors(imgs, model=model, vectors=VectorConfig())
    with pytest.raises(ConfigError, match="have 16 columns"):
        evaluate_vectors(imgs, model=model, vectors=VectorConfig(dim=17))
    with pytest.raises(ConfigError, match="one thing to evaluate"):
        evaluate_vectors(model=model, vectors=WHOLE)


def test_rows_of_an_index_are_float16_and_unit(imgs, model):
    with EmbeddingIndex.open(made(imgs, model, WHOLE)) as index:
        assert index.rows.dtype == np.float16 and index.rows.shape == (24, 4)
