"""Ranking losses by name, and embeddings of former batches, against naive loops."""

import copy
import functools
import importlib.util
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cgdcli.config import CGDConfig, Precision, RankingLoss, TrainConfig, Transform
from cgdcli.config.losses import LOSSES, loss_settings, with_memory
from cgdcli.errors import ConfigError, TrainingError
from cgdcli.model.cgd import AuxiliaryClassifier, CGDOutput, meta_model
from cgdcli.training.former import Memory
from cgdcli.training.learner import Learner
from cgdcli.training.losses import (
    References,
    batch_all_triplet,
    batch_hard_triplet,
    soft_margin_triplet,
)
from cgdcli.training.metric_learning import MetricLearningLoss, require_losses
from cgdcli.training.objective import Objective

ALL = list(RankingLoss)
FOREIGN = [loss for loss in ALL if not LOSSES[loss].in_core]
OWNERS = {"proxy-anchor", "arcface", "cosface", "soft-triple", "margin"}


def rows(size, seed=0, dim=6, classes=4):
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(size, dim, generator=generator, dtype=torch.float64))
    return embeddings.requires_grad_(), torch.randint(0, classes, (size,), generator=generator)


def compared(embeddings, labels, former):
    """Distance of every picture of the batch to every other, and to what was before."""
    others = list(embeddings) + (list(former.embeddings) if former else [])
    theirs = labels.tolist() + (former.labels.tolist() if former else [])
    for i, anchor in enumerate(embeddings):
        apart = [((anchor - o).norm(), theirs[j]) for j, o in enumerate(others) if j != i]
        yield (
            [d for d, label in apart if label == labels[i]],
            [d for d, label in apart if label != labels[i]],
        )


def naive_batch_all(embeddings, labels, former, margin):
    terms = [
        p - n + margin
        for positives, negatives in compared(embeddings, labels, former)
        for p in positives
        for n in negatives
    ]
    active = [t for t in terms if t > 0]
    return torch.stack(active).mean(), len(active) / len(terms)


def naive_soft_margin(embeddings, labels, former):
    terms = [
        max(positives) - min(negatives)
        for positives, negatives in compared(embeddings, labels, former)
        if positives and negatives
    ]
    loss = torch.stack([torch.log1p(t.exp()) for t in terms]).mean()
    return loss, sum(t >= 0 for t in terms) / len(terms)


def naive_batch_hard(embeddings, labels, former, margin):
    terms = [
        (max(positives, default=torch.zeros(())) - min(negatives) + margin).relu()
        for positives, negatives in compared(embeddings, labels, former)
    ]
    return torch.stack(terms).mean(), sum(t > 0 for t in terms) / len(terms)


FORMER = References(rows(23, seed=9)[0].detach(), rows(23, seed=9)[1])


