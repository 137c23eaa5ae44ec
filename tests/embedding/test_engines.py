"""An int8 index keeps the network that made it: refreshes and queries compute with that one."""

import logging
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_toys import draw
from PIL import Image

from cgdcli import embed_images, search_images
from cgdcli.config import (
    CGDConfig,
    EmbedConfig,
    EmbedPrecision,
    SearchConfig,
    Transform,
    VectorConfig,
)
from cgdcli.embedding import parity
from cgdcli.embedding.engines import WORTH_QUANTIZING, Engines
from cgdcli.embedding.parity import samples
from cgdcli.engines import quantizing
from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD
from cgdcli.networks import known_network
from cgdcli.weights.checkpoint import Checkpoint

pytestmark = pytest.mark.openvino
INT8 = EmbedConfig(precision="int8")


@pytest.fixture(autouse=True)
def nearest_weights_and_any_agreement(monkeypatch):
    """Rounding weights well takes seconds; neighbours of an untrained network are mere chance."""
    monkeypatch.setattr("cgdcli.engines.rounding.with_rounded_weights", lambda model, _: model)
    monkeypatch.setattr(parity, "WANTED", dict.fromkeys(parity.WANTED, 0.0))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with pictures, a model, an int8 index, and the cache of its making."""
    folder = tmp_path_factory.mktemp("int8")
    torch.manual_seed(0)
    model = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=16)).eval()
    Checkpoint(model.config, dict(model.state_dict())).save(folder / "m.safetensors")
    for number in range(64):
        colour = ["red", "green", "blue"][number % 3]
        draw(folder / f"imgs/{number:02d}.png", colour, number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("cgdcli.engines.rounding.with_rounded_weights", lambda model, _: model)
        patch.setattr(parity, "WANTED", dict.fromkeys(parity.WANTED, 0.0))
        embed_images(folder / "imgs", folder / "f.npy", model=folder / "m.safetensors", config=INT8)
    (folder / "imgs").rename(folder / "moved")
    return folder


@pytest.fixture
def elsewhere(begun, tmp_path, monkeypatch):
    """Index, pictures and model on another machine: nothing in the cache, no NNCF."""
    for name in ("m.safetensors", "f.npy", "f.sqlite"):
        shutil.copy(begun / name, tmp_path / name)
    shutil.copytree(begun / "moved", tmp_path / "imgs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quantizing, "_version", lambda: None)
    return tmp_path


def refreshed(folder, **options):
    options = {"config": INT8} | options
    return embed_images(
        folder / "imgs", folder / "f.npy", model=folder / "m.safetensors", **options
    )


def test_the_header_says_how_it_was_made(begun):
    header = EmbeddingIndex.open(begun / "f.npy").header
    assert (header.engine, header.precision, len(header.calibration)) == ("openvino", "int8", 64)
    assert header.parity["pictures"] == 43  # of 64, a third calibrates
    assert 0.9 < header.parity["cosine_mean"] < 1


def test_a_refresh_computes_with_the_indexs_own_network(begun, elsewhere, monkeypatch):
    before = EmbeddingIndex.open(elsewhere / "f.npy")
    shutil.copy(elsewhere / "imgs/07.png", elsewhere / "imgs/zz.png")
    (elsewhere / "imgs/08.png").write_bytes((elsewhere / "imgs/07.png").read_bytes())
    done = refreshed(elsewhere)
    assert (done.embedded, done.precision) == (2, "int8")
    after = EmbeddingIndex.open(elsewhere / "f.npy")
    assert after.header.calibration == before.header.calibration
    rows = {after.picture(i).path: after.rows[i] for i in range(len(after))}
    assert np.array_equal(rows["zz.png"], rows["07.png"])
    assert np.array_equal(rows["08.png"], rows["07.png"])
    assert after.graph() == before.graph()


def reencoded(folder):
    """The pixels of a picture of the index in another file, which the index does not know."""
    with Image.open(folder / "imgs/05.png") as picture:
        picture.save(folder / "05.bmp")
    return folder / "05.bmp"


def test_a_query_computes_with_it_without_the_model(elsewhere):
    (elsewhere / "m.safetensors").unlink()
    index = EmbeddingIndex.open(elsewhere / "f.npy")
    (answer,) = search_images(reencoded(elsewhere), index, SearchConfig(k=1)).results
    assert Path(answer.hits[0].path).name == "05.png"
    assert answer.hits[0].similarity == pytest.approx(1, abs=1e-6)
    engines = sorted(file.name for file in (elsewhere / "cache/cgd/engines").iterdir())
    assert len(engines) == 1 and "int8" in engines[0]


def test_a_query_that_cannot_be_int8_says_so(elsewhere, monkeypatch, caplog):
    monkeypatch.setattr("cgdcli.engines.choosing.is_installed", lambda: False)
    monkeypatch.setattr(logging.getLogger("cgdcli"), "propagate", True)  # not after a command
    caplog.set_level("WARNING", "cgdcli")
    (answer,) = search_images(reencoded(elsewhere), elsewhere / "f.npy", SearchConfig(k=1)).results
    assert answer.hits[0].similarity > 0.9
    assert "is int8, and its queries are computed in fp32, since OpenVINO" in caplog.text
    with pytest.raises(ConfigError, match="computed by OpenVINO on the CPU"):
        draw(elsewhere / "imgs/new.png", "red", 99)
        refreshed(elsewhere)


@pytest.mark.parametrize("damage", ["UPDATE graph SET data = x'00'", "DROP TABLE graph"])
def test_a_network_that_is_damaged_or_gone(elsewhere, damage):
    with sqlite3.connect(elsewhere / "f.sqlite") as database:
        database.execute(damage)
    with pytest.raises(IndexFileError, match="gone or damaged") as caught:
        search_images(reencoded(elsewhere), elsewhere / "f.npy", SearchConfig(k=1))
    assert "--rebuild" in caught.value.hint


def test_a_new_index_wants_nncf(elsewhere):
    with pytest.raises(ConfigError, match="NNCF is not installed"):
        refreshed(elsewhere, rebuild=True)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_its_network(begun, elsewhere, monkeypatch):
    """It has no header yet; what it was calibrated on may have changed since."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere / "cache"))
    monkeypatch.setattr("cgdcli.engines.rounding.with_rounded_weights", lambda model, _: model)
    monkeypatch.setattr(parity, "WANTED", dict.fromkeys(parity.WANTED, 0.0))
    for file in ("f.npy", "f.sqlite"):
        (elsewhere / file).unlink()

    def stopped(done, total, skipped):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refreshed(elsewhere, on_progress=stopped)
    shutil.rmtree(elsewhere / "cache")
    monkeypatch.setattr(quantizing, "quantize", None)  # calling it would fail
    draw(elsewhere / "imgs/00a.png", "red", 99)
    done = refreshed(elsewhere)
    assert done.continued > 0 and done.rows == 65
    index = EmbeddingIndex.open(elsewhere / "f.npy")
    assert len(index.graph()) > 1e6


