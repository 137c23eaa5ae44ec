"""What a run measures before it begins."""

import copy
from unittest import mock

import pytest
import torch

from cgdcli.config import Cache, CGDConfig, Precision, TrainConfig, Transform
from cgdcli.model.cgd import CGD
from cgdcli.training import choices as module
from cgdcli.training.choices import choose, step_seconds

NETWORK = CGDConfig(embedding_dim=16, classes=4, transform=Transform(image_size=32))
SMALL = {"image_size": 32, "embedding_dim": 16}


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ({"fp32": 1.0, "bf16": 0.5}, Precision.bf16),
        ({"fp32": 1.0, "bf16": 0.99}, Precision.fp32),
        ({"fp32": 1.0, "bf16": 4.0}, Precision.fp32),
    ],
)
def test_bf16_only_where_it_is_faster(monkeypatch, seconds, wanted):
    monkeypatch.setattr(module, "has_bf16", lambda _: True)
    monkeypatch.setattr(module, "step_seconds", lambda m, c, b, p, _: seconds[p.value])
    found = choose(CGD(NETWORK), TrainConfig(**SMALL), 4, 9, 6)
    assert found.precision is wanted and (found.epochs, found.steps) == (40, 9)
    assert "1.00 s in fp32" in found.notes[0]


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_what_is_asked_for_is_not_measured(monkeypatch, precision):
    monkeypatch.setattr(module, "step_seconds", None)
    found = choose(CGD(NETWORK), TrainConfig(**SMALL, precision=precision), 4, 9, 6)
    assert found.precision is precision


@pytest.mark.parametrize(
    ("minutes", "seconds", "epochs", "steps"),
    [(10, 1.0, 57, 10), (1, 1.0, 6, 9), (0.1, 1.0, 1, 5), (1, 100.0, 1, 2)],
)
def test_the_schedule_fits_the_time(monkeypatch, minutes, seconds, epochs, steps):
    """92 % of it for the steps, of which a twentieth cost a third."""
    monkeypatch.setattr(module, "step_seconds", lambda *_: seconds)
    config = TrainConfig(**SMALL, minutes=minutes, evaluations=1, precision=Precision.fp32)
    found = choose(CGD(NETWORK), config, 4, 10, 0)
    assert (found.epochs, found.steps) == (epochs, steps)
    assert "minutes" in found.notes[-1]


@pytest.mark.parametrize(("ending", "epochs", "said"), [(0.1, 54, False), (10.0, 27, True)])
def test_what_ends_an_epoch_is_taken_off(monkeypatch, ending, epochs, said):
    monkeypatch.setattr(module, "step_seconds", lambda *_: 1.0)
    config = TrainConfig(**SMALL, minutes=10, evaluations=1, warm=0.0, precision=Precision.fp32)
    found = choose(CGD(NETWORK), config, 4, 10, 0, ending=lambda precision: ending)
    assert (found.epochs, found.steps) == (epochs, 10)
    assert (f"{ending:.2f} s to end an epoch" in found.notes[-1]) is said


def test_the_side_of_pictures_is_the_same_wherever_they_are_kept():
    for cache in Cache:
        config = TrainConfig(**SMALL, precision=Precision.fp32, cache=cache)
        assert choose(CGD(NETWORK), config, 4, 9, 6).side == 64


def test_without_bf16_its_steps_are_not_tried(monkeypatch):
    monkeypatch.setattr(module, "step_seconds", None)  # calling it would fail
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    found = choose(CGD(NETWORK), TrainConfig(**SMALL), 4, 9, 6)
    assert found.precision is Precision.fp32
    assert found.notes == ("precision fp32: this cpu has no bf16",)


@pytest.mark.parametrize("has", [True, False])
def test_one_process_without_bf16_is_enough(monkeypatch, has):
    """Else the others would time steps together and wait for it."""
    tried = []
    monkeypatch.setattr(module, "step_seconds", lambda *given: tried.append(given) or 1.0)
    monkeypatch.setattr(module, "has_bf16", lambda _: True)
    processes = mock.Mock(gather=lambda mine: [mine, has], on_first=lambda do: do())
    choose(CGD(NETWORK), TrainConfig(**SMALL), 4, 9, 6, processes)
    assert bool(tried) is has


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_measuring_leaves_the_model_as_it_is(precision):
    model = CGD(NETWORK)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    config = TrainConfig(**SMALL, backbone_weights="none")  # BatchNorm would learn
    assert step_seconds(model, config, 4, precision) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[n], t) for n, t in before.items())
    assert all(p.grad is None for p in model.parameters())
