"""`cgd convert-weights`: a foreign weights file becomes a cgd checkpoint."""

import shlex
from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import ForceOption, JsonOption, QuietOption, VerboseOption, argument, option
from cgdcli.cli.output import Output
from cgdcli.config import StrideMode, Transform


def convert_weights(
    old: Annotated[
        Path,
        argument(metavar="OLD", help="A .pth or .safetensors of leftthomas/CGD or torchvision."),
    ],
    output: Annotated[
        Path | None,
        option("--output", "-o", help="The new file. Default: OLD's name with .safetensors."),
    ] = None,
    descriptors: Annotated[
        str | None, option(help="Letters of S M G R C W in the branches' order, such as SG.")
    ] = None,
    stride: Annotated[
        StrideMode | None, option(help="Stride mode. The reference's only one is layer3.")
    ] = None,
    image_size: Annotated[
        int | None, option(help=f"Input size in pixels; {Transform.image_size} if nothing says it.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Convert old weights to a cgd checkpoint: strip a profiler's entries, rename, check, write.

    What tensors cannot say (letters, stride mode, image size) is taken from the options, else from
    the reference's file name, else by an assumption that is announced and kept in the new file.
    """
    from cgdcli.conversion import convert_weights as convert
    from cgdcli.views.conversion import conversion_lines

    out = Output(quiet=quiet, verbose=verbose)
    report = convert(
        old,
        output,
        descriptors=descriptors,
        stride=stride,
        image_size=image_size,
        force=force,
    )
    if report.assumed:
        out.warn(
            f"the file does not say everything; assumed: {'; '.join(report.assumed)} "
            "(say otherwise with --descriptors, --stride, --image-size)"
        )
    if verbose:
        out.say(*(f"renamed {old_name} -> {name}" for old_name, name in report.renamed.items()))
        out.say(*(f"dropped {name}: {reason}" for name, reason in report.dropped.items()))
    if as_json:
        out.json(report.to_dict() | {"written_entries": report.written_entries})
        return
    out.lines(line + "\n" for line in conversion_lines(report))
    out.say(f"next: cgd embed IMAGES -o feats.npy --model {shlex.quote(str(report.target))}")
