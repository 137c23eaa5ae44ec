"""Job: what a network costs: exact counts, and what was measured here."""

from collections.abc import Mapping
from pathlib import Path

import torch

from cgdcli.config import CGDConfig, ProfileConfig
from cgdcli.model.cgd import CGD
from cgdcli.profiling.counting import count_network
from cgdcli.profiling.latency import measure_latency
from cgdcli.profiling.machine import machine_peaks, stage_speeds
from cgdcli.profiling.pictures import profile_folder
from cgdcli.reports import CompareReport, MachinePeaks, ProfileReport
from cgdcli.streaming import Model, as_model


def profile_model(
    model: Model | CGDConfig = None, config: ProfileConfig | None = None
) -> ProfileReport:
    """Count and measure a network. A live model's `state_dict` is left as it was.

    Args:
        model: a `CGD`, a `CGDConfig` (random weights: costs do not depend on them), or what
            `weights.loading.load_model` takes.
    """
    return _profile(model, config or ProfileConfig(), None)


def compare_models(
    models: Mapping[str, Model | CGDConfig], config: ProfileConfig | None = None
) -> CompareReport:
    """Profile several networks, by name, one after the other on the same machine."""
    config = config or ProfileConfig()
    peaks = machine_peaks(config) if config.roofline else None
    return CompareReport({name: _profile(model, config, peaks) for name, model in models.items()})


def _profile(
    model: Model | CGDConfig, config: ProfileConfig, peaks: MachinePeaks | None
) -> ProfileReport:
    network = _random_network(model) if isinstance(model, CGDConfig) else as_model(model)
    counts = count_network(network.config)
    latency = tuple(measure_latency(network, size, config) for size in config.batch_sizes)
    if config.roofline:
        peaks = peaks or machine_peaks(config)
    return ProfileReport(
        config=network.config.to_dict(),
        embedding_dim=network.embedding_dim,
        counts=counts,
        latency=latency,
        peaks=peaks,
        speeds=stage_speeds(network, counts, peaks, max(config.batch_sizes), config)
        if peaks
        else (),
        folder=profile_folder(network, Path(config.images), config) if config.images else None,
    )


def _random_network(config: CGDConfig) -> CGD:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to draw
        return CGD(config).eval()
