"""A model is known by its file's header; its tensors are read when they are asked for."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cgdcli.config import CGDConfig, Transform
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.model.cgd import CGD
from cgdcli.networks import known_network, model_info
from cgdcli.weights import loading
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.header import read_header

CONFIG = CGDConfig(transform=Transform(image_size=32), embedding_dim=16)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CONFIG).eval()


@pytest.fixture
def saved(model, tmp_path):
    assumed = ("stride layer3",)
    Checkpoint(CONFIG, dict(model.state_dict()), assumed=assumed).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_what_is_known_is_what_the_network_says_of_itself(saved, caplog):
    network = known_network(saved)
    assert "model" not in vars(network)  # not loaded
    assert caplog.messages == [f"{saved}: assumed stride layer3"]
    loaded = loading.load_model(saved)
    assert network.info == loaded.info == network.model.info
    assert (network.fingerprint, network.config) == (loaded.info.fingerprint, CONFIG)
    assert (network.embedding_dim, network.blocks) == (16, loaded.blocks)
    assert network.blocks == [("S", 0, 8), ("G", 8, 16)]


def test_the_network_is_the_files(saved, model):
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(known_network(saved).model.embed(pixels), model.embed(pixels))


def test_a_run_and_the_newest_run_are_their_checkpoints(saved, tmp_path, monkeypatch):
    run = tmp_path / "runs/one"
    run.mkdir(parents=True)
    saved.rename(run / "last.safetensors")
    (run / "result.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CGD_MODEL", raising=False)
    assert known_network(run).info.source == str(run / "last.safetensors")
    assert known_network(None).info.source == "runs/one/last.safetensors"
    monkeypatch.setenv("CGD_MODEL", "runs/one")
    assert known_network(None).info.source == "runs/one/last.safetensors"


def test_tensors_that_were_changed_are_noticed_without_loading_them(saved):
    tensors, metadata = load_file(saved), read_header(saved).metadata
    assert metadata is not None
    tensors["branches.0.weight"][0, 0] += 1
    save_file(tensors, saved, {"cgd": json.dumps(metadata)})
    with pytest.raises(MismatchError, match="changed after it was written"):
        known_network(saved)


def test_pooled_descriptors_are_as_long_as_the_backbone_has_channels(tmp_path):
    pooled = CGD(replace(CONFIG, embedding_dim=None))
    Checkpoint(pooled.config, dict(pooled.state_dict())).save(tmp_path / "p.safetensors")
    network = known_network(tmp_path / "p.safetensors")
    assert network.embedding_dim == 1024
    assert network.blocks == [("S", 0, 512), ("G", 512, 1024)]


def test_a_model_in_memory_is_itself(model):
    network = known_network(model)
    assert network.model is model
    assert network.info == model_info(model)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="neither a file"):
        known_network(tmp_path / "none.safetensors")
