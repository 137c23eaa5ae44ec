"""`cgd index`: an approximate index beside an exact one."""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    ForceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import ApproximateConfig, ApproximateKind
from cgdcli.config.search import MEBIBYTE


def index(
    index: Annotated[Path, argument(metavar="INDEX", help="The index: feats.npy.")],
    kind: Annotated[
        ApproximateKind,
        option(
            "--type",
            help="How rows are kept short: rabitq a bit a column, sq8 a byte; `auto`: the first if "
            "it reaches the recall.",
        ),
    ] = ApproximateConfig.kind,
    recall: Annotated[
        float, option(help="Of the ten nearest rows so many must be found, in the mean.")
    ] = ApproximateConfig.recall,
    max_memory: Annotated[
        int, option(metavar="MB", help="What short rows may take while it is made.")
    ] = ApproximateConfig.max_memory // MEBIBYTE,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make an approximate index beside an exact one: feats.faiss, which search then uses by itself.

    It proposes rows; their similarities are computed exactly. How many of the ten nearest it finds
    is measured on rows of the index. Once rows are added or changed search says so and looks at
    every row, until this command is given again. Extra `ann`.

    Example: cgd index feats.npy
    """
    from cgdcli.indexing import index_approximately
    from cgdcli.views.tables import approximate_lines

    out = Output(quiet=quiet, verbose=verbose)
    config = ApproximateConfig(kind, recall, max_memory=max_memory * MEBIBYTE)
    with out.progress("indexing") as on_rows:
        report = index_approximately(index, config, force=force, on_rows=on_rows)
    if as_json:
        out.json(report.to_dict())
    else:
        out.lines(f"{line}\n" for line in approximate_lines(report))
