"""Job: a network becomes a graph that other programs run, proved to compute what PyTorch computes.

A graph is one function from pictures to embeddings: uint8 (N, S, S, 3), RGB, any N, to float32
(N, D), unit rows. Scaling, mean and std are in it: whoever serves it resizes, and can do no more
wrong than that.
"""

import logging
import time
from pathlib import Path

import torch

from cgdcli.config import ExportConfig
from cgdcli.errors import OutputError
from cgdcli.exporting.graphs import GraphFormat, graph_metadata
from cgdcli.exporting.onnx_graph import ONNXFormat
from cgdcli.exporting.openvino_graph import OpenVINOFormat
from cgdcli.exporting.parity import prove
from cgdcli.exporting.pictures import sample_of
from cgdcli.files import atomic_files, check_output
from cgdcli.model.lending import lent
from cgdcli.networks import Model, as_model, model_info
from cgdcli.reports import GraphReport

__all__ = ["export_model"]

logger = logging.getLogger("cgdcli")

_FORMATS: dict[str, type[GraphFormat]] = {".onnx": ONNXFormat, ".xml": OpenVINOFormat}


def export_model(
    model: Model,
    output: Path | str,
    *,
    images: Path | str | None = None,
    force: bool = False,
    config: ExportConfig | None = None,
) -> GraphReport:
    """Write a network as ONNX (`output` ends in .onnx) or OpenVINO (.xml, with a .bin beside it).

    What was written is read back by the format's own runtime and compared with PyTorch before it
    gets its name.

    Args:
        model: a `CGD`, or what `weights.loading.load_model` takes.
        images: a folder, some of whose pictures are compared; without it pictures are drawn.
        force: replace what is there.

    Raises:
        OutputError: `output` ends otherwise, exists, or cannot be written.
        ConfigError: what the format needs is not installed.
        CheckpointError: the network has no such graph, or one that computes something else.
        DatasetError: `images` holds fewer than two pictures that can be read.
    """
    config, target = config or ExportConfig(), Path(output)
    started = time.monotonic()
    form = _format_of(target)
    files = form.files(target)
    for file in files:
        check_output(file, force=force, what="graph")
    form.check_installed()
    folder = None if images is None else Path(images)
    network = as_model(model)
    sample = sample_of(folder, network.config.transform.image_size, config)
    info = model_info(network)
    metadata = graph_metadata(network, info.fingerprint)
    with lent(network, torch.device("cpu")), atomic_files(*files) as temporary:
        logger.info("converting %s to %s", network.config.backbone, form.name)
        form.write(network, temporary / target.name, metadata)
        logger.info("comparing the graph with PyTorch")
        parity = prove(form, temporary / target.name, network, sample, config)
        size = sum((temporary / file.name).stat().st_size for file in files)
    return GraphReport(
        target=target,
        files=files,
        bytes=size,
        format=form.name,
        model=info,
        image_size=network.config.transform.image_size,
        embedding_dim=network.embedding_dim,
        metadata=metadata,
        parity=parity,
        seconds=time.monotonic() - started,
    )


def _format_of(target: Path) -> GraphFormat:
    """By the ending of the name.

    Raises:
        OutputError: it is none of those known.
    """
    found = _FORMATS.get(target.suffix)
    if found is None:
        raise OutputError(
            f"the graph `{target}` should end in .onnx (ONNX) or .xml (OpenVINO)",
            hint=f"try -o {target.with_suffix('.onnx')}",
        )
    return found()
