"""Job: what a network costs: parameters, multiply-accumulates, latency, memory."""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgdcli.config import DESCRIPTOR_NAMES, CGDConfig, ProfileConfig
from cgdcli.engines.torch_engine import torch_device
from cgdcli.model.backbones import STAGES
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.reports import ProfileReport, StageProfile
from cgdcli.streaming import Model, as_model


def profile_model(
    model: Model | CGDConfig = None, config: ProfileConfig | None = None
) -> ProfileReport:
    """Count and measure a network. A live model's `state_dict` is left as it was.

    Args:
        model: a `CGD`, a `CGDConfig` (random weights: costs do not depend on them), or what
            `weights.loading.load_model` takes.

    One multiply-accumulate (MAC) is two floating-point operations (FLOPs). Counted are
    convolutions and linear layers, for one picture; what is not is listed in `uncounted`.
    """
    config = config or ProfileConfig()
    network = _random_network(model) if isinstance(model, CGDConfig) else as_model(model)
    stages, uncounted = count_stages(network.config)
    latency, p95, memory, memory_of = _measure(network, config)
    total = sum(p.numel() for p in network.parameters())
    classifier = _parameters(network.classifier) if network.classifier else 0
    macs = sum(stage.macs for stage in stages)
    return ProfileReport(
        config=network.config.to_dict(),
        parameters=total,
        embedding_parameters=total - classifier,
        classifier_parameters=classifier,
        weight_bytes=sum(t.numel() * t.element_size() for t in network.state_dict().values()),
        macs=macs,
        flops=2 * macs,
        backbone_macs=sum(stage.macs for stage in stages if stage.name in STAGES),
        stages=stages,
        uncounted=uncounted,
        batch_size=config.batch_size,
        device=str(torch_device(config.device)),
        threads=torch.get_num_threads(),
        repeats=config.repeats,
        latency_seconds=latency,
        latency_p95_seconds=p95,
        images_per_second=config.batch_size / latency,
        peak_memory_bytes=memory,
        peak_memory_of=memory_of,
        embedding_dim=network.embedding_dim,
    )


def _random_network(config: CGDConfig) -> CGD:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to draw
        return CGD(config).eval()


def count_stages(config: CGDConfig) -> tuple[tuple[StageProfile, ...], dict[str, int]]:
    """MACs and parameters by stage for one picture, and the kinds of operation left uncounted.

    Runs on the meta device: shapes only, no arithmetic, and never on the caller's model.
    """
    model = meta_model(config).eval()
    size = config.transform.image_size
    stages: list[StageProfile] = []
    uncounted: Counter[str] = Counter()
    x = torch.empty(1, 3, size, size, device="meta")
    with torch.inference_mode():
        for name in STAGES:
            with _counting(model.backbone) as (macs, others):
                x = model.backbone.run_stage(name, x)
            modules = _stage_modules(model, name)
            stages.append(
                StageProfile(name, sum(map(_parameters, modules)), sum(macs), tuple(x.shape[1:]))
            )
            uncounted.update(others)
        channels, per_branch = x.shape[1], model.embedding_dim // len(config.descriptors)
    for i, letter in enumerate(config.descriptors):
        weights = _parameters(model.branches[i]) if model.branches else 0
        stages.append(StageProfile(f"branch {letter}", weights, weights, (per_branch,)))
        uncounted[f"pooling {DESCRIPTOR_NAMES[letter]}"] += 1
        uncounted["L2 normalization"] += 1
    uncounted["L2 normalization"] += 1
    if model.classifier is not None:
        macs_of_it = channels * config.classes
        weights = _parameters(model.classifier)
        stages.append(StageProfile("classifier", weights, macs_of_it, (config.classes,)))
        uncounted["BatchNorm1d"] += 1
    return tuple(stages), dict(uncounted)


def convolution_macs(module: nn.Conv2d, output: Tensor) -> int:
    """Each output value takes one MAC per weight of its filter: C_in / groups x kernel area."""
    kernel = prod(module.kernel_size)
    return output[0].numel() * (module.in_channels // module.groups) * kernel


@contextmanager
def _counting(module: nn.Module) -> Iterator[tuple[list[int], Counter[str]]]:
    """Hooks on the leaves: MACs of convolutions, and a count of every other kind."""
    macs: list[int] = []
    others: Counter[str] = Counter()

    def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            macs.append(convolution_macs(layer, output))
        else:
            others[type(layer).__name__] += 1

    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    handles = [leaf.register_forward_hook(hook) for leaf in leaves]
    try:
        yield macs, others
    finally:
        for handle in handles:
            handle.remove()


def _stage_modules(model: CGD, name: str) -> list[nn.Module]:
    trunk = model.backbone
    return [trunk.conv1, trunk.bn1] if name == "stem" else [getattr(trunk, name)]


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _measure(model: CGD, config: ProfileConfig) -> tuple[float, float, int, str]:
    """Median and 95th percentile of a forward pass in seconds, peak memory and whose it is."""
    device = torch_device(config.device)
    home = next(model.parameters()).device
    model = model.to(device)
    size = model.config.transform.image_size
    pixels = torch.full((config.batch_size, size, size, 3), 128, dtype=torch.uint8)
    synchronize: Callable[[], None] = lambda: None  # noqa: E731
    if device.type == "cuda":
        synchronize = torch.cuda.synchronize
        torch.cuda.reset_peak_memory_stats(device)
    _reset_peak()
    times = []
    for _ in range(config.warmup + config.repeats):
        synchronize()
        started = time.perf_counter()
        model.embed(pixels)
        synchronize()
        times.append(time.perf_counter() - started)
    model.to(home)
    times = sorted(times[config.warmup :])
    p95 = times[ceil(0.95 * len(times)) - 1]
    if device.type == "cuda":
        return (
            statistics.median(times),
            p95,
            torch.cuda.max_memory_allocated(device),
            "CUDA tensors",
        )
    return statistics.median(times), p95, *_process_peak()


def _reset_peak() -> None:
    """Linux forgets the process's peak on request; elsewhere it stays that of its life."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _process_peak() -> tuple[int, str]:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024, "whole process, Python and torch included"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return peak * unit, "whole process, Python and torch included, since it began"
