"""An exported graph is PyTorch's function for any batch, or there is no file."""

import importlib.util
import json
import resource

import numpy as np
import onnxruntime
import pytest
import torch
from cli_toys import draw_classes

import cgdcli
from cgdcli.config import CGDConfig, ExportConfig, StrideMode, Transform
from cgdcli.engines.openvino_engine import openvino_package
from cgdcli.errors import CheckpointError, ConfigError, DatasetError, OutputError
from cgdcli.exporting import export_model, onnx_graph, openvino_graph
from cgdcli.model.cgd import CGD
from cgdcli.networks import model_info

EVERYTHING = {
    "descriptors": "SMGRCW",
    "embedding_dim": 24,
    "learned_p": True,
    "heads": ("linear", "affine", "whitening") * 2,
}
SG = {"descriptors": "SG", "embedding_dim": 16}
RNG = np.random.default_rng(0)


def network(backbone="resnet18", size=32, **config):
    torch.manual_seed(0)
    if not backbone.startswith("resnet"):
        config["stride"] = StrideMode.standard
    transform = Transform(size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    return CGD(CGDConfig(backbone=backbone, transform=transform, **config)).eval()


def pixels(count, size=32):
    return RNG.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def served_by_onnxruntime(file):
    session = onnxruntime.InferenceSession(file)
    assert [(i.name, i.type) for i in session.get_inputs()] == [("pixels", "tensor(uint8)")]
    assert [(o.name, o.type) for o in session.get_outputs()] == [("embedding", "tensor(float)")]
    metadata = session.get_modelmeta().custom_metadata_map
    return metadata, lambda given: session.run(["embedding"], {"pixels": given})[0]


def served_by_openvino(file):
    openvino = openvino_package()  # not imported at the top: unguarded, it reports to its makers
    graph = openvino.Core().read_model(file)
    (given,), (answer,) = graph.inputs, graph.outputs
    assert (given.any_name, answer.any_name) == ("pixels", "embedding")
    assert (given.element_type, answer.element_type) == (openvino.Type.u8, openvino.Type.f32)
    metadata = {k: value.astype(str) for k, value in graph.get_rt_info()["cgd"].items()}
    run = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return metadata, lambda given: run({"pixels": given})["embedding"]


SERVED = {".onnx": served_by_onnxruntime, ".xml": served_by_openvino}


# ---- real graphs


@pytest.mark.parametrize("suffix", SERVED)
@pytest.mark.parametrize(
    ("backbone", "size", "config"),
    [
        ("resnet18", 64, EVERYTHING),
        pytest.param("mobilenet_v3_small", 64, SG, marks=pytest.mark.slow),
        pytest.param("vit_b_32", 64, SG, marks=pytest.mark.slow),
        pytest.param("timm:convnext_atto", 64, SG, marks=pytest.mark.slow),
        pytest.param("timm:vit_tiny_patch16_224", 224, SG, marks=pytest.mark.slow),
    ],
)
def test_a_served_graph_gives_pytorchs_rows(tmp_path, suffix, backbone, size, config):
    model, target = network(backbone, size, **config), tmp_path / f"m{suffix}"
    report = export_model(model, target)
    metadata, run = SERVED[suffix](target)
    for count in (1, 3, 7):
        given = pixels(count, size)
        wanted = model.embed(torch.from_numpy(given)).numpy()
        rows = run(given)
        assert rows.dtype == np.float32 and np.abs(rows - wanted).max() < 1e-5
    assert json.loads(metadata["image_size"]) == size
    assert json.loads(metadata["mean"]) == [0.4, 0.5, 0.6]
    assert json.loads(metadata["std"]) == [0.2, 0.25, 0.3]
    assert metadata["fingerprint"] == model_info(model).fingerprint
    assert metadata["cgd_version"] == cgdcli.__version__
    assert metadata["descriptors"] == config["descriptors"]
    blocks = [tuple(block) for block in json.loads(metadata["blocks"])]
    assert blocks == model.blocks and "bilinear" in metadata["resize"]
    assert 0 < report.parity.difference < 1e-5
    assert report.parity.neighbours == 1 and report.parity.images is None
    for word in (str(tmp_path), cgdcli.__path__[0], torch.__path__[0], "stack_trace"):
        assert word.encode() not in target.read_bytes()  # nothing of the machine that made it
    written = sorted(tmp_path.iterdir())
    assert written == sorted(report.files)
    assert report.bytes == sum(file.stat().st_size for file in written)


def test_a_difference_over_the_tolerance_leaves_no_file(tmp_path):
    """A real one: two programs round differently, and 0 is asked for."""
    with pytest.raises(CheckpointError, match=r"differs from PyTorch by \d.*; at most 0 is wanted"):
        export_model(network(), tmp_path / "m.xml", config=ExportConfig(tolerance=0))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"could not write `m\.xml` whole"):
            export_model(network(), tmp_path / "m.xml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# ---- the job, with a graph that is PyTorch's own and may be made to err


class Copy:
    """A format whose graph is the network itself; `err` changes its answers."""

    name = "Copy"
    err = staticmethod(lambda rows: rows)

    def files(self, target):
        return target, target.with_suffix(".bin")

    def check_installed(self):
        pass

    def write(self, model, target, metadata):
        self.model = model
        target.write_text("graph")
        target.with_suffix(".bin").write_text("weights")

    def load(self, target):
        assert target.read_text() == "graph"
        return lambda given: self.err(self.model.embed(torch.from_numpy(given)).numpy())


@pytest.fixture
def copy(monkeypatch):
    form = Copy()
    monkeypatch.setitem(cgdcli.exporting._FORMATS, ".xml", lambda: form)
    return form


@pytest.fixture(scope="module")
def model():
    return network(embedding_dim=16)


def fixed_batch(rows):
    if len(rows) != 2:
        raise RuntimeError(f"Got: {len(rows)} Expected: 2\nmany more words")
    return rows


@pytest.mark.parametrize(
    ("err", "words"),
    [
        (lambda rows: rows + np.float32(2e-4), r"as Copy differs from PyTorch by 0\.0002; at most"),
        (lambda rows: rows * np.nan, "by inf"),
        (fixed_batch, "does not run on a batch of 1: Got: 1 Expected: 2 "),
        (lambda rows: rows[:1], r"answers a batch of 2 with \(1, 16\)"),
    ],
)
def test_a_graph_that_errs_leaves_what_was_there(tmp_path, model, copy, err, words):
    copy.err = err
    with pytest.raises(CheckpointError, match=words):
        export_model(model, tmp_path / "m.xml")
    assert not list(tmp_path.iterdir())
    (tmp_path / "m.xml").write_text("old")
    with pytest.raises(CheckpointError):
        export_model(model, tmp_path / "m.xml", force=True)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("m.xml", "old")]


