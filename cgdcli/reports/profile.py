"""What a network costs."""

from dataclasses import dataclass
from typing import Any

from cgdcli.reports.base import Report
from cgdcli.reports.latency import FolderReport, LatencyReport, MachinePeaks, StageSpeed


@dataclass(frozen=True)
class LayerProfile(Report):
    """One layer, or several taken together, for one picture.

    Attributes:
        name: of the module, such as `backbone.layer1.0.conv1`.
        stage: of the trunk (a ResNet's stem, layer1 ... layer4), branch S ..., classifier.
        kind: of the module, such as Conv2d; `pooling` for a descriptor, `parameters` for what only
            holds some.
        activations: output values of convolutions, linear layers and products, as fvcore and timm
            count.
        moved_values: inputs and outputs, once each.
        counted: whether its operations are in `macs`.
    """

    name: str
    stage: str
    kind: str
    parameters: int
    weight_bytes: int
    macs: int
    activations: int
    moved_values: int
    output_shape: tuple[int, ...]
    counted: bool


@dataclass(frozen=True)
class StageProfile(Report):
    """One stage of the network, for one picture. `uncounted`: operations not in `macs`, by kind."""

    name: str
    parameters: int
    weight_bytes: int
    macs: int
    activations: int
    output_shape: tuple[int, ...]
    uncounted: dict[str, int]


@dataclass(frozen=True)
class Counts(Report):
    """Exact counts of one network for one picture; the same in every run.

    Attributes:
        parameters: of the whole model; `embedding_parameters` + `classifier_parameters`.
        weight_bytes: of its whole `state_dict`.
        macs: multiply-accumulates of convolutions, linear layers and the products of attention,
            whole model.
        flops: 2 x macs.
        activations: output values of those layers.
        uncounted: kinds of operation that are not in `macs`, with how often they run.
        thop: what generations of the profiler thop print for this network, and the rule of each;
            of ResNets alone.
    """

    parameters: int
    embedding_parameters: int
    classifier_parameters: int
    weight_bytes: int
    macs: int
    flops: int
    backbone_macs: int
    activations: int
    stages: tuple[StageProfile, ...]
    layers: tuple[LayerProfile, ...]
    uncounted: dict[str, int]
    thop: dict[str, int]


@dataclass(frozen=True)
class ProfileReport(Report):
    """What a network costs: counts, and what was measured here.

    Attributes:
        machine: processor, or GPU, and PyTorch's version.
        latency: one for each batch size.
        peaks, speeds: of the roofline; None and empty where it was not asked for.
        folder: decode, transform and forward on a folder; None where none was named.
    """

    config: dict[str, Any]
    embedding_dim: int
    machine: str
    counts: Counts
    latency: tuple[LatencyReport, ...]
    peaks: MachinePeaks | None = None
    speeds: tuple[StageSpeed, ...] = ()
    folder: FolderReport | None = None

    @property
    def index_bytes_per_million(self) -> int:
        """Rows of float32 for a million pictures."""
        return 4 * self.embedding_dim * 1_000_000


@dataclass(frozen=True)
class CompareReport(Report):
    """Several networks side by side, by name; all measured in one run."""

    profiles: dict[str, ProfileReport]
