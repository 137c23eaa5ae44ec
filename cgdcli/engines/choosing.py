"""Which engine computes. Imports no torch where a graph compiled before does without."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from cgdcli.config import Device, EmbedPrecision, EngineName
from cgdcli.engines import Engine, Source
from cgdcli.engines.openvino_engine import (
    has_bf16,
    is_installed,
    openvino_engine,
    quantized_engine,
)
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.errors import CheckpointError, ConfigError

logger = logging.getLogger("cgdcli")

# What a driver of NVIDIA's, of AMD's or of Windows' Linux leaves on a machine with a GPU.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def make_engine(
    source: Source,
    *,
    engine: EngineName = EngineName.auto,
    precision: EmbedPrecision = EmbedPrecision.fp32,
    device: Device = Device.auto,
    quantized: Callable[[], QuantizedGraph] | None = None,
) -> Engine:
    """The engine of a network: of `auto`, OpenVINO on a CPU where it is installed.

    Args:
        precision: any but auto.
        quantized: what gives the network in int8, where that is the precision.

    Raises:
        ConfigError: OpenVINO is asked for and not installed, or for another device than the CPU;
            int8, which only OpenVINO computes, where it does not.
        CheckpointError: OpenVINO is asked for and cannot compile the network.
    """
    if precision is EmbedPrecision.int8:
        assert quantized is not None
        why_not = without_int8(engine, device)
        if why_not:
            raise ConfigError(
                f"--precision int8 is computed by OpenVINO on the CPU; {why_not}",
                hint="choose another --precision (fp32, bf16), or change that",
            )
        return quantized_engine(quantized(), source.config)
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


def without_int8(engine: EngineName, device: Device) -> str:
    """Why int8 cannot be computed, in words; empty where it can."""
    if engine is EngineName.torch:
        return "--engine torch is asked for"
    if not computes_on_cpu(device):
        return f"--device {device} is another"
    return "" if is_installed() else "OpenVINO is not installed (pip install 'cgdcli[fast]')"


def lacks_bf16(engine: EngineName, device: Device) -> bool:
    """Whether bf16 would be computed as fp32: by OpenVINO on a processor that does not have it.

    PyTorch computes it in any case.
    """
    by_openvino = engine is not EngineName.torch and is_installed() and computes_on_cpu(device)
    return by_openvino and not has_bf16()


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
