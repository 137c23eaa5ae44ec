"""Learning rates over a run, and which parameter has which."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cgdcli.config import CGDConfig, TrainConfig, Transform
from cgdcli.model.cgd import CGD
from cgdcli.training.objective import Objective
from cgdcli.training.schedule import backbone_factor, factor, make_optimizer, set_rates

REFERENCE = TrainConfig.resolved({"recipe": "reference"})
DEFAULT = TrainConfig()
NETWORK = CGDConfig(embedding_dim=16, classes=3, transform=Transform(image_size=32))


def test_the_references_milestones():
    """20 epochs: a tenth from the 13th, a hundredth from the 17th, all parts alike."""
    rates = [factor(REFERENCE, epoch / 20) for epoch in range(20)]
    assert rates == [1.0] * 12 + [0.1] * 4 + [0.01] * 4
    assert {backbone_factor(REFERENCE, epoch / 20) for epoch in range(20)} == {1.0}


@given(st.floats(0, 1, exclude_max=True))
def test_the_cosine_falls_from_one_to_a_hundredth(done):
    assert 0.0099 < factor(DEFAULT, done) <= 1
    assert factor(DEFAULT, done) >= factor(DEFAULT, min(1.0, done + 0.01)) - 1e-12


def test_the_backbone_rests_then_rises():
    assert [backbone_factor(DEFAULT, d) for d in (0, 0.049, 0.05)] == [0, 0, 0]
    assert 0 < backbone_factor(DEFAULT, 0.06) < 1 == backbone_factor(DEFAULT, 0.08001)
    assert factor(DEFAULT, 0.049) == 1


def optimizer(config):
    model = CGD(NETWORK)
    objective = Objective(config, 3, 16)
    return model, objective, make_optimizer(model, objective, config)


@pytest.mark.parametrize("config", [DEFAULT, REFERENCE], ids=["default", "reference"])
def test_every_parameter_that_has_a_rate_is_in_one_group(config):
    model, objective, found = optimizer(config)
    grouped = [id(p) for group in found.param_groups for p in group["params"]]
    left_out = {id(p) for p in model.branches.parameters()} if not config.head_rate else set()
    wanted = [id(p) for p in (*model.parameters(), *objective.parameters())]
    assert sorted(grouped) == sorted(set(wanted) - left_out)


def test_rates_and_decay_by_part():
    config = TrainConfig(head_rate=0.25)
    model, objective, found = optimizer(config)
    set_rates(found, config, 0.0)
    by_id = {id(p): group for group in found.param_groups for p in group["params"]}
    assert by_id[id(model.backbone.conv1.weight)]["lr"] == 0  # at rest
    rate = DEFAULT.learning_rate
    assert by_id[id(model.branches[0].weight)]["lr"] == pytest.approx(rate / 4)
    classifier, proxies = rate * DEFAULT.classifier_rate, rate * DEFAULT.proxy_rate
    assert by_id[id(model.classifier.linear.weight)]["lr"] == pytest.approx(classifier)
    assert by_id[id(objective.proxies)]["lr"] == pytest.approx(proxies)
    set_rates(found, config, 0.08)
    assert by_id[id(model.backbone.conv1.weight)]["lr"] == pytest.approx(rate, rel=0.01)
    decay = {name: by_id[id(p)]["weight_decay"] for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert decay[name] == (1e-4 if parameter.ndim > 1 else 0)
    assert by_id[id(objective.proxies)]["weight_decay"] == 0


def test_the_references_optimizer_is_plain_adam():
    _, _, found = optimizer(REFERENCE)
    assert type(found) is torch.optim.Adam
    assert {(g["lr"], g["weight_decay"]) for g in found.param_groups} == {(1e-4, 0.0)}
