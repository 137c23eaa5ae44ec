"""Job: what a network costs: exact counts, and what was measured here."""

from collections.abc import Mapping
from pathlib import Path

import torch

from cgdcli.config import CGDConfig, ProfileConfig
from cgdcli.model.cgd import CGD
from cgdcli.networks import Model, as_model
from cgdcli.profiling.counting import count_network
from cgdcli.profiling.latency import measure_latency
from cgdcli.profiling.machine import machine_name, measure_roofline
from cgdcli.profiling.pictures import profile_folder
from cgdcli.reports import CompareReport, MachinePeaks, ProfileReport, StageSpeed


def profile_model(
    model: Model | CGDConfig = None, config: ProfileConfig | None = None
) -> ProfileReport:
    """Count and measure a network. A live model's `state_dict` is left as it was.

    Args:
        model: a `CGD`, a `CGDConfig` (random weights: costs do not depend on them), or what
            `weights.loading.load_model` takes.
    """
    config = config or ProfileConfig()
    network = _random_network(model) if isinstance(model, CGDConfig) else as_model(model)
    counts = count_network(network.config)
    latency = tuple(measure_latency(network, size, config) for size in config.batch_sizes)
    peaks: MachinePeaks | None = None
    speeds: tuple[StageSpeed, ...] = ()
    if config.roofline:
        peaks, speeds = measure_roofline(network, counts, max(config.batch_sizes), config)
    return ProfileReport(
        config=network.config.to_dict(),
        embedding_dim=network.embedding_dim,
        machine=machine_name(config),
        counts=counts,
        latency=latency,
        peaks=peaks,
        speeds=speeds,
        folder=profile_folder(network, Path(config.images), config) if config.images else None,
    )


def compare_models(
    models: Mapping[str, Model | CGDConfig], config: ProfileConfig | None = None
) -> CompareReport:
    """Profile several networks, by name, one after the other on the same machine."""
    return CompareReport({name: profile_model(model, config) for name, model in models.items()})


def _random_network(config: CGDConfig) -> CGD:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to draw
        return CGD(config).eval()
