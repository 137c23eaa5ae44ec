"""OpenVINO computes what PyTorch computes, is kept for the next time, and tells nobody."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cgdcli.config import CGDConfig, Device, EmbedPrecision, EngineName, StrideMode, Transform
from cgdcli.engines import openvino_engine as fast
from cgdcli.engines.choosing import make_engine
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import CheckpointError, ConfigError
from cgdcli.model.cgd import CGD
from cgdcli.networks import known_network, model_info

pytestmark = pytest.mark.openvino
RNG = np.random.default_rng(0)


def network(backbone="resnet18", size=32, seed=0, **config):
    torch.manual_seed(seed)
    if not backbone.startswith("resnet"):
        config["stride"] = StrideMode.standard
    transform = Transform(image_size=size)
    return CGD(CGDConfig(backbone=backbone, transform=transform, **config)).eval()


def pixels(count, size=32):
    return RNG.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def engine_of(model, precision=EmbedPrecision.fp32):
    return fast.openvino_engine(known_network(model), precision)


@pytest.fixture(scope="module")
def model():
    return network(embedding_dim=16)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cgd/engines"


@pytest.mark.parametrize(
    ("backbone", "config"),
    [
        ("resnet18", {"descriptors": "SMGRCW", "embedding_dim": 24}),
        ("resnet18", {"embedding_dim": None, "stride": StrideMode.layer4}),
        ("resnet18", {"embedding_dim": 16, "learned_p": True}),
        ("mobilenet_v3_small", {"descriptors": "SG", "embedding_dim": 16}),
        *(
            pytest.param(name, {"descriptors": "SG", "embedding_dim": 16}, marks=pytest.mark.slow)
            for name in ("swin_t", "vit_b_32")
        ),
    ],
)
def test_rows_are_pytorchs(cache, backbone, config):
    model = network(backbone, 64, **config)
    given = pixels(5, 64)
    rows, wanted = engine_of(model).embed(given), TorchEngine(model, Device.cpu).embed(given)
    assert rows.dtype == np.float32 and rows.shape == wanted.shape
    assert np.abs(rows - wanted).max() < 1e-5
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5


def test_a_row_is_the_same_whatever_else_is_embedded_and_by_how_many_threads(model, cache):
    engine, given = engine_of(model), pixels(64)
    wanted = np.concatenate([engine.embed(given[i : i + 8]) for i in range(0, 64, 8)])
    order = RNG.permutation(64)
    blocks = [order[i : i + 8] for i in range(0, 64, 8)]
    with ThreadPoolExecutor(4) as pool:
        rows = np.concatenate(list(pool.map(lambda block: engine.embed(given[block]), blocks)))
    assert np.array_equal(rows, wanted[order])
    blank = np.concatenate([given[:1], np.zeros_like(given[:7])])
    assert np.array_equal(engine.embed(blank)[0], wanted[0])


def test_the_first_inference_of_a_process_goes_alone(model, cache, monkeypatch):
    """Two at once would wait for each other for ever; see there."""
    at_once, most = [0], [0]

    class Request:
        def infer(self, inputs):
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.05)
            at_once[0] -= 1
            return {0: np.zeros((1, 16), np.float32)}

    class Compiled:
        create_infer_request = Request

    monkeypatch.setattr(fast, "cores", lambda: 4)
    monkeypatch.setattr(fast.OpenVINOEngine, "_begun", threading.Event())
    engine = fast.OpenVINOEngine(Compiled(), model.config, EmbedPrecision.fp32)
    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(engine.embed, pixels(1)) for _ in range(4)]
        while not first[0].done():
            assert most[0] <= 1
    most[0] = 0
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: engine.embed(pixels(1)), range(8)))
    assert most[0] > 1


def test_bf16_is_near_and_where_the_processor_has_it_not_the_same(model, cache):
    given = pixels(8)
    exact = engine_of(model).embed(given)
    reduced = engine_of(model, EmbedPrecision.bf16)
    rows = reduced.embed(given)
    assert reduced.precision == "bf16"
    differ = np.abs(rows - exact).max()
    assert differ < 0.05 and bool(differ > 0) is fast.has_bf16()


def test_a_network_is_compiled_once(model, cache, monkeypatch):
    given = pixels(3)
    first = engine_of(model).embed(given)
    (kept,) = cache.iterdir()
    monkeypatch.setattr(fast, "_compiled", None)  # calling it would fail
    assert np.array_equal(engine_of(model).embed(given), first)
    found = fast.cached_engine(model_info(model).fingerprint, EmbedPrecision.fp32, model.config)
    assert np.array_equal(found.embed(given), first)
    assert fast.cached_engine("0" * 64, EmbedPrecision.fp32, model.config) is None
    assert (
        fast.cached_engine(model_info(model).fingerprint, EmbedPrecision.bf16, model.config) is None
    )
    assert [file.name for file in cache.iterdir()] == [kept.name]


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "damage",
    ["cut", "flipped", pytest.param("empty", marks=_SLOW), pytest.param("no graph", marks=_SLOW)],
)
def test_a_damaged_file_is_compiled_anew(model, cache, damage):
    given = pixels(2)
    first = engine_of(model).embed(given)
    (kept,) = cache.iterdir()
    data = kept.read_bytes()
    if damage == "cut":
        kept.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        kept.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    elif damage == "empty":
        kept.write_bytes(b"")
    else:
        kept.unlink()
        fast._write(kept, b"whole, and no graph")
    assert np.array_equal(engine_of(model).embed(given), first)
    assert len(fast.read_graph(kept)) > 1_000_000  # whole again: it raises where it is not


def test_only_the_last_ones_are_kept(cache, monkeypatch):
    monkeypatch.setattr(fast, "KEPT", 2)
    for number in range(4):
        fast._write(cache / f"{number}.graph", b"x")
        os.utime(cache / f"{number}.graph", (number, number))
    fast._write(cache / "new.graph", b"x")
    assert sorted(file.name for file in cache.iterdir()) == ["3.graph", "new.graph"]


def test_a_cache_that_cannot_be_written_is_no_failure(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert engine_of(model).embed(pixels(1)).shape == (1, 16)


def test_another_result_is_refused(model, cache, monkeypatch):
    real = fast.OpenVINOEngine.embed
    monkeypatch.setattr(fast.OpenVINOEngine, "embed", lambda e, p: real(e, p) + np.float32(1e-3))
    with pytest.raises(CheckpointError, match=r"differs from PyTorch's by 0\.001"):
        engine_of(model)
    assert not cache.exists()


# ---- which engine


def chosen(model, **options):
    return make_engine(known_network(model), **options)


def test_auto_is_openvino_on_a_cpu_and_pytorch_without_it(model, cache, monkeypatch):
    assert chosen(model, device=Device.cpu).name == "openvino"
    assert chosen(model, engine=EngineName.torch).name == "torch"
    monkeypatch.setattr(fast, "_version", lambda: None)
    assert chosen(model, device=Device.cpu).name == "torch"
    with pytest.raises(ConfigError, match="not installed") as caught:
        chosen(model, engine=EngineName.openvino, device=Device.cpu)
    assert "cgdcli[fast]" in caught.value.hint


def test_a_network_that_it_cannot_compile(model, cache, monkeypatch, caplog):
    def no_such_layer(*_, **__):
        raise RuntimeError("No conversion rule found for operations: aten::x\nmore")

    monkeypatch.setattr(fast.openvino_package(), "convert_model", no_such_layer)
    caplog.set_level("INFO", "cgdcli")
    assert chosen(model, device=Device.cpu).name == "torch"
    with pytest.raises(CheckpointError, match="aten::x") as caught:
        chosen(model, engine=EngineName.openvino, device=Device.cpu)
    assert "--engine torch" in caught.value.hint and "more" not in caught.value.what


# ---- in a process of its own


def in_a_process(code, cache, *arguments):
    repository = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": repository, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_reported_to_anybody(tmp_path):
    """Whatever looks up a host or connects, in any thread, is noted; telemetry would, at once."""
    code = """
import socket, sys, time
asked = []
def note(*arguments, **_):
    asked.append(arguments)
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = note
import torch
from cgdcli.config import CGDConfig, EmbedPrecision, Transform
from cgdcli.engines.openvino_engine import openvino_engine
from cgdcli.model.cgd import CGD
from cgdcli.networks import known_network
model = CGD(CGDConfig(transform=Transform(image_size=32))).eval()
openvino_engine(known_network(model), EmbedPrecision.fp32)
time.sleep(2)
print(asked, sys.modules.get("openvino_telemetry"), "openvino" in sys.modules)
"""
    assert in_a_process(code, tmp_path).split() == ["[]", "None", "True"]
