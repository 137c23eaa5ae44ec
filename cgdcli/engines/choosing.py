"""Which engine computes. Imports no torch where a graph compiled before does without."""

import logging
import sys
from pathlib import Path

from cgdcli.config import Device, EngineName, Precision
from cgdcli.engines import Engine, Source
from cgdcli.engines.openvino_engine import is_installed, openvino_engine
from cgdcli.errors import CheckpointError, ConfigError

logger = logging.getLogger("cgdcli")

# What a driver of NVIDIA's, of AMD's or of Windows' Linux leaves on a machine with a GPU.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def make_engine(
    source: Source,
    *,
    engine: EngineName = EngineName.auto,
    precision: Precision = Precision.fp32,
    device: Device = Device.auto,
) -> Engine:
    """The engine of a network: of `auto`, OpenVINO on a CPU where it is installed.

    Args:
        precision: fp32 or bf16.

    Raises:
        ConfigError: OpenVINO is asked for and not installed, or for another device than the CPU.
        CheckpointError: OpenVINO is asked for and cannot compile the network.
    """
    wants = engine is EngineName.openvino
    on_cpu = (wants or engine is EngineName.auto) and computes_on_cpu(device)
    if wants and not on_cpu:
        raise ConfigError(
            f"--engine openvino computes on the CPU, not on --device {device}",
            hint="add --device cpu, or leave --engine out",
        )
    if on_cpu and (wants or is_installed()):
        try:
            return openvino_engine(source, precision)
        except CheckpointError as error:
            if wants:
                raise
            logger.info("%s: computed by PyTorch", error.what)
    from cgdcli.engines.torch_engine import TorchEngine

    return TorchEngine(source.model, device, precision)


def computes_on_cpu(device: Device) -> bool:
    """Whether that device is the CPU. PyTorch is asked only where there may be another.

    Raises:
        ConfigError: it is not there.
    """
    if device is Device.cpu or (device is Device.auto and not _may_have_gpu()):
        return True
    from cgdcli.engines.torch_engine import torch_device

    return torch_device(device).type == "cpu"


def _may_have_gpu() -> bool:
    """Not where a Linux shows no driver: there importing torch to ask would take 3 s."""
    return sys.platform != "linux" or any(Path(place).exists() for place in _DRIVERS)
