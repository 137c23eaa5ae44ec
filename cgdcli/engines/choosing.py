"""Which engine computes."""

import logging

from cgdcli.config import Device, EngineName, Precision
from cgdcli.engines import Engine
from cgdcli.engines.openvino_engine import is_installed, openvino_engine
from cgdcli.engines.torch_engine import TorchEngine, torch_device
from cgdcli.errors import CheckpointError, ConfigError
from cgdcli.model.cgd import CGD

logger = logging.getLogger("cgdcli")


def make_engine(
    model: CGD,
    fingerprint: str,
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
    on_cpu = torch_device(device).type == "cpu"
    if engine is EngineName.openvino and not on_cpu:
        raise ConfigError(
            f"--engine openvino computes on the CPU, not on --device {device}",
            hint="add --device cpu, or leave --engine out",
        )
    if engine is EngineName.openvino or (engine is EngineName.auto and on_cpu and is_installed()):
        try:
            return openvino_engine(model, fingerprint, precision)
        except CheckpointError as error:
            if engine is EngineName.openvino:
                raise
            logger.info("%s: computed by PyTorch", error.what)
    return TorchEngine(model, device, precision)
