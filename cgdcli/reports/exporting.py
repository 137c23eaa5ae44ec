"""What exporting a network gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.reports.base import ModelInfo, Report, SkippedImage


@dataclass(frozen=True)
class GraphParity(Report):
    """An exported graph beside the PyTorch network it was made from.

    Attributes:
        difference: the largest of any number of an embedding, on noise, on black, on white and on
            the pictures; at most `tolerance`.
        batch_sizes: on each of which the graph ran.
        pictures: compared beside the noise; of `images`, or drawn where that is None.
        neighbours: share of them whose nearest other one is the same, or as similar within 1e-5.
    """

    difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]
    pictures: int
    neighbours: float
    images: Path | None
    skipped: tuple[SkippedImage, ...] = ()


@dataclass(frozen=True)
class GraphReport(Report):
    """A network as a graph that other programs run, proved to compute what PyTorch computes.

    Attributes:
        files: what was written, `target` first; all of them are needed.
        format: ONNX or OpenVINO.
        metadata: as it stands in the file.
    """

    target: Path
    files: tuple[Path, ...]
    bytes: int
    format: str
    model: ModelInfo
    image_size: int
    embedding_dim: int
    metadata: dict[str, Any]
    parity: GraphParity
    seconds: float
