"""torch.compile: asked for, used for whole batches alone, said where it cannot be had."""

import shutil

import pytest
import torch
from torch import nn

from cgdcli.config import CGDConfig, Precision, TrainConfig, Transform
from cgdcli.errors import TrainingError
from cgdcli.model.cgd import CGD
from cgdcli.training import choices, learner
from cgdcli.training.compiling import compiled, compiler_in_words
from cgdcli.training.learner import Learner

NETWORK = CGDConfig(embedding_dim=16, classes=4, transform=Transform(image_size=32))
CONFIG = TrainConfig(image_size=32, embedding_dim=16, warm=0.2, compile=True)


def batch(size):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size, 32, 32, 3), generator=generator).byte()
    return pixels, torch.arange(size) % 4


@pytest.fixture
def calls(monkeypatch):
    """Batch sizes that went through what stands for the compiled backbone."""
    sizes = []

    def fake(module):
        def run(images):
            sizes.append(len(images))
            return module(images)

        return run

    monkeypatch.setattr(learner, "compiled", fake)
    return sizes


def test_whole_batches_of_a_backbone_that_learns_are_compiled(calls):
    torch.manual_seed(0)
    model = CGD(NETWORK)
    names = list(model.state_dict())
    made = Learner(model, CONFIG, steps=10, precision=Precision.fp32, compiled_for=8)
    made.to_training()
    for number, size in enumerate((8, 8, 8, 7, 8)):  # the first two: the backbone rests
        made.step(*batch(size), number)
    assert calls == [8, 8]
    assert list(model.state_dict()) == names == list(made.judged_model().state_dict())


def test_nothing_is_compiled_unasked(calls):
    made = Learner(CGD(NETWORK), CONFIG, steps=1, precision=Precision.fp32)
    made.losses(*batch(8))
    assert not calls


@pytest.mark.parametrize(("seconds", "slower"), [(0.2, False), (0.8, True)])
def test_what_it_brings_is_said(monkeypatch, caplog, seconds, slower):
    def measured(*_, is_compiled=False):
        return seconds if is_compiled else 0.5

    monkeypatch.setattr(choices, "step_seconds", measured)
    config = TrainConfig(image_size=32, embedding_dim=16, precision=Precision.fp32, compile=True)
    found = choices.choose(CGD(NETWORK), config, 4, 9, 6)
    assert f"compiled: a step takes {seconds:.2f} s, 0.50 s as it is" in found.notes
    assert ("slower" in caplog.text) is slower


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_really_compiled_it_computes_the_same():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    images = torch.rand(2, 3, 8, 8)
    with compiler_in_words():
        found = compiled(module)(images)
    assert torch.allclose(found, module(images), atol=1e-5)


def test_a_missing_compiler_is_an_error_with_a_hint(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "/nonexistent"))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    module = nn.Sequential(nn.Linear(5, 7), nn.GELU())
    wanted = pytest.raises(TrainingError, match=r"No working C\+\+ compiler")
    with wanted as caught, compiler_in_words():
        compiled(module)(torch.rand(3, 5))
    assert "apt-get install g++" in caught.value.hint and "--compile" in caught.value.what


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), compiler_in_words():
        raise RuntimeError("shapes do not fit")
