"""`cgd search`: the pictures of an index that look like yours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cgdcli.cli.options import (
    EXIT_SKIPPED,
    DeviceOption,
    ForceOption,
    IndexModelOption,
    JsonOption,
    QuietOption,
    RootOption,
    VerboseOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import Device, SearchConfig
from cgdcli.errors import ConfigError

if TYPE_CHECKING:
    from cgdcli.reports import QueryHits


def search(
    queries: Annotated[list[str], argument(metavar="QUERY", help="Pictures, or row:N.")],
    index: Annotated[
        Path, option("--index", help="The index: feats.npy, be it s3://bucket/feats.npy.")
    ],
    top_k: Annotated[int, option("--top-k", "-k", min=1, help="Hits a query.")] = 10,
    model: IndexModelOption = None,
    exclude_self: Annotated[
        bool, option("--exclude-self", help="Leave out the query's own picture.")
    ] = False,
    explain: Annotated[
        bool, option("--explain", help="Split each similarity into its branches' cosines.")
    ] = False,
    sheet: Annotated[
        Path | None, option("--sheet", help="Write a contact sheet (PNG): query and hits.")
    ] = None,
    paths_only: Annotated[
        bool, option("--paths-only", help="Print the hits' paths alone, one a line.")
    ] = False,
    root: RootOption = None,
    device: DeviceOption = Device.auto,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Find the pictures of an index that look most like each query, best first.

    Similarity is the cosine of two embeddings: 1 for the same picture, larger is nearer.

    Example: cgd search query.jpg --index feats.npy -k 20 --sheet hits.png
    """
    from cgdcli.files import check_output
    from cgdcli.retrieval import search_images
    from cgdcli.views.tables import hits_table

    out = Output(quiet=quiet, verbose=verbose)
    if paths_only and as_json:
        raise ConfigError("--paths-only and --json exclude each other", hint="choose one")
    if sheet is not None:
        check_output(sheet, force=force, what="contact sheet")
        if sheet.suffix.lower() != ".png":
            raise ConfigError(f"--sheet {sheet} should end in .png", hint=f"--sheet {sheet}.png")
    report = search_images(
        queries,
        index,
        SearchConfig(k=top_k, exclude_self=exclude_self, explain=explain),
        model=model,
        root=root,
        device=device,
    )
    if sheet is not None:
        from cgdcli.views.sheet import write_sheet

        write_sheet(report.results, sheet)
        out.say(f"contact sheet: {sheet}")
    for skipped in report.skipped:
        out.warn(f"skipped the query: {skipped.reason}")
    if as_json:
        out.json([_as_json(result) for result in report.results])
    elif paths_only:
        out.lines(f"{hit.path}\n" for result in report.results for hit in result.hits)
    else:
        for result in report.results:
            out.show(hits_table(result))
    return EXIT_SKIPPED if report.skipped else 0


def _as_json(result: "QueryHits") -> dict[str, Any]:
    """`branches` stands only where it was asked for."""
    hits = [
        {key: value for key, value in hit.to_dict().items() if key != "branches" or value}
        for hit in result.hits
    ]
    return {"query": result.query, "label": result.label, "hits": hits}