def test_a_difference_within_the_tolerance_is_reported(tmp_path, model, copy):
    copy.err = lambda rows: rows + np.float32(2e-4)
    report = export_model(model, tmp_path / "m.xml", config=ExportConfig(tolerance=3e-4))
    assert report.parity.difference == pytest.approx(2e-4, rel=1e-3)
    assert report.parity.tolerance == 3e-4 and report.parity.pictures == 32


def test_other_neighbours_are_refused_however_large_the_tolerance(tmp_path, model, copy):
    copy.err = lambda rows: np.roll(rows, 1, axis=0)
    with pytest.raises(CheckpointError, match=r"nearest neighbour of \d.* % of 32 pictures"):
        export_model(model, tmp_path / "m.xml", config=ExportConfig(tolerance=1))
    assert not list(tmp_path.iterdir())


def test_a_model_of_nan_is_refused(tmp_path, copy):
    damaged = network(embedding_dim=16)
    damaged.branches[0].weight.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="NaN"):
        export_model(damaged, tmp_path / "m.xml")
    assert not list(tmp_path.iterdir())


def test_modes_and_weights_stay_what_they_were(tmp_path, copy):
    model = network(descriptors="S", embedding_dim=8).train()
    model.backbone.bn1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_model(model, tmp_path / "m.xml")
    assert model.training and not model.backbone.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_own_pictures_are_compared_and_broken_ones_named(tmp_path, model, copy):
    folder = draw_classes(tmp_path / "imgs", "red green", 3)
    (folder / "red/broken.jpg").write_bytes(b"no picture")
    report = export_model(model, tmp_path / "m.xml", images=folder)
    parity = report.parity
    assert (parity.pictures, parity.images) == (6, folder)
    assert [skipped.path for skipped in parity.skipped] == [str(folder / "red/broken.jpg")]
    few = ExportConfig(pictures=3)
    again = export_model(model, tmp_path / "n.xml", images=folder / "green", config=few)
    assert again.parity.pictures == 3


@pytest.mark.parametrize("readable", [0, 1])
def test_fewer_than_two_pictures_say_nothing(tmp_path, model, copy, readable):
    folder = tmp_path / "imgs"
    folder.mkdir()
    draw_classes(folder, "red", readable)
    with pytest.raises(DatasetError, match="one picture" if readable else "no pictures"):
        export_model(model, tmp_path / "m.xml", images=folder)
    for number in range(2):
        (folder / f"broken{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="fewer than two"):
        export_model(model, tmp_path / "m.xml", images=folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["imgs"]


# ---- what is refused before anything is done


def test_what_exists_is_not_replaced_unasked(tmp_path, model, copy):
    (tmp_path / "m.bin").write_text("another's weights")
    with pytest.raises(OutputError, match=r"m\.bin` exists"):
        export_model(model, tmp_path / "m.xml")
    export_model(model, tmp_path / "m.xml", force=True)
    assert (tmp_path / "m.bin").read_text() == "weights"
    with pytest.raises(OutputError, match=r"m\.xml` exists"):
        export_model(model, tmp_path / "m.xml")


@pytest.mark.parametrize("name", ["m", "m.pt", "m.onnx.zip"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"\.onnx \(ONNX\) or \.xml") as caught:
        export_model("gone", tmp_path / name)
    assert ".onnx" in caught.value.hint


def test_packages_that_are_not_there(tmp_path, model, monkeypatch):
    monkeypatch.setattr(openvino_graph, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match="openvino") as caught:
        export_model(model, tmp_path / "m.xml")
    assert "cgdcli[fast]" in caught.value.hint
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "onnxscript" else find(n, *a)
    )
    with pytest.raises(ConfigError, match="needs onnxscript, not") as caught:
        export_model(model, tmp_path / "m.onnx")
    assert "cgdcli[onnx]" in caught.value.hint


def test_a_network_too_large_for_a_file_of_onnx(tmp_path, model, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", 40_000_000)
    with pytest.raises(CheckpointError, match="at most 2 GiB") as caught:
        export_model(model, tmp_path / "m.onnx")
    assert "model.xml" in caught.value.hint and not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SERVED)
def test_a_layer_that_an_exporter_does_not_know(tmp_path, model, monkeypatch, suffix):
    def no_such_layer(*_, **__):
        raise RuntimeError("No conversion rule found for aten::x\nmore") from None

    monkeypatch.setattr(openvino_package(), "convert_model", no_such_layer)
    monkeypatch.setattr(torch.onnx, "export", no_such_layer)
    with pytest.raises(CheckpointError, match="for aten::x ") as caught:
        export_model(model, tmp_path / f"m{suffix}")
    assert caught.value.hint.startswith("try ") and not list(tmp_path.iterdir())
