"""The roofline: peaks of this machine, each stage beside them, and what is made of it."""

import pytest
import torch

from cgdcli import CGD, CGDConfig, ProfileConfig, Transform, profile_model
from cgdcli.config import StrideMode
from cgdcli.profiling.counting import count_network
from cgdcli.profiling.machine import _raised, limit, machine_peaks, measure_roofline
from cgdcli.reports import MachinePeaks

CONFIG = CGDConfig(descriptors="SM", transform=Transform(image_size=64))
QUICK = ProfileConfig(repeats=4, warmup=0, roofline=True, batch_sizes=(2,))
PEAKS = MachinePeaks("cpu", 2, 100.0, 10.0, "by definition")


@pytest.fixture(scope="module")
def report():
    return profile_model(CONFIG, QUICK)


def test_every_stage_and_branch_is_there(report):
    names = ["stem", "layer1", "layer2", "layer3", "layer4", "branch S", "branch M"]
    assert [speed.name for speed in report.speeds] == names


def test_work_is_that_of_the_counts(report):
    stages = {stage.name: stage for stage in report.counts.stages}
    for speed in report.speeds:
        assert speed.flops == 2 * 2 * stages[speed.name].macs  # two FLOPs a MAC, two pictures
        assert speed.gflops_per_second == pytest.approx(speed.flops / speed.seconds / 1e9)
        assert speed.gigabytes_per_second == pytest.approx(
            speed.traffic_bytes / speed.seconds / 1e9
        )
        assert speed.intensity == pytest.approx(speed.flops / speed.traffic_bytes)
        assert speed.limited_by in ("compute", "memory", "overhead")


def test_traffic_of_the_stem_by_hand(report):
    """Convolution, BatchNorm, ReLU and max pooling read and write their maps once each, and the
    weights, in float32."""
    before, half, quarter = 3 * 64 * 64, 64 * 32 * 32, 64 * 16 * 16
    values = (before + half) + (half + half) + (half + half) + (half + quarter)
    weights = 4 * (64 * 3 * 49 + 2 * 64)
    assert report.speeds[0].traffic_bytes == 2 * 4 * values + weights


def test_no_stage_computes_faster_than_the_peak(report):
    fastest = max(speed.gflops_per_second for speed in report.speeds)
    assert report.peaks.gflops_per_second >= fastest > 0
    assert report.peaks.gigabytes_per_second > 0.5


def test_a_faster_stage_raises_the_peak_and_that_is_said():
    raised = _raised(PEAKS, {"layer1": (150e9, 1e9), "layer2": (90e9, 1e9)})
    assert raised.gflops_per_second == 150 and "layer1" in raised.how
    assert _raised(PEAKS, {"layer1": (90e9, 1e9)}) == PEAKS


def test_what_limits():
    assert limit(0.9, 100.0, PEAKS) == "compute"
    assert limit(0.9, 30.0, PEAKS) == "memory"
    assert limit(0.1, 100.0, PEAKS) == limit(0.1, 30.0, PEAKS) == "overhead"


def test_peaks_are_of_the_size_that_they_measure():
    """A matrix product timed here by itself is not far faster than the peak."""
    import time

    peaks = machine_peaks(ProfileConfig())
    a = torch.rand(1024, 1024)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - started)
    assert 2 * 1024**3 / best / 1e9 < 3 * peaks.gflops_per_second


def test_a_live_model_keeps_its_mode_and_place(monkeypatch):
    monkeypatch.setattr("cgdcli.profiling.machine.machine_peaks", lambda config: PEAKS)
    model = CGD(CONFIG).train()
    measure_roofline(model, count_network(CONFIG), 1, ProfileConfig(repeats=1))
    assert all(module.training for module in model.modules())
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("shufflenet_v2_x0_5", ["stem", "stage1", "stage2", "stage3", "stage4"]),
        ("timm:test_vit", ["trunk"]),  # timm's run as a whole
    ],
)
def test_other_backbones_have_stages_of_their_own(monkeypatch, name, stages):
    monkeypatch.setattr("cgdcli.profiling.machine.machine_peaks", lambda config: PEAKS)
    config = CGDConfig(name, StrideMode.standard, "S", 16, transform=Transform(image_size=64))
    counts = count_network(config)
    _, speeds = measure_roofline(CGD(config).eval(), counts, 2, QUICK)
    assert [speed.name for speed in speeds] == [*stages, "branch S"]
    assert sum(speed.flops for speed in speeds) == 2 * counts.flops
    assert all(speed.traffic_bytes > 0 for speed in speeds)
