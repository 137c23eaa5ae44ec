"""Latency: what is timed, how it is summed up, and that it says so."""

import ctypes
import gc
import statistics
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cgdcli import CGD, CGDConfig, ProfileConfig, Transform, profile_model
from cgdcli.profiling.latency import (
    count_outliers,
    measure_latency,
    percentile,
    spread_of_median,
    time_passes,
)

TINY = CGDConfig(transform=Transform(image_size=32))
CPU = torch.device("cpu")
SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@given(SECONDS)
def test_percentiles_are_values_that_were_measured(seconds):
    for percent in (1, 50, 95, 99, 100):
        found = percentile(seconds, percent)
        assert found in seconds
        assert sum(x <= found for x in seconds) >= percent / 100 * len(seconds)
        lower = [x for x in seconds if x < found]
        assert not lower or sum(x <= max(lower) for x in seconds) < percent / 100 * len(seconds)


@given(SECONDS)
def test_the_spread_holds_its_own_median_and_is_positive(seconds):
    low, high = spread_of_median(seconds)
    assert 0 < low <= high
    if len(seconds) == 1:
        assert low < seconds[0] < high


@given(st.floats(1e-4, 10), st.integers(4, 50))
def test_a_steady_machine_has_a_narrow_spread(second, times):
    low, high = spread_of_median([second] * times)
    assert high / low < 1.22


def test_outliers_by_tukeys_rule():
    assert count_outliers([1.0, 1.1, 1.2, 1.3, 1.2, 1.1, 9.0, 1.2]) == 1
    assert count_outliers([1.0] * 8) == 0
    assert count_outliers([1.0, 9.0]) == 0


def test_warm_up_is_not_timed_and_every_other_pass_is():
    calls = []
    seconds = time_passes(lambda: calls.append(1), CPU, repeats=7, warmup=3)
    assert len(seconds) == 7 and len(calls) == 10 and min(seconds) >= 0


def test_what_is_reported_is_what_was_measured():
    report = measure_latency(CGD(TINY), 3, ProfileConfig(repeats=12, warmup=1))
    assert len(report.seconds) == report.repeats == 12 and report.warmup == 1
    assert report.median_seconds == statistics.median(report.seconds)
    assert report.p95_seconds == report.p99_seconds == max(report.seconds)
    assert report.images_per_second == pytest.approx(3 / report.median_seconds)
    assert report.low_seconds <= report.median_seconds <= report.high_seconds
    assert report.outliers == count_outliers(list(report.seconds))
    assert report.device == "cpu" and report.threads == torch.get_num_threads()
    assert report.peak_memory_bytes > 50e6 and "process" in report.peak_memory_of


def test_what_is_timed_is_the_whole_way_from_pixels(monkeypatch):
    """A slower network shows in the figures."""
    model = CGD(TINY)
    seen = []
    embed = model.embed

    def slow(pixels):
        seen.append((tuple(pixels.shape), pixels.dtype))
        time.sleep(0.05)
        return embed(pixels)

    monkeypatch.setattr(model, "embed", slow)
    report = measure_latency(model, 2, ProfileConfig(repeats=3, warmup=1))
    assert seen == [((2, 32, 32, 3), torch.uint8)] * 4
    assert report.median_seconds > 0.05


def test_several_batch_sizes_are_measured_each():
    config = ProfileConfig(batch_sizes=(1, 4, 2), repeats=2, warmup=0)
    report = profile_model(TINY, config)
    assert [x.batch_size for x in report.latency] == [1, 4, 2]
    assert profile_model(TINY, replace(config, batch_sizes=(1,))).counts == report.counts


def test_peak_memory_grows_with_the_batch():
    # Else what tests before it freed and the process kept would serve the larger batch.
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    small, large = (
        measure_latency(CGD(TINY), n, ProfileConfig(repeats=1, warmup=0)) for n in (1, 1024)
    )
    # The stem's output alone: 1024 pictures of 64 x 16 x 16 floats are 67 MB.
    assert large.peak_memory_bytes > small.peak_memory_bytes + 60e6


def test_json_has_every_pass():
    values = profile_model(TINY, ProfileConfig(repeats=5, warmup=0)).to_dict()
    assert len(values["latency"][0]["seconds"]) == 5
    assert np.isfinite(values["latency"][0]["seconds"]).all()
