"""What this machine can do at best, and how near to that each stage comes (roofline model).

Williams, Waterman & Patterson 2009: at an arithmetic intensity of I FLOPs per byte no code runs
faster than min(peak arithmetic, I x peak memory traffic).
"""

import platform
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cgdcli.config import ProfileConfig
from cgdcli.engines.torch_engine import torch_device
from cgdcli.model.cgd import CGD, normalize_pixels
from cgdcli.model.lending import lent
from cgdcli.profiling.latency import time_passes
from cgdcli.reports import Counts, LayerProfile, MachinePeaks, StageSpeed

# A trunk that does not run stage by stage.
WHOLE = "trunk"
_MATRIX = 2048
_CHANNELS = 256
_CONVOLVED = (8, _CHANNELS, 28, 28)
_STREAM_BYTES = 1 << 28  # far beyond any cache
_TRIES = 5
# Below this share of the roofline neither arithmetic nor memory is what limits.
_FAR_BELOW = 0.3


def measure_roofline(
    model: CGD, counts: Counts, batch_size: int, config: ProfileConfig
) -> tuple[MachinePeaks, tuple[StageSpeed, ...]]:
    """The machine's peaks, and each stage and branch beside them.

    The peaks are measured before and after the stages, since a busy machine may be slower for a
    while; where a stage was still faster, its speed is the peak, and `MachinePeaks.how` says so.
    """
    peaks = machine_peaks(config)
    seconds = _stage_seconds(model, batch_size, config)
    peaks = _better(peaks, machine_peaks(config))
    work = {name: _work(name, counts, batch_size) for name in seconds}
    peaks = _raised(peaks, {n: (f / seconds[n], t / seconds[n]) for n, (f, t) in work.items()})
    return peaks, tuple(_speed(name, seconds[name], *work[name], peaks) for name in seconds)


def machine_name(config: ProfileConfig) -> str:
    """The processor, or the GPU, and PyTorch's version."""
    device = torch_device(config.device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, "") or platform.processor() or platform.machine()
    return f"{name}, torch {torch.__version__}"


def machine_peaks(config: ProfileConfig) -> MachinePeaks:
    """The best of several float32 products and convolutions, and of sums of two long vectors.

    On an AMD EPYC the convolution runs at 400 GFLOP/s where the product reaches 250 to 380.
    """
    device = torch_device(config.device)
    with torch.inference_mode():
        a, b = (torch.rand(_MATRIX, _MATRIX, device=device) for _ in range(2))
        out = torch.empty_like(a)
        product = 2 * _MATRIX**3 / min(_times(lambda: torch.mm(a, b, out=out), device))
        images = torch.rand(_CONVOLVED, device=device)
        filters = torch.rand(_CHANNELS, _CHANNELS, 3, 3, device=device)
        convolved = min(_times(lambda: torch.conv2d(images, filters, padding=1), device))
        convolution = 2 * images.numel() * _CHANNELS * 9 / convolved
        x, y = (torch.rand(_STREAM_BYTES // 4, device=device) for _ in range(2))
        total = torch.empty_like(x)
        stream = min(_times(lambda: torch.add(x, y, out=total), device))
    return MachinePeaks(
        device=str(device),
        threads=torch.get_num_threads(),
        gflops_per_second=max(product, convolution) / 1e9,
        gigabytes_per_second=3 * _STREAM_BYTES / stream / 1e9,
        how=f"best of {2 * _TRIES}, float32: a product of {_MATRIX} x {_MATRIX} matrices or a 3x3 "
        f"convolution of {_CHANNELS} channels; the sum of two vectors of {_STREAM_BYTES >> 20} MiB",
    )


def _better(a: MachinePeaks, b: MachinePeaks) -> MachinePeaks:
    return replace(
        a,
        gflops_per_second=max(a.gflops_per_second, b.gflops_per_second),
        gigabytes_per_second=max(a.gigabytes_per_second, b.gigabytes_per_second),
    )


def _raised(peaks: MachinePeaks, achieved: dict[str, tuple[float, float]]) -> MachinePeaks:
    """Peaks that no stage exceeds; `achieved` is (FLOP/s, B/s) by stage."""
    by_flops = max(achieved, key=lambda name: achieved[name][0])
    flops = achieved[by_flops][0] / 1e9
    if flops > peaks.gflops_per_second:
        how = f"{peaks.how}; arithmetic as {by_flops} reached, which was faster"
        peaks = replace(peaks, gflops_per_second=flops, how=how)
    return peaks


@torch.inference_mode()
def _stage_seconds(model: CGD, batch_size: int, config: ProfileConfig) -> dict[str, float]:
    """Medians of each stage and branch by itself, on the output of the one before; a trunk of
    timm's runs as a whole."""
    device = torch_device(config.device)
    size = model.config.transform.image_size
    pixels = torch.full((batch_size, size, size, 3), 128, dtype=torch.uint8, device=device)
    x = normalize_pixels(pixels, model.config)
    repeats = max(3, config.repeats // 2)

    def median(run: Callable[[], object]) -> float:
        return statistics.median(time_passes(run, device, repeats=repeats, warmup=1))

    seconds: dict[str, float] = {}
    with lent(model, device):
        if not model.backbone.runs_in_stages:
            seconds[WHOLE] = median(_whole(model, x))
            x = model.backbone(x)
        for name in model.backbone.stage_names if model.backbone.runs_in_stages else ():
            seconds[name] = median(_stage(model, name, x))
            x = model.backbone.run_stage(name, x)
        for i, letter in enumerate(model.config.descriptors):
            seconds[f"branch {letter}"] = median(_branch(model, i, letter, x))
    return seconds


def _whole(model: CGD, x: Tensor) -> Callable[[], object]:
    return lambda: model.backbone(x)


def _stage(model: CGD, name: str, x: Tensor) -> Callable[[], object]:
    return lambda: model.backbone.run_stage(name, x)


def _branch(model: CGD, i: int, letter: str, x: Tensor) -> Callable[[], object]:
    return lambda: model.branch(i, model.pool(x, letter))


def _work(name: str, counts: Counts, batch_size: int) -> tuple[int, int]:
    """FLOPs, and the bytes that a layer-by-layer run moves at least."""
    heads = ("branch ", "classifier")
    members = [
        layer
        for layer in counts.layers
        if layer.stage == name or (name == WHOLE and not layer.stage.startswith(heads))
    ]
    flops = 2 * batch_size * sum(layer.macs for layer in members)
    return flops, sum(_traffic(layer, batch_size) for layer in members)


def _speed(name: str, seconds: float, flops: int, traffic: int, peaks: MachinePeaks) -> StageSpeed:
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
