"""What every format of an exported graph has: its function, its metadata, its interface."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import cgdcli
from cgdcli.engines import Rows
from cgdcli.images.transforms import ENOUGH
from cgdcli.model.cgd import CGD

INPUT, OUTPUT = "pixels", "embedding"
DECODE = (
    "RGB, upright as its EXIF orientation says; a JPEG at the smallest of its scales 1, 1/2, 1/4, "
    f"1/8 that has {ENOUGH} x image_size (cgd embed --exact-decode: at 1)"
)
RESIZE = "to image_size x image_size, aspect not kept, bilinear with antialiasing (Pillow's)"
NORMALIZATION = "in the graph: (pixels / 255 - mean) / std"

Run = Callable[[NDArray[np.uint8]], Rows]
"""uint8 (N, S, S, 3) to float32 (N, D)."""


class GraphFormat(Protocol):
    """One way to write a graph.

    Attributes:
        name: for people.
    """

    name: str

    def files(self, target: Path) -> tuple[Path, ...]:
        """What is written for `target`, itself first."""
        ...

    def check_installed(self) -> None:
        """Raise `ConfigError` where a package that writing or reading back needs is missing."""
        ...

    def write(self, network: CGD, target: Path, metadata: dict[str, Any]) -> None:
        """Write a network that is on the CPU and in eval mode.

        Raises:
            CheckpointError: it cannot be converted.
        """
        ...

    def load(self, target: Path) -> Run:
        """The written graph as the format's own runtime reads it; in float32."""
        ...


def graph_metadata(network: CGD, fingerprint: str) -> dict[str, Any]:
    """What whoever serves the graph may want to know; plain values."""
    transform = network.config.transform
    return {
        "cgd_version": cgdcli.__version__,
        "fingerprint": fingerprint,
        "backbone": network.config.backbone,
        "descriptors": network.config.descriptors,
        "blocks": [list(block) for block in network.blocks],
        "image_size": transform.image_size,
        "decode": DECODE,
        "resize": RESIZE,
        "mean": list(transform.mean),
        "std": list(transform.std),
        "normalization": NORMALIZATION,
        "input": f"{INPUT}: uint8 (N, image_size, image_size, 3), RGB",
        "output": f"{OUTPUT}: float32 (N, {network.embedding_dim}), unit rows: their dot product "
        "is the similarity; what cgd embed gives without --flip, --scales, --whiten and --dim",
    }


def as_text(metadata: dict[str, Any]) -> dict[str, str]:
    """Text as it is, other values as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}


def first_line(error: BaseException) -> str:
    """Of an exporter's message, which may be pages; of the error below it that says why."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