def test_other_sizes_are_refused(elsewhere):
    with pytest.raises(ConfigError, match=r"calibrated on pictures of 32 pixels, and --scales"):
        refreshed(
            elsewhere,
            rebuild=True,
            config=EmbedConfig(precision="int8", vectors=VectorConfig(scales=(1.0, 2.0))),
        )


def test_figures_that_are_too_low_are_refused(begun, elsewhere, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(begun / "cache"))
    monkeypatch.setattr(parity, "WANTED", dict.fromkeys(parity.WANTED, 1.01))
    with pytest.raises(MismatchError, match=r"int8 does not find .* at least 101 %"):
        refreshed(elsewhere, rebuild=True)


def test_samples_are_apart_and_spread_over_all(tmp_path):
    files = [tmp_path / str(n) for n in range(1000)]
    compared, calibration = samples(files, calibrates=True)
    assert (len(compared), len(calibration)) == (200, 100)
    assert not set(compared) & set(calibration)
    assert {int(f.name) // 100 for f in calibration} == set(range(10))
    assert samples(files[:30], calibrates=False) == (files[:30], [])
    few = samples(files[:30], calibrates=True)
    assert (len(few[0]), len(few[1])) == (20, 10)


def test_too_few_to_calibrate_on(begun, elsewhere, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere / "cache"))
    with pytest.raises(MismatchError, match="10 readable ones are too few"):
        embed_images(
            sorted((elsewhere / "imgs").iterdir())[:30],
            elsewhere / "g.npy",
            model=elsewhere / "m.safetensors",
            config=INT8,
        )


def test_auto_quantizes_where_it_is_worth_it(begun, elsewhere, monkeypatch):
    network = known_network(elsewhere / "m.safetensors")
    auto = EmbedConfig(precision="auto")

    def tried(pictures, config=auto):
        files = [elsewhere / str(n) for n in range(pictures)]
        return bool(Engines(network, config, files, elsewhere / "g.npy", None).calibration)

    assert not tried(WORTH_QUANTIZING)  # no NNCF
    monkeypatch.setattr(quantizing, "_version", lambda: "3.4")
    assert tried(WORTH_QUANTIZING) and not tried(WORTH_QUANTIZING - 1)
    assert not tried(WORTH_QUANTIZING, EmbedConfig(precision="auto", engine="torch"))
    files = [elsewhere / str(n) for n in range(WORTH_QUANTIZING)]
    parted = Engines(network, auto, files, elsewhere / "g.npy", None, whole=False)
    assert not parted.calibration
    scaled = EmbedConfig(precision="auto", vectors=VectorConfig(scales=(1.0, 2.0)))
    assert not tried(WORTH_QUANTIZING, scaled)
    assert tried(100, INT8) and not tried(WORTH_QUANTIZING, EmbedConfig(precision="bf16"))


@pytest.mark.parametrize("has", [True, False])
def test_bf16_where_the_processor_does_not_have_it(begun, elsewhere, monkeypatch, caplog, has):
    """`auto` does not try it; who asks for it is told."""
    monkeypatch.setattr("cgdcli.engines.choosing.is_installed", lambda: True)
    monkeypatch.setattr("cgdcli.engines.choosing.has_bf16", lambda: has)
    network = known_network(elsewhere / "m.safetensors")

    def candidates(**settings):
        config = EmbedConfig(**settings)
        return Engines(network, config, [], elsewhere / "g.npy", None)._candidates()

    assert candidates(precision="auto") == [EmbedPrecision.bf16] * has
    assert candidates(precision="auto", engine="torch") == [EmbedPrecision.bf16]
    assert not caplog.records and candidates(precision="fp32") == []
    candidates(precision="bf16")
    assert ["computed as fp32" in r.message for r in caplog.records] == [True] * (not has)
