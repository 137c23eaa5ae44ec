"""`cgd index`: an approximate index beside an exact one; or the index, sent to Milvus."""

from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.options import (
    ForceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import ApproximateConfig, ApproximateKind, MilvusConfig
from cgdcli.config.search import MEBIBYTE
from cgdcli.errors import ConfigError


def index(
    context: typer.Context,
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
    to: Annotated[
        str | None,
        option(
            metavar="ADDRESS",
            help="Send it to Milvus instead (extra `milvus`): http://host:19530/collection, or "
            "gallery.db for the embedded form.",
        ),
    ] = None,
    timeout: Annotated[
        float, option(metavar="SECONDS", help="With --to: to wait for one answer of the server.")
    ] = MilvusConfig.request_seconds,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make an approximate index beside an exact one: feats.faiss, which search then uses by itself.

    It proposes rows; their similarities are computed exactly. How many of the ten nearest it finds
    is measured on rows of the index; more hits, means and branches weighed anew are looked for more
    widely, unmeasured, and with a filter every row that it keeps is looked at; many queries look at
    every row together where that is quicker. Once rows are added or changed search says so and
    looks at every row, until this command is given again. Extra `ann`.

    With --to every row goes to Milvus, for an index that outgrew one machine; --index takes the
    same address. Paths, labels and the model's fingerprint travel with the rows. After a run that
    was stopped the same line goes on; once `cgd embed` has made a newer index, it sends that, and
    readers have the old one until all is there. $MILVUS_TOKEN holds user:password or a key,
    $MILVUS_DB_NAME the database.

    Example: cgd index feats.npy; cgd index feats.npy --to http://host:19530/gallery
    """
    _check_together(context, to)
    out = Output(quiet=quiet, verbose=verbose)
    if to is None:
        config = ApproximateConfig(kind, recall, max_memory=max_memory * MEBIBYTE)
        _approximate(out, index, config, force=force, as_json=as_json)
    else:
        _send(out, index, to, timeout=timeout, force=force, as_json=as_json)


def _check_together(context: typer.Context, to: str | None) -> None:
    """Refuse what would do nothing."""
    useless = ("timeout",) if to is None else ("kind", "recall", "max_memory")
    for name in useless:
        if was_given(context, name):
            option_name = "--type" if name == "kind" else f"--{name.replace('_', '-')}"
            why = "without --to" if to is None else "with --to: Milvus makes an index of its own"
            raise ConfigError(f"{option_name} does nothing {why}", hint="leave it out")


def _approximate(
    out: Output, index: Path, config: ApproximateConfig, *, force: bool, as_json: bool
) -> None:
    from cgdcli.indexing import index_approximately
    from cgdcli.views.tables import approximate_lines

    with out.progress("indexing") as on_rows:
        report = index_approximately(index, config, force=force, on_rows=on_rows)
    if as_json:
        out.json(report.to_dict())
    else:
        out.lines(f"{line}\n" for line in approximate_lines(report))


def _send(out: Output, index: Path, to: str, *, timeout: float, force: bool, as_json: bool) -> None:
    from cgdcli.index.milvus.sending import send_to_milvus
    from cgdcli.views.sending import sent_lines

    with out.progress("sending") as on_progress:
        report = send_to_milvus(
            index,
            to,
            replace=force,
            config=MilvusConfig(request_seconds=timeout),
            on_progress=on_progress,
        )
    if as_json:
        out.json(report.to_dict())
    else:
        out.lines(f"{line}\n" for line in sent_lines(report))
