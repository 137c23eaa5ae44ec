"""ONNX (extra `onnx`): written by PyTorch's exporter, read back by ONNX Runtime."""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cgdcli.engines import Rows
from cgdcli.errors import CheckpointError, ConfigError
from cgdcli.exporting.graphs import INPUT, OUTPUT, Run, as_text, first_line
from cgdcli.launch import cores
from cgdcli.model.cgd import CGD, PixelsToEmbedding

# Of PyTorch's exporter since 2.9; ONNX Runtime reads it since 1.17, of early 2024.
OPSET = 20
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# A file is one message of protobuf, which may have 2 GiB; the graph itself takes some of it.
_MOST_BYTES = 2**31 - 2**24
_TALKING = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")


class ONNXFormat:
    """See `graphs.GraphFormat`."""

    name = "ONNX"

    def files(self, target: Path) -> tuple[Path, ...]:
        return (target,)

    def check_installed(self) -> None:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"an .onnx file needs {' and '.join(missing)}, not installed here",
                hint="pip install 'cgdcli[onnx]'",
            )

    def write(self, network: CGD, target: Path, metadata: dict[str, Any]) -> None:
        held = sum(t.numel() * t.element_size() for t in network.state_dict().values())
        if held > _MOST_BYTES:
            raise CheckpointError(
                f"{network.config.backbone} has {held / 1e9:.1f} GB of weights; an ONNX file holds "
                "at most 2 GiB",
                hint="OpenVINO's has no such bound: -o model.xml",
            )
        size = network.config.transform.image_size
        # Two pictures: of one, exporters take the number of pictures for a constant.
        example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
        try:
            with _silent(), torch.no_grad():
                program = torch.onnx.export(
                    PixelsToEmbedding(network).eval(),
                    (example,),
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
                    opset_version=OPSET,
                    dynamo=True,
                    verbose=False,
                )
        except Exception as error:  # whatever an exporter raises on a layer it does not know
            raise CheckpointError(
                f"{network.config.backbone} cannot be exported to ONNX: {first_line(error)}",
                hint="try OpenVINO's format: -o model.xml",
            ) from error
        assert program is not None
        _forget_source_places(program.model)
        program.model.metadata_props.update(as_text(metadata))
        program.save(target, external_data=False)

    def load(self, target: Path) -> Run:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = cores(), 3
        session = onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])

        def run(pixels: NDArray[np.uint8]) -> Rows:
            return np.asarray(session.run([OUTPUT], {INPUT: pixels})[0], dtype=np.float32)

        return run


def _forget_source_places(model: Any) -> None:
    """Drop what the exporter notes of every node: lines and paths of the files of this machine."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()
        graph.metadata_props.clear()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter tells its developers much, by warnings and by loggers."""
    loggers = [logging.getLogger(name) for name in _TALKING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
