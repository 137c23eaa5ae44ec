"""One step of learning: rest, average, precision, state."""

import copy
from dataclasses import replace

import pytest
import torch

from cgdcli.config import CGDConfig, Precision, TrainConfig, Transform
from cgdcli.model.cgd import CGD
from cgdcli.training.average import WeightAverage
from cgdcli.training.learner import Learner
from cgdcli.training.objective import FIGURES

NETWORK = CGDConfig(embedding_dim=16, classes=4, transform=Transform(image_size=32))
CONFIG = TrainConfig(image_size=32, embedding_dim=16, warm=0.2, learning_rate=1e-3)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (8, 32, 32, 3), generator=generator).byte()
    return pixels, torch.arange(8) % 4


def learner(config=CONFIG, *, precision=Precision.fp32, steps=10):
    torch.manual_seed(0)
    made = Learner(CGD(NETWORK), config, steps=steps, precision=precision)
    made.to_training()
    return made


def test_the_backbone_rests_at_first():
    made = learner()
    before = copy.deepcopy(made.model.state_dict())
    for number in range(2):  # of ten steps, two are the warm-up
        made.step(*batch(), number)
    after = made.model.state_dict()
    assert all(torch.equal(after[n], t) for n, t in before.items() if n.startswith("backbone."))
    learned = "classifier.linear.weight"
    assert not torch.equal(after[learned], before[learned])
    made.step(*batch(), 3)
    assert not torch.equal(made.model.backbone.conv1.weight, before["backbone.conv1.weight"])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_projections_learn_by_their_rate_alone(rate):
    made = learner(replace(CONFIG, head_rate=rate))
    before = [branch.weight.detach().clone() for branch in made.model.branches]
    for number in range(4):
        made.step(*batch(), number)
    same = [torch.equal(b.weight, w) for b, w in zip(made.model.branches, before, strict=True)]
    assert same == [not rate] * 2


def test_the_backbone_does_not_rest_where_nothing_else_would_learn():
    """With the triplet loss alone and projections at rest a resting step would have no gradient."""
    made = learner(replace(CONFIG, class_weight=0, proxy_weight=0))
    before = made.model.backbone.conv1.weight.detach().clone()
    for number in range(2):
        made.step(*batch(), number)
    assert not torch.equal(made.model.backbone.conv1.weight, before)


@pytest.mark.slow
def test_sixty_steps_learn_from_one_batch():
    made = learner(steps=60)
    first = made.step(*batch(), 0)
    for number in range(1, 60):
        last = made.step(*batch(), number)
    named = dict(zip(FIGURES, (first - last).tolist(), strict=True))
    assert named["proxy_loss"] > 0.5 and named["class_loss"] > 0.2


def test_weights_of_losses():
    only = {"class_weight": 0.0, "ranking_weight": 0.0, "proxy_weight": 2.0}
    figures = dict(
        zip(FIGURES, learner(TrainConfig(**only, warm=0)).step(*batch(), 0).tolist(), strict=True)
    )
    assert figures["total"] == pytest.approx(2 * figures["proxy_loss"], rel=1e-6)
    assert figures["class_loss"] == 0
    none = learner(TrainConfig(proxy_weight=0))
    assert none.objective.proxies is None and not list(none.objective.parameters())


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_losses_and_heads_are_float32(precision):
    losses = learner(precision=precision).losses(*batch())
    assert losses.total.dtype == torch.float32 and losses.total.isfinite()


def test_bf16_is_near():
    full, half = (learner(precision=p).losses(*batch()) for p in (Precision.fp32, Precision.bf16))
    assert half.total.item() == pytest.approx(full.total.item(), rel=0.05)


def test_the_average_against_a_naive_one():
    torch.manual_seed(0)
    model = CGD(NETWORK)
    average = WeightAverage(model, 0.1, 50)
    average.feed()
    wanted = model.branches[0].weight.detach().double().clone()
    for number in range(5):
        with torch.no_grad():
            model.branches[0].weight.add_(number)
        average.feed()
        wanted = average.decay * wanted + (1 - average.decay) * model.branches[0].weight.double()
    assert average.decay == pytest.approx(0.8187, abs=1e-4)  # exp(-1 / 5)
    found = average.model().branches[0].weight.double()
    assert torch.allclose(found, wanted.detach(), atol=1e-5)


def test_before_it_is_fed_the_average_is_the_model():
    made = learner()
    assert made.judged_model() is made.model
    made.step(*batch(), 0)
    assert made.judged_model() is made.model  # at rest there is nothing to average
    made.step(*batch(), 5)
    averaged = made.judged_model()
    assert averaged is not made.model and not averaged.training
    assert list(averaged.state_dict()) == list(made.model.state_dict())


def test_without_an_average_the_model_itself_is_judged():
    made = learner(TrainConfig(ema=0))
    made.step(*batch(), 5)
    assert made.judged_model() is made.model


@pytest.mark.parametrize("at", [1, 4])
def test_a_restored_state_goes_on_bit_for_bit(at):
    whole, first = learner(), learner()
    for number in range(8):
        whole.step(*batch(number), number)
    for number in range(at):
        first.step(*batch(number), number)
    second = learner()
    with torch.no_grad():
        second.model.branches[0].weight.zero_()
    second.restore(copy.deepcopy(first.state()))
    rates = [[group["lr"] for group in made.optimizer.param_groups] for made in (first, second)]
    assert rates[0] == rates[1]  # it may have been the last step
    for number in range(at, 8):
        second.step(*batch(number), number)
    for ours, theirs in (
        (second.model.state_dict(), whole.model.state_dict()),
        (second.average.tensors, whole.average.tensors),
        (second.objective.state_dict(), whole.objective.state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_callers_random_numbers_are_not_drawn():
    model = CGD(NETWORK)
    state = torch.get_rng_state()
    Learner(model, CONFIG, steps=3, precision=Precision.fp32)
    assert torch.equal(torch.get_rng_state(), state)