@pytest.mark.parametrize("former", [None, FORMER], ids=["batch alone", "with former"])
@pytest.mark.parametrize("size", [3, 12, 30])
@pytest.mark.parametrize(
    ("loss", "naive", "options"),
    [
        (batch_hard_triplet, naive_batch_hard, {"margin": 0.3}),
        (batch_all_triplet, naive_batch_all, {"margin": 0.3}),
        (batch_all_triplet, naive_batch_all, {"margin": 3.0}),  # every triplet is active
        (soft_margin_triplet, naive_soft_margin, {}),
    ],
    ids=["batch-hard", "batch-all", "batch-all, wide", "soft-margin"],
)
def test_triplets_and_their_gradient_against_a_naive_loop(loss, naive, options, size, former):
    embeddings, labels = rows(size, seed=2)
    labels[:2], labels[2] = 0, 1  # at least one pair and one negative
    found = loss(embeddings, labels, former, **options)
    (gradient,) = torch.autograd.grad(found.loss, embeddings)
    wanted, active = naive(embeddings, labels, former, **options)
    (wanted_gradient,) = torch.autograd.grad(wanted, embeddings)
    assert found.loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert found.active.item() == pytest.approx(float(active), rel=1e-6)
    assert torch.allclose(gradient, wanted_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [batch_all_triplet, soft_margin_triplet], ids=["all", "soft"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["no negative", "no positive"])
def test_a_batch_without_triplets_gives_zero_and_no_gradient(loss, labels):
    embeddings, _ = rows(3)
    options = {"margin": 0.3} if loss is batch_all_triplet else {}
    found = loss(embeddings, torch.tensor(labels), **options)
    assert found == (0, 0)
    (gradient,) = torch.autograd.grad(found.loss, embeddings)
    assert not gradient.any()


@pytest.mark.parametrize("kind", ["batch-hard", "batch-all", "soft-margin"])
def test_where_all_embeddings_are_the_same_a_triplet_loss_is_stuck(kind):
    """What the warning of a collapse recognises: margin, margin, log 2; and no gradient."""
    embeddings = F.normalize(torch.ones(8, 5)).requires_grad_()
    config = TrainConfig(loss=kind, margin=0.1, class_weight=0, proxy_weight=0)
    losses = Objective(config, 4, 5)(CGDOutput(embeddings, None), torch.arange(8) % 4)
    wanted = math.log(2) if kind == "soft-margin" else 0.1
    assert losses.ranking_loss.item() == pytest.approx(wanted, rel=1e-6)
    (gradient,) = torch.autograd.grad(losses.total, embeddings)
    assert not gradient.any()


def foreign(name, dim=6, classes=4, **settings):
    torch.manual_seed(0)
    return MetricLearningLoss(
        name, LOSSES[name].settings | settings, classes=classes, dim=dim, seed=0
    )


def float_rows(size, seed=0):
    embeddings, labels = rows(size, seed)
    return embeddings.detach().float().requires_grad_(), labels


@pytest.mark.parametrize("name", FOREIGN, ids=str)
def test_every_setting_of_a_loss_reaches_it(name):
    embeddings, labels = float_rows(24)
    before = foreign(name)(embeddings, labels).loss.item()
    assert before > 0
    for setting, value in LOSSES[name].settings.items():
        changed = {"centers": 3, "cutoff": 1.1, "epsilon": 0.9}.get(setting, value + 0.3)
        changed = 0.3 if setting == "temperature" else changed
        after = foreign(name, **{setting: changed})(embeddings, labels).loss.item()
        assert after != pytest.approx(before, rel=1e-6), setting


def mean_over_positive(values):
    return values[values > 0].mean()


def test_published_forms_against_their_formulas():
    embeddings, labels = float_rows(24)
    cosines = embeddings @ embeddings.T
    same = (labels[:, None] == labels) & ~torch.eye(24, dtype=torch.bool)
    others = labels[:, None] != labels
    distances = (embeddings[:, None] - embeddings).norm(dim=2)
    contrastive = mean_over_positive(distances[same]) + mean_over_positive(
        (1 - distances[others]).relu()
    )
    assert foreign("contrastive")(embeddings, labels).loss.item() == pytest.approx(
        contrastive.item(), rel=1e-5
    )
    logits = cosines / 0.1
    against = logits.masked_fill(torch.eye(24, dtype=torch.bool), -torch.inf).logsumexp(1)
    terms = ((logits - against[:, None]) * same).sum(1) / same.sum(1)
    supcon = -terms[same.any(1)].mean()
    assert foreign("supcon")(embeddings, labels).loss.item() == pytest.approx(
        supcon.item(), rel=1e-5
    )
    arcface = foreign("arcface")
    towards = embeddings @ F.normalize(arcface.loss.W, dim=0)
    true, margin = F.one_hot(labels, 4).bool(), math.radians(28.6)
    pushed = (towards.acos() + margin).cos()
    pushed = torch.where(
        towards.acos() > math.pi - margin, towards - margin * math.sin(margin), pushed
    )
    assert arcface(embeddings, labels).loss.item() == pytest.approx(
        F.cross_entropy(64 * torch.where(true, pushed, towards), labels).item(), rel=1e-5
    )


@pytest.mark.parametrize("name", [n for n in with_memory() if n in FOREIGN], ids=str)
def test_with_former_batches_no_picture_is_its_own_positive(name):
    """Each picture of the batch also lies in what is compared: copies of the batch as its former
    batch must not change which pairs there are besides."""
    embeddings, labels = float_rows(12)
    far = References(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    loss = foreign(name)
    if name != "margin":  # its triplets are drawn
        alone, empty = loss(embeddings, labels).loss, loss(embeddings, labels, far).loss
        assert empty.item() == pytest.approx(alone.item(), rel=1e-6)
    pairs = loss._pairs(
        embeddings,
        labels,
        (torch.cat([embeddings, FORMER.embeddings.float()]), torch.cat([labels, FORMER.labels])),
    )
    assert (pairs[0] != pairs[1]).all() and (pairs[1] >= 12).any()


@pytest.mark.parametrize("name", [n for n in with_memory() if n in FOREIGN], ids=str)
def test_former_batches_change_the_loss_and_have_no_gradient(name):
    embeddings, labels = float_rows(12)
    former = References(FORMER.embeddings.float().requires_grad_(), FORMER.labels)
    loss = foreign(name)
    with_them = loss(embeddings, labels, former).loss
    assert with_them.item() != pytest.approx(loss(embeddings, labels).loss.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(with_them, embeddings)
    assert gradient.isfinite().all() and gradient.any()


def test_memory_is_a_ring_of_the_newest():
    memory, taken = Memory(10, 2), []
    assert memory.former() is None
    generator = torch.Generator().manual_seed(0)
    for size in (4, 4, 4, 3, 10, 25, 1):
        batch = torch.randn(size, 2, generator=generator)
        labels = torch.arange(len(taken), len(taken) + size)
        memory.take(batch, labels)
        taken += list(zip(labels.tolist(), batch.tolist(), strict=True))
        former = memory.former()
        found = zip(former.labels.tolist(), former.embeddings.tolist(), strict=True)
        assert sorted(found) == sorted(taken[-10:])


NETWORK = CGDConfig(embedding_dim=16, classes=4, transform=Transform(image_size=32))


@functools.cache
def meta():
    return meta_model(NETWORK)


def network(seed):
    """A CGD on one convolution: a ResNet takes 0.1 s to make, and as long for each step."""
    torch.manual_seed(seed)
    model = copy.deepcopy(meta())
    model.backbone = nn.Conv2d(3, 512, 8, 8)
    model.classifier = AuxiliaryClassifier(512, 4)
    model.branches = nn.ModuleList(nn.Linear(512, 8, bias=False) for _ in range(2))
    return model


def learner(loss, seed=0, **settings):
    config = TrainConfig(
        loss=loss, image_size=32, embedding_dim=16, warm=0.2, learning_rate=1e-3, ema=0, **settings
    )
    made = Learner(network(seed), config, steps=6, precision=Precision.fp32)
    made.to_training()
    return made


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (8, 32, 32, 3), generator=generator).byte()
    return pixels, torch.arange(8) % 4


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_a_restored_state_goes_on_bit_for_bit(loss):
    memory = {"memory": 20, "memory_start": 0.2} if loss in with_memory() else {}
    whole, first = learner(loss, **memory), learner(loss, **memory)
    for number in range(6):
        whole.step(*batch(number), number)
    for number in range(4):
        first.step(*batch(number), number)
    second = learner(loss, seed=1, **memory)
    second.restore(copy.deepcopy(first.state()))
    torch.manual_seed(77)  # what others draw changes nothing
    for number in range(4, 6):
        second.step(*batch(number), number)
    for ours, theirs in (
        (second.model.state_dict(), whole.model.state_dict()),
        (second.objective.state_dict(), whole.objective.state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert whole.objective.memory is None or whole.objective.memory.taken == 8 * 4


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_what_a_loss_owns_learns_at_the_proxies_rate_and_is_not_of_the_network(loss):
    made = learner(loss, proxy_weight=0)
    owned = list(made.objective.parameters())
    assert bool(owned) is (loss in OWNERS)
    before = copy.deepcopy(owned)
    groups = [g for g in made.optimizer.param_groups if g["part"] == "proxies"]
    assert [p for g in groups for p in g["params"]] == owned
    assert all((g["rate"], g["weight_decay"]) == (1e-3 * made.config.proxy_rate, 0) for g in groups)
    names = set(made.model.state_dict())
    for number in range(3):
        made.step(*batch(number), number)
    assert all(not torch.equal(a, b) for a, b in zip(owned, before, strict=True))
    assert set(made.judged_model().state_dict()) == names


def test_memory_is_kept_from_its_start_on_and_compared_with_from_the_next_step():
    made = learner("batch-hard", memory=64, memory_start=0.5)
    plain = learner("batch-hard")
    taken, equal = [], []
    for number in range(6):
        ours, theirs = (m.step(*batch(number), number) for m in (made, plain))
        taken.append(int(made.objective.memory.taken))
        equal.append(torch.equal(ours, theirs))
    assert taken == [0, 0, 0, 8, 16, 24]
    assert equal[:4] == [True] * 4 and not any(equal[4:])
    assert made.objective.memory.embeddings.dtype == torch.float32


def test_losses_outside_of_a_step_are_not_remembered():
    """Steps are timed before the first, and must leave no trace."""
    made = learner("batch-hard", memory=64, memory_start=0)
    made.losses(*batch(0))
    assert made.objective.memory.taken == 0


def test_the_default_loss_has_no_state_of_its_own():
    assert set(learner("batch-hard").objective.state_dict()) == {"proxies"}


@pytest.mark.parametrize("loss", FOREIGN, ids=str)
def test_without_the_extra_the_error_says_what_to_install(monkeypatch, loss):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError) as caught:
        require_losses(loss)
    assert caught.value.hint == "pip install 'cgdcli[losses]'"
    assert loss in caught.value.what and "batch-hard, batch-all, soft-margin" in caught.value.what
    require_losses(RankingLoss.batch_all)


def refused(*words, **settings):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**settings)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_settings_that_a_loss_does_not_have_are_refused():
    refused("supcon", "'alpha'", "it has temperature", loss="supcon", loss_settings="alpha=2")
    refused("margin is --margin", loss_settings="margin=0.2")
    refused("NAME=NUMBER", "temperature=0.1", loss="supcon", loss_settings="temperature")
    refused("NAME=NUMBER", loss="supcon", loss_settings="temperature=hot")
    refused("above 0", "published is 0.1", loss="supcon", loss_settings="temperature=0")
    refused("whole number from 1", loss="soft-triple", loss_settings="centers=1.5")
    refused("whole number from 1", loss="soft-triple", loss_settings="centers=nan")
    refused("0 or more", loss="arcface", loss_settings="margin=-1")
    refused("above 0", loss="arcface", loss_settings="scale=inf")
    assert loss_settings("arcface", "scale=32, margin=0") == {"scale": 32, "margin": 0}


def test_options_that_would_do_nothing_are_refused():
    refused("--margin 0.3", "--loss-settings margin=0.3", loss="arcface", margin=0.3)
    refused("--margin 0.3", "soft-margin", loss="soft-margin", margin=0.3)
    refused("--ranking-weight", "does nothing", loss="supcon", ranking_weight=0)
    refused("--memory 10", "whose weight is 0", memory=10, ranking_weight=0)
    refused(
        "--memory 10", "arcface", "batch-hard", "learns of the classes", memory=10, loss="arcface"
    )
    refused("--memory 10", "ntxent", "supcon", memory=10, loss="ntxent")
    assert replace(TrainConfig(), loss="batch-all", margin=0.3, memory=100).memory == 100


def test_words_of_the_help_name_every_loss_with_its_settings(cgd):
    shown = " ".join(cgd("train", "--help").out.replace("│", " ").split())
    for loss, facts in LOSSES.items():
        assert loss in shown
        assert all(f"{name}={value:g}" in shown for name, value in facts.settings.items()), loss


def test_what_owns_nothing_is_no_parameter():
    assert all(isinstance(p, nn.Parameter) for p in foreign("margin").parameters())
    assert foreign("margin").loss.beta.tolist() == pytest.approx([1.2] * 4)
