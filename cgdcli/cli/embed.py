"""`cgd embed`: pictures become an index."""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    EXIT_SKIPPED,
    DeviceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import EmbedConfig
from cgdcli.words import counted


def embed(
    images: Annotated[
        list[Path], argument(metavar="IMAGES", help="Pictures and folders, read recursively.")
    ],
    output: Annotated[Path, option("--output", "-o", help="The index: feats.npy (+ .sqlite).")],
    model: ModelOption = None,
    labels: Annotated[
        str,
        option(help="`folder` (class folders, where there are), `none`, or a CSV: path,label."),
    ] = "folder",
    rebuild: Annotated[
        bool, option("--rebuild", help="Replace an index of other pictures or another model.")
    ] = False,
    batch_size: Annotated[int, option(min=1, help="Pictures a forward pass.")] = (
        EmbedConfig.batch_size
    ),
    workers: WorkersOption = EmbedConfig.workers,
    device: DeviceOption = EmbedConfig.device,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Embed pictures into an index that remembers its model: feats.npy and feats.sqlite.

    Pictures that cannot be read are skipped, listed and make the exit code 3. Files without a
    picture's extension are passed over.
    """
    from cgdcli.embedding import embed_images
    from cgdcli.views.tables import embed_lines

    out = Output(quiet=quiet, verbose=verbose)
    with out.progress("embedding") as on_progress:
        report = embed_images(
            images,
            output,
            model=model,
            labels=labels,
            rebuild=rebuild,
            config=EmbedConfig(batch_size=batch_size, workers=workers, device=device),
            on_progress=on_progress,
        )
    out.say(*embed_lines(report))
    if quiet and report.skipped:
        out.warn(f"skipped {counted(len(report.skipped), 'picture')}: see inspect --skipped")
    if as_json:
        out.json(report.to_dict())
    return EXIT_SKIPPED if report.skipped else 0
