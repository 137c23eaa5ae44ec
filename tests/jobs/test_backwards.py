"""Ours under another tool's names: the same bits, loadable there with strict=True, and back."""

import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import checkpoints, polluted, reference_name, state_dict

from cgdcli.config import CGDConfig, ConvertConfig, Foreign, Head, Strict, StrideMode
from cgdcli.conversion import convert_weights, export_weights
from cgdcli.errors import CheckpointError, MismatchError, OutputError
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint

GOLDEN = checkpoints()["models"]


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8)


def same(one, other):
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and tensor.shape == other[name].shape
        assert torch.equal(bits(tensor), bits(other[name])), name


@pytest.mark.parametrize("model", GOLDEN)
def test_golden_goes_and_comes_back_by_key_list(model, folder):
    """Keys, their order, shapes and bits are those that the reference's Model saves."""
    version = "0.0.31.post2005241907"
    content = polluted(model, version) if "after_profile" in GOLDEN[model] else state_dict(model)
    torch.save(content, folder / "old.pth")
    report = convert_weights(folder / "old.pth", config=ConvertConfig(model.split("_")[1]))
    back = export_weights(report.target, Foreign.reference, folder / "back.pth")
    written = torch.load(back.target, weights_only=True)
    same(written, state_dict(model))
    clean = GOLDEN[model]["clean"]
    assert [(n, list(t.shape), str(t.dtype)[6:]) for n, t in written.items()] == [
        (name, list(shape), dtype) for name, shape, dtype in clean
    ]


CONFIGS = st.builds(
    lambda backbone, letters, width, classes: CGDConfig(
        backbone=backbone,
        descriptors=letters,
        embedding_dim=width * len(letters),
        classes=classes,
    ),
    st.sampled_from(["resnet18", "resnet34", "resnet50"]),
    st.sampled_from(["S", "M", "G", "SG", "GS", "MS", "SMG", "GSM", "MGS"]),
    st.integers(1, 33),
    st.integers(1, 40),
)


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CONFIGS, st.integers(0, 2**31))
def test_any_configuration_comes_back_bit_for_bit(folder, config, seed):
    torch.manual_seed(seed)
    tensors = {
        # Odd bits too: NaN with a payload, negative zero, denormals.
        name: torch.randint(-(2**31), 2**31, t.shape, dtype=torch.int64).int().view(torch.float32)
        if t.is_floating_point()
        else t
        for name, t in CGD(config).state_dict().items()
    }
    Checkpoint(config, tensors).save(folder / "x.safetensors")
    export_weights(folder / "x.safetensors", Foreign.reference, folder / "x.pth", force=True)
    there = torch.load(folder / "x.pth", weights_only=True)
    assert list(there) == [reference_name(name) for name in tensors]
    again = convert_weights(
        folder / "x.pth", folder / "y.safetensors", ConvertConfig(config.descriptors), force=True
    )
    same(
        dict(sorted(tensors.items())),
        dict(sorted(load_checkpoint(again.target)[0].tensors.items())),
    )
    assert again.fingerprint == load_checkpoint(folder / "x.safetensors")[1].fingerprint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that saves a random network of a config and returns its path and model."""
    place = tmp_path_factory.mktemp("saved")

    def save(config, name="x.safetensors"):
        torch.manual_seed(0)
        model = CGD(config)
        Checkpoint(config, dict(model.state_dict())).save(place / name)
        return place / name, model

    yield save
    shutil.rmtree(place)


@pytest.mark.parametrize("backbone", ["resnet18", "resnext50_32x4d"])
def test_torchvision_loads_it_strictly(saved, folder, backbone):
    from torchvision import models

    source, model = saved(CGDConfig(backbone, StrideMode.standard, classes=3))
    report = export_weights(source, Foreign.torchvision, folder / "x.pth")
    network = getattr(models, backbone)(weights=None)
    network.fc = torch.nn.Identity()
    network.load_state_dict(torch.load(report.target, weights_only=True), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours = model.eval().backbone(images).mean((2, 3))
        assert torch.equal(network.eval()(images), ours)
    assert set(report.left_out) == {n for n in model.state_dict() if not n.startswith("backbone.")}
    assert not any("stride" in note for note in report.notes)


def test_timm_loads_it_strictly(saved, folder):
    timm = pytest.importorskip("timm")
    source, model = saved(CGDConfig("resnet18", StrideMode.standard))
    report = export_weights(source, Foreign.timm, folder / "x.pth")
    network = timm.create_model("resnet18", num_classes=0)
    network.load_state_dict(torch.load(report.target, weights_only=True), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours = model.eval().backbone(images).mean((2, 3))
        assert torch.allclose(network.eval()(images), ours, atol=1e-6)


def test_another_stride_is_noted_where_only_the_backbone_goes(saved, folder):
    source, _ = saved(CGDConfig(stride=StrideMode.layer4))
    report = export_weights(source, Foreign.torchvision, folder / "x.pth")
    assert any("stride" in note for note in report.notes)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (CGDConfig(stride=StrideMode.layer4, classes=2), "stride layer4"),
        (CGDConfig(descriptors="SR", classes=2), "descriptor R"),
        (CGDConfig(descriptors="SG", classes=2, gem_p=2.5), "p 2.5"),
        (CGDConfig(embedding_dim=None, classes=2), "pooled"),
        (CGDConfig(classes=2, heads=(Head.affine, Head.linear)), "affine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_load_there_and_embed_otherwise_is_refused(saved, folder, config, word):
    source, _ = saved(config)
    with pytest.raises(MismatchError, match=word) as caught:
        export_weights(source, Foreign.reference, folder / "x.pth")
    assert caught.value.exit_code == 4 and list(folder.iterdir()) == []


def test_reference_without_classifier_only_for_inference(saved, folder):
    source, _ = saved(CGDConfig())
    with pytest.raises(CheckpointError, match="no classifier"):
        export_weights(source, Foreign.reference, folder / "x.pth")
    report = export_weights(source, Foreign.reference, folder / "x.pth", strict=Strict.inference)
    assert len(torch.load(report.target, weights_only=True)) == 122


def test_existing_file_stays(saved, folder):
    source, _ = saved(CGDConfig(classes=2))
    (folder / "x.pth").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        export_weights(source, Foreign.reference, folder / "x.pth")
    assert (folder / "x.pth").read_bytes() == b"precious"


def test_foreign_file_goes_straight_on(folder):
    torch.save(state_dict("resnet18_SG_256_21"), folder / "old.pth")
    report = export_weights(folder / "old.pth", Foreign.torchvision, folder / "tv.pth")
    assert len(report.renamed) == 120
