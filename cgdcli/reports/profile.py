"""What a network costs."""

from dataclasses import dataclass
from typing import Any

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class StageProfile(Report):
    """One stage of the network at batch size 1."""

    name: str
    parameters: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class ProfileReport(Report):
    """What a network costs.

    Attributes:
        parameters: of the whole model; `embedding_parameters` + `classifier_parameters`.
        macs: multiply-accumulates of convolutions and linear layers for one picture, whole model.
        flops: 2 x macs.
        uncounted: kinds of operation that are not in `macs`, with how often they run.
        latency_seconds: median of one forward pass at `batch_size`; p95 beside it.
        peak_memory_bytes: what `peak_memory_of` names.
    """

    config: dict[str, Any]
    parameters: int
    embedding_parameters: int
    classifier_parameters: int
    weight_bytes: int
    macs: int
    flops: int
    backbone_macs: int
    stages: tuple[StageProfile, ...]
    uncounted: dict[str, int]
    batch_size: int
    device: str
    threads: int
    repeats: int
    latency_seconds: float
    latency_p95_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    peak_memory_of: str
    embedding_dim: int
