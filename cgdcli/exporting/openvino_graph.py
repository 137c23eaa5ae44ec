"""OpenVINO (extra `fast`): an .xml and the .bin of its weights, in float32."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import EmbedPrecision
from cgdcli.engines import Rows
from cgdcli.engines.openvino_engine import (
    converted,
    is_installed,
    openvino_core,
    openvino_package,
    properties,
)
from cgdcli.errors import CheckpointError, ConfigError, OutputError
from cgdcli.exporting.graphs import INPUT, OUTPUT, Run, as_text, first_line
from cgdcli.model.cgd import CGD


class OpenVINOFormat:
    """See `graphs.GraphFormat`; metadata are under `cgd` in its rt_info."""

    name = "OpenVINO"

    def files(self, target: Path) -> tuple[Path, ...]:
        return target, target.with_suffix(".bin")

    def check_installed(self) -> None:
        if not is_installed():
            raise ConfigError(
                "an .xml file needs openvino, not installed here",
                hint="pip install 'cgdcli[fast]'",
            )

    def write(self, network: CGD, target: Path, metadata: dict[str, Any]) -> None:
        try:
            graph = converted(network)
        except CheckpointError as error:
            raise CheckpointError(error.what, hint="try the other format: -o model.onnx") from error
        graph.inputs[0].get_tensor().set_names({INPUT})
        graph.outputs[0].get_tensor().set_names({OUTPUT})
        for name, value in as_text(metadata).items():
            graph.set_rt_info(value, ["cgd", name])
        try:
            openvino_package().save_model(graph, target, compress_to_fp16=False)
        except RuntimeError as error:  # of a full disk, which no OSError tells
            raise OutputError(
                f"OpenVINO could not write `{target.name}` whole ({first_line(error)})",
                hint="check the free space and the permissions of that folder",
            ) from error

    def load(self, target: Path) -> Run:
        compiled = openvino_core().compile_model(target, "CPU", properties(EmbedPrecision.fp32))

        def run(pixels: NDArray[np.uint8]) -> Rows:
            return np.array(compiled({INPUT: pixels})[OUTPUT], dtype=np.float32)

        return run
