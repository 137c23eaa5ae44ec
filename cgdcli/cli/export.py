"""`cgd export`: a network as ONNX or OpenVINO, proved."""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    MODEL_HELP,
    ForceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import ExportConfig


def export(
    output: Annotated[
        Path,
        option(
            "--output",
            "-o",
            help="model.onnx (extra `onnx`), or model.xml with model.bin beside it (OpenVINO, "
            "extra `fast`).",
        ),
    ],
    checkpoint: Annotated[str | None, argument(metavar="CHECKPOINT", help=MODEL_HELP)] = None,
    images: Annotated[
        Path | None,
        option(
            metavar="DIR",
            help=f"Compare on pictures of this folder, {ExportConfig.pictures} at most; without it "
            f"{ExportConfig.drawn} are drawn.",
        ),
    ] = None,
    tolerance: Annotated[
        float, option(help="Largest difference of any number of an embedding.")
    ] = ExportConfig.tolerance,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a network for programs without cgd or PyTorch: pictures in, embeddings out.

    The graph takes `pixels`, uint8 (N, S, S, 3), RGB, any N, and gives `embedding`, float32 (N, D),
    rows of length 1. Mean and std are in it; the size S and all else is in its metadata. What embed
    adds by --flip, --scales, --whiten or --dim is an index's, and not in it.

    What was written is read back and compared with PyTorch: largest difference, nearest neighbours,
    batches of 1, 2 and 5. If it differs, the exit code is 1 and no file is left.

    Example: cgd export runs/NAME -o model.onnx --images photos/
    """
    from cgdcli.exporting import export_model
    from cgdcli.views.exporting import graph_lines

    out = Output(quiet=quiet, verbose=verbose)
    report = export_model(
        checkpoint, output, images=images, force=force, config=ExportConfig(tolerance=tolerance)
    )
    out.say(*graph_lines(report, every=verbose))
    if as_json:
        out.json(report.to_dict())
