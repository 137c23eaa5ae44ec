"""The network in int8: calibrated once, the same by the same pictures, run without NNCF."""

import shutil

import numpy as np
import pytest
import torch

from cgdcli.config import CGDConfig, Device, EmbedPrecision, EngineName, StrideMode, Transform
from cgdcli.engines import openvino_engine as fast
from cgdcli.engines import quantizing
from cgdcli.engines.choosing import make_engine
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.engines.quantizing import Recipe, calibrated, in_float
from cgdcli.errors import CheckpointError, ConfigError
from cgdcli.model.cgd import CGD
from cgdcli.networks import known_network

pytestmark = pytest.mark.openvino
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = CGDConfig(transform=Transform(image_size=32), embedding_dim=16)
    return known_network(CGD(config).eval())


@pytest.fixture(scope="module", autouse=True)
def weights_at_their_nearest():
    """Rounding them well takes seconds, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cgdcli.engines.rounding.with_rounded_weights", lambda model, _: model)
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory, network):
    """A cache that holds the network quantized, and that network."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return folder, calibrated(network, PIXELS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cgd/engines"


def test_rows_are_unit_near_and_not_the_same(network, kept, cache):
    rows = fast.quantized_engine(kept[1], network.config).embed(PIXELS)
    exact = fast.openvino_engine(network, EmbedPrecision.fp32).embed(PIXELS)
    reduced = fast.openvino_engine(network, EmbedPrecision.bf16).embed(PIXELS)
    assert rows.dtype == np.float32 and np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert np.abs(rows - exact).max() > np.abs(reduced - exact).max()  # it is no bf16 either
    assert np.vecdot(rows, exact).mean() > 0.98


def test_it_is_calibrated_once_for_the_same_pictures(network, kept, cache, monkeypatch):
    shutil.copytree(kept[0] / "cgd/engines", cache)
    monkeypatch.setattr(quantizing, "quantize", None)  # calling it would fail
    assert calibrated(network, PIXELS).digest == kept[1].digest
    with pytest.raises(CheckpointError):
        calibrated(network, PIXELS[:20])


def test_the_same_pictures_make_the_same_network(network, kept, cache, capfd):
    """Names in a graph are numbered through a process, so its digest is another."""
    again, first = calibrated(network, PIXELS), kept[1]
    assert capfd.readouterr().out == ""  # NNCF draws there
    rows = [fast.quantized_engine(g, network.config).embed(PIXELS) for g in (again, first)]
    assert again.digest != first.digest and np.array_equal(*rows)


def test_it_is_compiled_once_and_runs_without_what_made_it(network, kept, cache, monkeypatch):
    monkeypatch.setattr(quantizing, "_version", lambda: None)
    graph = QuantizedGraph(kept[1].data)
    first = fast.quantized_engine(graph, network.config).embed(PIXELS[:8])
    monkeypatch.setattr(QuantizedGraph, "opened", None)
    again = fast.quantized_engine(graph, network.config)
    assert again.precision == "int8" and np.array_equal(again.embed(PIXELS[:8]), first)


def test_a_graph_that_is_none(network, cache):
    with pytest.raises(CheckpointError, match="cannot compile the quantized resnet18"):
        fast.quantized_engine(QuantizedGraph(b"\x02" + b"\0" * 7 + b"<>" * 9), network.config)


def test_what_stays_in_float():
    torch.manual_seed(0)
    config = CGDConfig(transform=Transform(image_size=32), embedding_dim=16)
    graph = fast.converted(CGD(config).eval())
    kinds = {op.get_friendly_name(): op.get_type_name() for op in graph.get_ordered_ops()}

    def convolutions(**recipe):
        return sum(kinds[name] == "Convolution" for name in in_float(graph, Recipe(**recipe)))

    assert convolutions(first=False, stages=()) == 0 and convolutions(stages=()) == 1
    assert convolutions() == 1 + 2
    assert convolutions(stages=("layer1",)) == 1 + 4
    assert convolutions(stages=("layer2.0",)) == 1 + 3
    assert in_float(graph, Recipe(first=False, pooling=False, stages=())) == []
    behind = [kinds[name] for name in in_float(graph, Recipe(first=False, stages=()))]
    assert behind.count("MatMul") == 2 and "ReduceMean" in behind and "Relu" not in behind
    added = set(in_float(graph, Recipe(additions=True))) - set(in_float(graph, Recipe()))
    assert [kinds[name] for name in added] == [
        "Add"
    ] * 7  # one a block, and that of layer1.0 does anyway


def test_other_networks_are_left_alone(cache):
    config = CGDConfig(
        backbone="mobilenet_v3_small", stride=StrideMode.standard, transform=Transform(32)
    )
    with pytest.raises(CheckpointError, match="this is mobilenet_v3_small"):
        calibrated(known_network(CGD(config)), PIXELS)


def test_without_nncf_and_without_openvino(network, cache, monkeypatch):
    monkeypatch.setattr(quantizing, "_version", lambda: None)
    with pytest.raises(ConfigError, match="NNCF is not installed") as caught:
        calibrated(network, PIXELS)
    assert "cgdcli[int8]" in caught.value.hint


@pytest.mark.parametrize(
    ("engine", "device", "words"),
    [
        (EngineName.torch, Device.cpu, "--engine torch"),
        (EngineName.auto, Device.cuda, "--device cuda is another"),
        (EngineName.auto, Device.cpu, "not installed"),
    ],
)
def test_where_int8_cannot_be_computed(network, monkeypatch, engine, device, words):
    monkeypatch.setattr("cgdcli.engines.choosing.computes_on_cpu", lambda d: d is not Device.cuda)
    monkeypatch.setattr("cgdcli.engines.choosing.is_installed", lambda: False)
    with pytest.raises(ConfigError, match=words):
        make_engine(
            network,
            engine=engine,
            device=device,
            precision=EmbedPrecision.int8,
            quantized=lambda: pytest.fail("nothing is quantized for it"),
        )
