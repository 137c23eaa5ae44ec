"""The network that a run begins with."""

import logging
from dataclasses import replace

import pytest
import torch

from cgdcli.config import StrideMode, TrainConfig, Transform
from cgdcli.errors import CheckpointError
from cgdcli.model.backbones import make_trunk
from cgdcli.training.beginning import draw_complementary_, initial_model

pytest.importorskip("timm")


def weights(tmp_path, name):
    torch.manual_seed(4)
    trunk = make_trunk(name, StrideMode.standard, 64)
    torch.save(trunk.state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth", trunk.state_dict()


def config(name, file, **settings):
    return TrainConfig(
        backbone=name, backbone_weights=str(file), image_size=64, embedding_dim=8, **settings
    )


@pytest.mark.parametrize("name", ["timm:test_vit", "shufflenet_v2_x0_5"])
def test_it_has_the_weights_and_the_transform_of_its_backbone(tmp_path, name):
    file, state = weights(tmp_path, name)
    model = initial_model(config(name, file), 3)
    found = model.backbone.state_dict()
    assert all(torch.equal(found[n], t) for n, t in state.items())
    half = (0.5, 0.5, 0.5)
    wanted = Transform(64, half, half) if name == "timm:test_vit" else Transform(64)
    assert model.config.transform == wanted


@pytest.mark.parametrize(
    ("name", "rate", "said"),
    [
        ("timm:test_vit", 1e-3, True),
        ("timm:test_vit", 1e-4, False),
        ("timm:test_resnet", 1e-3, False),
    ],
)
def test_a_rate_for_resnets_is_said_to_be_high_for_what_has_no_batch_norm(
    tmp_path, caplog, monkeypatch, name, rate, said
):
    monkeypatch.setattr(logging.getLogger("cgdcli"), "propagate", True)
    file, _ = weights(tmp_path, name)
    with caplog.at_level(logging.WARNING, logger="cgdcli"):
        initial_model(config(name, file, learning_rate=rate), 3)
    assert ("has no BatchNorm" in caplog.text) is said


def projection(dim, **settings):
    given = TrainConfig(backbone_weights="none", image_size=32, **settings)
    model = initial_model(replace(given, descriptors="S", embedding_dim=dim), 3)
    return model.branches[0].weight.detach()


@pytest.mark.parametrize("dim", [8, 1024])  # of 512 channels to fewer, and to more than there are
def test_projections_are_drawn_orthonormal(dim):
    found = projection(dim, head_start="orthogonal")
    square = found @ found.T if dim < found.shape[1] else found.T @ found
    assert torch.allclose(square, torch.eye(len(square)), atol=1e-5)
    assert not torch.allclose(found, projection(dim, seed=1, head_start="orthogonal"))
    uniform = projection(dim, head_start="uniform")
    assert uniform.abs().max() <= 512**-0.5  # nn.Linear's own, as the reference draws them


@pytest.mark.parametrize("dim", [8, 512, 1024])
def test_projections_are_blind_to_what_all_channels_share(dim):
    found = projection(dim)
    assert found.sum(dim=1).abs().max() < 1e-5
    vectors = torch.rand(20, 512)
    centred = vectors - vectors.mean(dim=1, keepdim=True)
    torch.testing.assert_close(vectors @ found.T, centred @ found.T, atol=1e-5, rtol=0)
    if dim < 512:
        assert torch.allclose(found @ found.T, torch.eye(dim), atol=1e-5)
    else:  # lengths and angles of what is left stay
        kept = centred @ found.T
        torch.testing.assert_close(kept @ kept.T, centred @ centred.T, atol=1e-4, rtol=1e-4)
    assert torch.equal(found, projection(dim))
    assert not torch.allclose(found, projection(dim, seed=1))


def drawn(rows, branches, channels=64):
    weights = [torch.empty(rows, channels) for _ in range(branches)]
    torch.manual_seed(0)
    draw_complementary_(weights)
    return torch.cat(weights)


@pytest.mark.parametrize(("rows", "branches"), [(16, 2), (16, 3), (21, 3), (40, 1)])
def test_what_one_branch_leaves_out_another_keeps(rows, branches):
    both = drawn(rows, branches)
    assert torch.allclose(both @ both.T, torch.eye(len(both)), atol=1e-5)
    assert both.sum(dim=1).abs().max() < 1e-5


def test_as_many_rows_as_channels_keep_all_but_the_mean():
    both = drawn(32, 2)
    centring = torch.eye(64) - 1 / 64
    assert torch.allclose(both.T @ both, centring, atol=1e-5)


def test_more_branches_than_fit_are_drawn_in_groups():
    weights = drawn(32, 3).split(32)
    assert torch.allclose(weights[2] @ weights[2].T, torch.eye(32), atol=1e-5)
    assert not torch.allclose(weights[0] @ weights[2].T, torch.zeros(32, 32), atol=0.1)
    for weight in drawn(100, 2).split(100):  # each keeps all by itself
        assert torch.allclose(weight.T @ weight, torch.eye(64) - 1 / 64, atol=1e-5)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="is not a file"):
        initial_model(config("resnet18", tmp_path / "no.pth"), 3)
