"""`cgd search`: the pictures of an index that look like yours."""

from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.asking import (
    MAX_MEMORY,
    QUERY_HELP,
    BranchOption,
    ExactOption,
    MaxMemoryOption,
    MeanOption,
    MinSimilarityOption,
    MinusOption,
    PlusOption,
    RerankOption,
    RerankTopOption,
    ThreadsOption,
    WeightOption,
    WhereOption,
    check_asking,
    meaning_lines,
    rerank_config,
    scan_config,
)
from cgdcli.cli.options import (
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
from cgdcli.cli.showing import (
    CopyOption,
    CsvOption,
    HtmlOption,
    JsonLinesOption,
    NullOption,
    OpenOption,
    PathsOption,
    SheetOption,
    Showing,
    ThumbnailsOption,
    form_of,
    show_answers,
)
from cgdcli.config import Device, RerankConfig, ScanConfig, SearchConfig, branch_weights


def search(
    context: typer.Context,
    queries: Annotated[list[str], argument(metavar="QUERY", help=QUERY_HELP)],
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
    where: WhereOption = None,
    min_similarity: MinSimilarityOption = None,
    branch: BranchOption = None,
    plus: PlusOption = None,
    minus: MinusOption = None,
    weight: WeightOption = SearchConfig.weight,
    mean: MeanOption = SearchConfig.mean,
    rerank: RerankOption = RerankConfig.method,
    rerank_top: RerankTopOption = RerankConfig.top,
    exact: ExactOption = SearchConfig.exact,
    max_memory: MaxMemoryOption = MAX_MEMORY,
    threads: ThreadsOption = ScanConfig.threads,
    sheet: SheetOption = None,
    html: HtmlOption = None,
    open_page: OpenOption = False,
    copy_to: CopyOption = None,
    thumbnails: ThumbnailsOption = Showing.thumbnails,
    as_jsonl: JsonLinesOption = False,
    as_csv: CsvOption = False,
    paths_only: PathsOption = False,
    null: NullOption = False,
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
    from cgdcli.index.store import open_index
    from cgdcli.retrieval import TOGETHER, search_each

    out = Output(quiet=quiet, verbose=verbose)
    form = form_of(as_json=as_json, as_jsonl=as_jsonl, as_csv=as_csv, paths_only=paths_only)
    showing = Showing(
        form=form,
        null=null,
        sheet=sheet,
        html=html,
        open_page=open_page,
        copy_to=copy_to,
        force=force,
        thumbnails=thumbnails,
    )
    showing.check(context)
    added, taken = plus or [], minus or []
    config = SearchConfig(
        k=top_k,
        exclude_self=exclude_self,
        explain=explain,
        mean=mean,
        weight=weight,
        min_similarity=min_similarity,
        where=where,
        branches=branch_weights(branch) if branch is not None else (),
        exact=exact,
        rerank=rerank_config(context, rerank, rerank_top),
        scan=scan_config(max_memory, threads),
    )
    stored = open_index(index, root)
    if where is None and min_similarity is None:  # which may leave few of them
        showing.check_size(1 if mean else len(queries), min(top_k, len(stored)))
    answers = search_each(
        queries,
        stored,
        check_asking(context, config, len(queries), len(added) + len(taken)),
        plus=added,
        minus=taken,
        model=model,
        root=root,
        device=device,
        together=TOGETHER if showing.comes_bit_by_bit else None,
    )
    if min_similarity is not None:
        out.say(*meaning_lines(stored, min_similarity))
    return show_answers(out, answers, showing, index=index)
