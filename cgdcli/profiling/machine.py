"""What this machine can do at best, and how near to that each stage comes (roofline model).

Williams, Waterman & Patterson 2009: at an arithmetic intensity of I FLOPs per byte no code runs
faster than min(peak arithmetic, I x peak memory traffic).
"""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from cgdcli.config import ProfileConfig
from cgdcli.engines.torch_engine import torch_device
from cgdcli.model.backbones import STAGES
from cgdcli.model.cgd import CGD, normalize_pixels
from cgdcli.model.descriptors import pool
from cgdcli.profiling.latency import time_passes
from cgdcli.reports import Counts, LayerProfile, MachinePeaks, StageSpeed

_MATRIX = 2048
_STREAM_BYTES = 1 << 28  # far beyond any cache
_TRIES = 5
# Below this share of the roofline neither arithmetic nor memory is what limits.
_FAR_BELOW = 0.3


def machine_peaks(config: ProfileConfig) -> MachinePeaks:
    """The best of several float32 matrix products, and of several sums of two long vectors."""
    device = torch_device(config.device)
    with torch.inference_mode():
        a, b = (torch.rand(_MATRIX, _MATRIX, device=device) for _ in range(2))
        out = torch.empty_like(a)
        product = min(_times(lambda: torch.mm(a, b, out=out), device))
        x, y = (torch.rand(_STREAM_BYTES // 4, device=device) for _ in range(2))
        total = torch.empty_like(x)
        stream = min(_times(lambda: torch.add(x, y, out=total), device))
    return MachinePeaks(
        device=str(device),
        threads=torch.get_num_threads(),
        gflops_per_second=2 * _MATRIX**3 / product / 1e9,
        gigabytes_per_second=3 * _STREAM_BYTES / stream / 1e9,
        how=f"best of {_TRIES}: a float32 matrix product of {_MATRIX} x {_MATRIX}, and the sum of "
        f"two vectors of {_STREAM_BYTES >> 20} MiB into a third",
    )


@torch.inference_mode()
def stage_speeds(
    model: CGD, counts: Counts, peaks: MachinePeaks, batch_size: int, config: ProfileConfig
) -> tuple[StageSpeed, ...]:
    """Time each stage and branch by itself, on the output of the one before."""
    device = torch_device(config.device)
    home = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    size = model.config.transform.image_size
    pixels = torch.full((batch_size, size, size, 3), 128, dtype=torch.uint8, device=device)
    x = normalize_pixels(pixels, model.config)
    speeds = []
    try:
        for name in STAGES:
            stage = _stage(model, name, x)
            speeds.append(_speed(name, stage, counts, peaks, batch_size, config))
            x = model.backbone.run_stage(name, x)
        for i, letter in enumerate(model.config.descriptors):
            branch = _branch(model, i, letter, x)
            speeds.append(_speed(f"branch {letter}", branch, counts, peaks, batch_size, config))
    finally:
        model.to(home)
        for module, training in modes.items():
            module.training = training
    return tuple(speeds)


def _stage(model: CGD, name: str, x: Tensor) -> Callable[[], object]:
    return lambda: model.backbone.run_stage(name, x)


def _branch(model: CGD, i: int, letter: str, x: Tensor) -> Callable[[], object]:
    return lambda: model.branch(i, pool(x, letter, p=model.config.gem_p))


def _speed(
    name: str,
    run: Callable[[], object],
    counts: Counts,
    peaks: MachinePeaks,
    batch_size: int,
    config: ProfileConfig,
) -> StageSpeed:
    device = torch_device(config.device)
    seconds = statistics.median(
        time_passes(run, device, repeats=max(3, config.repeats // 2), warmup=1)
    )
    members = [layer for layer in counts.layers if layer.stage == name]
    flops = 2 * batch_size * sum(layer.macs for layer in members)
    traffic = sum(_traffic(layer, batch_size) for layer in members)
    achieved, intensity = flops / seconds / 1e9, flops / traffic
    bound = min(peaks.gflops_per_second, intensity * peaks.gigabytes_per_second)
    moved = traffic / seconds / 1e9
    share = achieved / bound if flops else moved / peaks.gigabytes_per_second
    return StageSpeed(
        name=name,
        seconds=seconds,
        flops=flops,
        traffic_bytes=traffic,
        intensity=intensity,
        gflops_per_second=achieved,
        gigabytes_per_second=moved,
        of_bound=share,
        limited_by=limit(share, bound, peaks),
    )


def limit(share: float, bound: float, peaks: MachinePeaks) -> str:
    """What keeps a stage from being faster."""
    if share < _FAR_BELOW:
        return "overhead"
    return "compute" if bound >= peaks.gflops_per_second else "memory"


def _traffic(layer: LayerProfile, batch_size: int) -> int:
    return 4 * batch_size * layer.moved_values + layer.weight_bytes


def _times(run: Callable[[], object], device: torch.device) -> list[float]:
    return time_passes(run, device, repeats=_TRIES, warmup=1)
