"""The profiler itself, not only lists of what it leaves: run, save, convert."""

import copy
import shutil

import pytest
import torch
from reference import reference_name
from torch import nn

from cgdcli.config import CGDConfig, ConvertConfig, Foreign, Transform
from cgdcli.conversion import convert_weights, export_weights
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint
from cgdcli.weights.loading import load_model

CONFIG = CGDConfig(embedding_dim=32, classes=5, transform=Transform(image_size=64))


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def profiled(module):
    thop = pytest.importorskip("thop")
    macs, _ = thop.profile(module.eval(), inputs=(torch.zeros(1, 3, 64, 64),), verbose=False)
    assert macs > 1e6
    return module


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "DataParallel"])
def test_after_a_real_run_of_the_newest_thop(folder, wrapped):
    torch.manual_seed(0)
    model = CGD(CONFIG)
    clean = copy.deepcopy(model.state_dict())
    dirty = profiled(nn.DataParallel(model) if wrapped else model).state_dict()
    left = set(dirty) - {f"module.{n}" if wrapped else n for n in clean}
    assert left and all(n.rpartition(".")[2] in ("total_ops", "total_params") for n in left)
    torch.save(dirty, folder / "old.pth")
    said = ConvertConfig("SG", image_size=64)
    report = convert_weights(folder / "old.pth", config=said)
    assert set(report.dropped) == left
    tensors = load_checkpoint(report.target)[0].tensors
    assert set(tensors) == set(clean)
    assert all(torch.equal(tensors[n], t) for n, t in clean.items())
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    assert torch.equal(load_model(report.target).embed(pixels), CGD.embed(model, pixels))


def test_polluted_under_the_references_names(folder):
    torch.manual_seed(0)
    model = profiled(CGD(CONFIG))
    source = {
        (reference_name(n) if "total_" not in n else n): t for n, t in model.state_dict().items()
    }
    torch.save(source, folder / "old.pth")
    report = convert_weights(folder / "old.pth")
    assert report.written_entries == 129
    back = export_weights(report.target, Foreign.reference, folder / "back.pth")
    assert len(torch.load(back.target, weights_only=True)) == 129


def test_saving_a_polluted_model_ourselves_is_refused_or_clean(folder):
    """What `train` or a user saves through `Checkpoint` must not carry a profiler's entries."""
    model = profiled(CGD(CONFIG))
    checkpoint = Checkpoint(CONFIG, dict(model.state_dict()))
    with pytest.raises(Exception, match="total_ops"):
        checkpoint.model()
