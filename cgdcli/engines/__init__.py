"""Floor 4: engines turn uint8 pictures into embeddings; one file each, one small interface."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import CGDConfig

if TYPE_CHECKING:
    from cgdcli.model.cgd import CGD

Rows = NDArray[np.float32]


class Source(Protocol):
    """The network that an engine computes: what is known of it, and itself, which is loaded when it
    is asked for and may never be (`networks.Network`)."""

    @property
    def config(self) -> CGDConfig: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def model(self) -> "CGD": ...


class Engine(Protocol):
    """What computes embeddings.

    Attributes:
        name, precision: recorded in an index (`torch`, `fp32`).
        config: of the network; its transform says how pictures are prepared.
        on_cpu: whether it computes there.
        parallel: how many threads may call `embed` at once, and should.
    """

    name: str
    precision: str
    config: CGDConfig
    on_cpu: bool
    parallel: int

    def embed(self, pixels: NDArray[np.uint8]) -> Rows:
        """uint8 (B, H, W, 3), resized already, to float32 (B, D) with unit rows."""
        ...
