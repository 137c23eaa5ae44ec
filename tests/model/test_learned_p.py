"""A p of GeM that learns: values, gradients, bounds, files."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cgdcli.config import (
    CGDConfig,
    ConvertConfig,
    Foreign,
    Precision,
    StrideMode,
    TrainConfig,
    Transform,
)
from cgdcli.conversion import convert_weights, export_weights
from cgdcli.errors import ConfigError, MismatchError
from cgdcli.inspection import inspect_file
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.model.descriptors import FLOOR, pool, spatial_weights
from cgdcli.profiling.counting import count_network
from cgdcli.training.learner import Learner
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.loading import load_model

NETWORK = CGDConfig(
    descriptors="GSW",
    embedding_dim=12,
    classes=4,
    transform=Transform(image_size=32),
    learned_p=True,
)


def maps(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, 3, 4, generator=generator, dtype=dtype).relu()


def naive(x, p, weights):
    clamped = np.maximum(x.numpy(), FLOOR)
    shares = weights.numpy() / weights.numpy().sum((2, 3), keepdims=True)
    return ((clamped**p) * shares).sum((2, 3)) ** (1 / p)


@pytest.mark.parametrize("p", [1.0, 2.7, 3.0, 8.0])
@pytest.mark.parametrize("letter", ["G", "W"])
def test_values_are_the_clamped_generalized_mean(letter, p):
    x = maps()
    weights = spatial_weights(x) if letter == "W" else torch.ones(2, 1, 3, 4).double()
    found = pool(x, letter, p=torch.tensor(p, dtype=torch.float64))
    assert np.allclose(found.numpy(), naive(x, p, weights), rtol=1e-10)
    # On values above 0 it is what a fixed p gives.
    above = x + 0.1
    learned = pool(above, letter, p=torch.tensor(p, dtype=torch.float64))
    assert torch.allclose(learned, pool(above, letter, p=p), rtol=1e-10)


@pytest.mark.parametrize("letter", ["G", "W"])
def test_gradients_against_finite_differences(letter):
    x = (maps() + 0.1).requires_grad_()
    p = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        held = x + 0  # CroW's weights have no gradient: compare W by p alone
    if letter == "W":
        assert torch.autograd.gradcheck(lambda p: pool(held, "W", p=p), (p,))
    else:
        assert torch.autograd.gradcheck(lambda x, p: pool(x, "G", p=p), (x, p))


@pytest.mark.parametrize("p", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("letter", ["G", "W"])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e6])
def test_gradients_are_finite_at_dead_channels_and_at_large_values(letter, p, scale):
    x = maps(torch.float32) * scale
    x[:, 0] = 0
    x.requires_grad_()
    exponent = torch.tensor(p, requires_grad=True)
    value = pool(x, letter, p=exponent)
    value.sum().backward()
    assert value.isfinite().all() and x.grad.isfinite().all() and exponent.grad.isfinite()
    assert torch.allclose(value[:, 0], torch.tensor(FLOOR), rtol=1e-4)
    assert not x.grad[:, 0].any()


def learner(**settings):
    torch.manual_seed(0)
    config = TrainConfig(
        image_size=32, descriptors="GSW", embedding_dim=12, learn_p=True, **settings
    )
    made = Learner(CGD(NETWORK), config, steps=4, precision=Precision.fp32)
    made.to_training()
    return made


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (8, 32, 32, 3), generator=generator).byte()
    return pixels, torch.arange(8) % 4


def test_each_letter_learns_its_own_p_at_its_own_rate_and_is_kept():
    made = learner(p_rate=50, warm=0)
    (group,) = (g for g in made.optimizer.param_groups if g["part"] == "p")
    assert group["rate"] == pytest.approx(50 * made.config.learning_rate)
    assert group["weight_decay"] == 0
    assert {p.item() for p in group["params"]} == {3.0} and len(group["params"]) == 2
    for number in range(3):
        made.step(*batch(number), number)
    values = [p.item() for p in made.model.exponents.values()]
    assert all(abs(p - 3) > 1e-3 for p in values) and len(set(values)) == 2
    kept = made.judged_model()  # averaged
    assert {"exponents.G", "exponents.W"} <= set(kept.state_dict())
    again = learner(p_rate=50, warm=0)
    again.restore(copy.deepcopy(made.state()))
    assert [p.item() for p in again.model.exponents.values()] == values


@pytest.mark.parametrize(("sign", "bound"), [(1, 1.0), (-1, 8.0)])
def test_p_stays_within_its_bounds(sign, bound):
    made = learner(p_rate=1e6, warm=0, clip_norm=0)
    made.model.exponents["G"].register_hook(lambda gradient: torch.full_like(gradient, sign))
    made.step(*batch(0), 0)
    assert made.model.exponents["G"].item() == bound


def test_without_it_there_is_no_such_parameter():
    assert not list(meta_model(replace(NETWORK, learned_p=False)).exponents.parameters())
    assert not list(meta_model(replace(NETWORK, descriptors="SMC")).exponents.parameters())
    assert not TrainConfig().model_config(2).learned_p


def test_letters_without_a_p_are_refused():
    with pytest.raises(ConfigError, match="G and W have") as caught:
        TrainConfig(learn_p=True, descriptors="SM")
    assert "--descriptors SG" in caught.value.hint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model = CGD(NETWORK)
    with torch.no_grad():
        model.exponents["G"].fill_(2.25)
        model.exponents["W"].fill_(4.5)
    path = tmp_path_factory.mktemp("p") / "model.safetensors"
    Checkpoint(NETWORK, model.state_dict()).save(path)
    return path, model.eval()


def test_a_checkpoint_makes_the_same_embeddings_and_its_fingerprint_covers_p(saved, tmp_path):
    path, model = saved
    again = load_model(path)
    pixels, _ = batch(5)
    assert torch.equal(again.embed(pixels), model.embed(pixels))
    with torch.no_grad():
        model.exponents["G"].add_(0.5)
    other = Checkpoint(NETWORK, model.state_dict()).save(tmp_path / "other.safetensors")
    assert other != again.info.fingerprint
    assert not torch.equal(again.embed(pixels), model.embed(pixels))
    with torch.no_grad():
        model.exponents["G"].sub_(0.5)


def test_inspect_shows_p(saved, cgd):
    report = inspect_file(saved[0])
    assert report.facts["learned_p"] == {"G": 2.25, "W": 4.5}
    assert [g.entries for g in report.groups if g.name == "exponents"] == [2]
    assert {a.kind for a in report.anomalies} == {"BatchNorm never trained"}  # it is not
    ran = cgd("inspect", saved[0])
    assert "p learned" in ran.out and "G: 2.25; W: 4.5" in ran.out


def test_profile_counts_p(saved):
    counts, without = (count_network(replace(NETWORK, learned_p=p)) for p in (True, False))
    assert counts.parameters == without.parameters + 2
    assert counts.parameters == sum(stage.parameters for stage in counts.stages)


def test_a_bare_state_dict_of_ours_converts_back(saved, tmp_path):
    path, model = saved
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    said = ConvertConfig(descriptors="GSW", stride=StrideMode.layer3, image_size=32)
    report = convert_weights(tmp_path / "bare.pth", config=said)
    assert report.fingerprint == load_model(path).info.fingerprint
    assert not any("p 3" in words for words in report.assumed)
    with pytest.raises(MismatchError, match="--gem-p 4 has no place"):
        convert_weights(tmp_path / "bare.pth", config=replace(said, gem_p=4), force=True)


def test_other_tools_get_the_backbone_and_not_p(saved, tmp_path):
    path, _ = saved
    with pytest.raises(MismatchError, match="learned p"):
        export_weights(path, Foreign.reference, tmp_path / "r.pth")
    report = export_weights(path, Foreign.torchvision, tmp_path / "t.pth")
    assert {"exponents.G", "exponents.W"} <= set(report.left_out)


def test_a_changed_p_in_a_file_is_noticed(saved, tmp_path):
    tensors = load_file(saved[0])
    tensors["exponents.G"] = tensors["exponents.G"] + 1
    import json

    from cgdcli.weights.header import read_header

    metadata = {"cgd": json.dumps(read_header(saved[0]).metadata)}
    save_file(tensors, tmp_path / "edited.safetensors", metadata=metadata)
    with pytest.raises(MismatchError, match="was changed"):
        load_model(tmp_path / "edited.safetensors")
