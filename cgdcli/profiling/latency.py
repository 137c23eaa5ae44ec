"""How long a forward pass takes: every pass timed, none left out."""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from pathlib import Path

import torch

from cgdcli.config import EmbedPrecision, ProfileConfig
from cgdcli.engines.torch_engine import TorchEngine, torch_device
from cgdcli.model.cgd import CGD
from cgdcli.model.lending import lent
from cgdcli.reports import LatencyReport

_ROUNDS = 5
# Two runs on one noisy machine differ by more than the rounds of either. Widened so far, and by a
# tenth at least, 74 of 76 next runs had their median inside; by a twentieth, 66
# (examples/benchmarks/profile_reproducible.py, two image sizes and two batch sizes).
_WIDENED = 0.5
_AT_LEAST = 0.1


def measure_latency(model: CGD, batch_size: int, config: ProfileConfig) -> LatencyReport:
    """Time `model.embed` on grey pictures; the model is left where and as it was."""
    device = torch_device(config.device)
    size = model.config.transform.image_size
    pixels = torch.full((batch_size, size, size, 3), 128, dtype=torch.uint8)
    with lent(model, device):
        _reset_peak(device)
        seconds = time_passes(
            lambda: model.embed(pixels), device, repeats=config.repeats, warmup=config.warmup
        )
        peak, whose = _peak(device)
    low, high = spread_of_median(seconds)
    median = statistics.median(seconds)
    return LatencyReport(
        batch_size=batch_size,
        device=str(device),
        engine=TorchEngine.name,
        precision=EmbedPrecision.fp32.value,
        threads=torch.get_num_threads(),
        warmup=config.warmup,
        repeats=config.repeats,
        median_seconds=median,
        p95_seconds=percentile(seconds, 95),
        p99_seconds=percentile(seconds, 99),
        low_seconds=low,
        high_seconds=high,
        images_per_second=batch_size / median,
        outliers=count_outliers(seconds),
        seconds=tuple(seconds),
        peak_memory_bytes=peak,
        peak_memory_of=whose,
    )


def time_passes(
    run: Callable[[], object], device: torch.device, *, repeats: int, warmup: int
) -> list[float]:
    """Seconds of each of `repeats` calls, after `warmup` untimed ones.

    On CUDA by events around the call, since a call returns before the GPU has finished.
    """
    for _ in range(warmup):
        run()
    if device.type != "cuda":
        return [_wall(run) for _ in range(repeats)]
    torch.cuda.synchronize(device)
    return [_by_events(run, device) for _ in range(repeats)]


def _wall(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _by_events(run: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1000


def percentile(seconds: list[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (nearest rank)."""
    return sorted(seconds)[max(0, ceil(percent / 100 * len(seconds)) - 1)]


def spread_of_median(seconds: list[float]) -> tuple[float, float]:
    """Where the median of another run is expected: see `LatencyReport.low_seconds`."""
    count = min(_ROUNDS, max(1, len(seconds) // 2))
    bounds = [round(i * len(seconds) / count) for i in range(count + 1)]
    medians = [statistics.median(seconds[a:b]) for a, b in pairwise(bounds)]
    low, high = min(medians), max(medians)
    factor = max((high / low) ** _WIDENED, 1 + _AT_LEAST)
    return low / factor, high * factor


def count_outliers(seconds: list[float]) -> int:
    """Values above the third quartile by more than 1.5 interquartile ranges (Tukey 1977)."""
    if len(seconds) < 4:
        return 0
    first, _, third = statistics.quantiles(seconds, n=4)
    return sum(value > third + 1.5 * (third - first) for value in seconds)


def _reset_peak(device: torch.device) -> None:
    """Linux forgets the process's peak on request; elsewhere it stays that of its life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak(device: torch.device) -> tuple[int, str]:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "CUDA tensors"
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024, "whole process, Python and torch included"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return peak * unit, "whole process, Python and torch included, since it began"
