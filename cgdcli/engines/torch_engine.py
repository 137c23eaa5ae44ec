"""The engine that is always there: PyTorch on CPU, CUDA or MPS."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from cgdcli.config import Device, EmbedPrecision
from cgdcli.engines import Rows
from cgdcli.errors import ConfigError
from cgdcli.model.cgd import CGD

logger = logging.getLogger("cgdcli")


class TorchEngine:
    """Runs a `CGD` in eval mode on one device; in bf16 the backbone alone, under autocast."""

    name = "torch"
    parallel = 1  # its own threads share a pass

    def __init__(
        self,
        model: CGD,
        device: Device = Device.auto,
        precision: EmbedPrecision = EmbedPrecision.fp32,
    ) -> None:
        assert precision in (EmbedPrecision.fp32, EmbedPrecision.bf16)
        self.precision = precision.value
        self.device = torch_device(device)
        self.on_cpu = self.device.type == "cpu"
        self.config = model.config
        self.model = model.to(self.device).eval()
        logger.debug(
            "engine torch, %s, on %s, %d threads", precision, self.device, torch.get_num_threads()
        )

    def embed(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `engines.Engine`."""
        reduced = self.precision == EmbedPrecision.bf16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            rows = self.model.embed(torch.from_numpy(pixels)).cpu().numpy()
        assert rows.dtype == np.float32
        return rows


def torch_device(device: Device, *, allow_mps: bool = True) -> torch.device:
    """The device meant; `auto` prefers CUDA, then MPS where allowed, then the CPU.

    Raises:
        ConfigError: it is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device is Device.auto:
        return torch.device("cuda" if cuda else "mps" if mps and allow_mps else "cpu")
    if (device is Device.cuda and not cuda) or (device is Device.mps and not mps):
        raise ConfigError(
            f"--device {device} is not available: this PyTorch ({torch.__version__}) sees none",
            hint="use --device auto, or install a PyTorch built for it and its driver",
        )
    return torch.device(device.value)
