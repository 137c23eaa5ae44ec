"""Batches that fit the memory, and words where they do not."""

import copy
import re
import resource
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import CONFIG, draw

from cgdcli.config import CGDConfig, Precision, TrainConfig, Transform
from cgdcli.config.training import AUTO
from cgdcli.errors import TrainingError
from cgdcli.model.cgd import CGD
from cgdcli.training import memory as module
from cgdcli.training.learner import Learner
from cgdcli.training.loop import Trainer
from cgdcli.training.memory import (
    _last,
    _step_fits,
    batch_words,
    largest_batch,
    memory_in_words,
    step_bytes,
)

NETWORK = CGDConfig(embedding_dim=16, classes=4, transform=Transform(image_size=32))
SMALL = TrainConfig(image_size=32, embedding_dim=16, per_class=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(NETWORK)


def learner(model, config=SMALL, precision=Precision.fp32):
    return Learner(copy.deepcopy(model), config, steps=9, precision=precision)


@pytest.mark.parametrize("sizes", [[8], [8, 12], [8, 12, 16, 20, 24, 30]])
def test_the_largest_that_fits_is_found(sizes):
    for limit in range(40):
        fitting = [size for size in sizes if size <= limit]
        assert _last(sizes, lambda size: size <= limit) == (fitting[-1] if fitting else None)  # noqa: B023


def test_what_a_step_takes_grows_with_pictures_and_pixels(model):
    weights = 4 * learner(model).model_bytes()
    few, many = (step_bytes(learner(model), SMALL, size) - weights for size in (16, 64))
    assert many == pytest.approx(4 * few)
    large = step_bytes(learner(model), replace(SMALL, image_size=64), 16) - weights
    assert 3 < large / few < 5


def test_what_a_step_takes_is_what_is_saved_for_the_backward_pass(model):
    """Against the activations of the first convolution, counted by hand: 64 x 16 x 16 floats each
    before and after its norm are among them."""
    each = (step_bytes(learner(model), SMALL, 8) - 4 * learner(model).model_bytes()) / 8 / 1.3
    first = 4 * 64 * 16 * 16
    assert 2 * first < each < 20 * first


@pytest.mark.parametrize(
    ("free", "wanted"), [(10**12, 64), (1.02, 64), (0.7, 40), (0.3, 8)], ids=str
)
def test_on_a_cpu_half_of_the_free_memory_bounds_it(model, monkeypatch, free, wanted):
    whole = step_bytes(learner(model), SMALL, 64)
    weights = 4 * learner(model).model_bytes()
    if free < 10**6:
        share = {1.02: 64, 0.7: 43, 0.3: 8.5}[free] / 64
        free = 2 * (weights + share * (whole - weights)) + 1
    monkeypatch.setattr(module, "free_memory", lambda: free)
    before = copy.deepcopy(model.state_dict())
    assert largest_batch(model, SMALL) == wanted
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_not_even_two_classes_fit(model, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 10**6)
    with pytest.raises(TrainingError, match="8 pictures at 32 px") as caught:
        largest_batch(model, SMALL)
    assert "--image-size" in caught.value.hint


def test_the_recipe_bounds_it(model):
    config = replace(SMALL, recipe="reference", image_size=32)
    assert largest_batch(model, config) == 128
    assert "the recipe's" in batch_words(config, 128)
    assert "of the recipe's 128 no more" in batch_words(config, 40)


def test_on_a_gpu_steps_are_tried(model, monkeypatch):
    """Here on the CPU, with an allocator that has had enough at more than 20 pictures."""
    step = Learner.step
    tried = []

    def small(self, pixels, labels, number):
        tried.append(len(labels))
        if len(labels) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, pixels, labels, number)

    monkeypatch.setattr(Learner, "step", small)
    before = copy.deepcopy(model.state_dict())
    assert _step_fits(model, SMALL, 20) and not _step_fits(model, SMALL, 24)
    assert tried == [20, 20, 24]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    monkeypatch.setattr(Learner, "step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _step_fits(model, SMALL, 8)


def test_an_error_of_another_kind_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shape"), memory_in_words(8, torch.device("cpu"), ""):
        raise RuntimeError("shape mismatch")


def test_a_full_gpu_is_named():
    with (
        pytest.raises(TrainingError, match=r"the GPU \(cuda\) is full: a step of 64") as caught,
        memory_in_words(64, torch.device("cuda"), "cgd train --resume"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert caught.value.hint.startswith("cgd train --resume --batch-size 32 --force")


# ---- whole runs


@pytest.fixture
def data(tmp_path):
    yield draw(tmp_path / "data", 4, each=4)
    shutil.rmtree(tmp_path)


def test_what_was_measured_is_kept(data, tmp_path, monkeypatch):
    """A resumed run has its batches, whatever is free by then."""
    config = replace(CONFIG, batch_size=AUTO, per_class=2)
    monkeypatch.setattr("cgdcli.training.choices.largest_batch", lambda *_, **__: 6)
    trainer = Trainer(data, config, runs=tmp_path, name="one", resume=False)
    reports = trainer.reports()
    start = next(reports)
    assert start.batch_size == 6 and any("batch size 6" in note for note in start.notes)
    reports.close()
    monkeypatch.setattr("cgdcli.training.choices.largest_batch", lambda *_, **__: 4)
    again = Trainer(None, None, runs=tmp_path, name="one", resume=True)
    assert again.batches.batch_size == 6 and again.config.batch_size == AUTO


@pytest.mark.slow
def test_memory_that_runs_out_really(data, tmp_path, cgd, monkeypatch):
    """The address space is limited; what the hint says then goes on."""
    # Maps of 200 MB: what tests before this one freed and the process kept is in smaller pieces.
    config = replace(CONFIG, image_size=448, batch_size=16, per_class=4, warm=0)
    reports = Trainer(data, config, runs=tmp_path, name="one", resume=False).reports()
    next(reports), next(reports)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, before[1]))
    try:
        with pytest.raises(TrainingError, match="a step of 16 pictures does not fit") as caught:
            next(reports)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    (line,) = re.findall("cgd (train .*--force)", caught.value.hint)
    ran = cgd(*shlex.split(line), "--image-size", "32")
    assert ran.code == 0 and "--batch-size 16 -> 8" in ran.err, ran.err
