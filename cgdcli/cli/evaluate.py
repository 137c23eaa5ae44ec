"""`cgd evaluate`: Recall@K and mAP@R of a model on folders, or of an index."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgdcli.cli.asking import RerankTopOption, rerank_config
from cgdcli.cli.evaluate_checks import check_options, check_rerank, ranks_of
from cgdcli.cli.options import (
    DATA_HELP,
    EXIT_SKIPPED,
    PLAIN_SCALES,
    BatchSizeOption,
    CropBoxOption,
    DatasetOption,
    DeviceOption,
    DimOption,
    ExactDecodeOption,
    FlipOption,
    JsonOption,
    ModelOption,
    QuietOption,
    RowTypeOption,
    ScalesOption,
    VerboseOption,
    WhitenOption,
    WorkersOption,
    argument,
    option,
    vectors_of,
)
from cgdcli.cli.output import Output
from cgdcli.config import (
    RECALL_RANKS,
    Dataset,
    EmbedConfig,
    Rerank,
    RerankConfig,
    VectorConfig,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cgdcli.reports import EvaluationReport, VectorsReport
    from cgdcli.reports.base import Report


def evaluate(
    context: typer.Context,
    data: Annotated[Path | None, argument(metavar="DATA", help=DATA_HELP)] = None,
    model: ModelOption = None,
    index: Annotated[Path | None, option(help="An index whose rows have labels.")] = None,
    query: Annotated[Path | None, option(help="Class folders to ask with.")] = None,
    gallery: Annotated[Path | None, option(help="Class folders to search in.")] = None,
    dataset: DatasetOption = Dataset.auto,
    crop_box: CropBoxOption = False,
    ranks: Annotated[str, option(help="The Ks of Recall@K, separated by commas.")] = ",".join(
        map(str, RECALL_RANKS)
    ),
    batch_size: BatchSizeOption = EmbedConfig.batch_size,
    workers: WorkersOption = EmbedConfig.workers,
    device: DeviceOption = EmbedConfig.device,
    exact_decode: ExactDecodeOption = EmbedConfig.exact_decode,
    flip: FlipOption = VectorConfig.flip,
    scales: ScalesOption = PLAIN_SCALES,
    whiten: WhitenOption = VectorConfig.whiten,
    dim: DimOption = VectorConfig.dim,
    dtype: RowTypeOption = VectorConfig.dtype,
    steps: Annotated[
        bool,
        option("--steps", help="Of an index: embed its pictures again, step by recorded step."),
    ] = False,
    table: Annotated[
        Path | None,
        option(
            metavar="FILE",
            help="Of an index: a table (.csv, .jsonl, .parquet) with `path` and more about its "
            "pictures, such as is_query and is_gallery.",
        ),
    ] = None,
    ignore_same: Annotated[
        str | None,
        option(
            metavar="COLUMN",
            help="Ignore what has the query's label AND its value in this column of the table, "
            "such as its camera or scene.",
        ),
    ] = None,
    per_class: Annotated[
        bool, option("--per-class", help="The figures of each class too, worst first.")
    ] = False,
    confused: Annotated[
        int, option(min=0, metavar="N", help="So many of the most confused pairs of classes too.")
    ] = 0,
    against: Annotated[
        Path | None,
        option(metavar="OTHER", help="A second index of the same pictures: which is better?"),
    ] = None,
    calibrate: Annotated[
        bool,
        option(
            "--calibrate",
            help="Of an index: what a similarity means, counted over pairs of its labelled rows; "
            "kept beside it as feats.calibration.json.",
        ),
    ] = False,
    rerank: Annotated[
        Rerank,
        option(help="Of an index: whether ordering the first hits anew helps, hit by hit."),
    ] = RerankConfig.method,
    rerank_top: RerankTopOption = RerankConfig.top,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Measure Recall@K and mAP@R: all against all without self, or query against gallery.

    A hit is a row with the query's label. mAP@R is the mean over queries of 1/R sum P(i) rel(i),
    i up to R, the number of other rows with the query's label. In brackets the 95 % interval, a
    bootstrap over classes.

    With --against, what OTHER is better or worse by on the pictures that both indexes have, query
    by query; indexes of other pictures are refused (exit code 4).

    With --rerank, what ordering the first hits of an index anew gives, query by query.

    With --calibrate, the similarity from which on 50, 75, 90, 95 and 99 % of all pairs of rows
    share a class: it depends on how many classes the index has.

    With --flip, --scales, --whiten, --dim or --dtype: what each of them gives, on top of the ones
    before it; a projection is learned on what is searched, without labels. Of an index --steps.

    Example: cgd evaluate --index feats.npy --per-class --confused 10
    """
    out = Output(quiet=quiet, verbose=verbose)
    vectors = vectors_of(flip, scales, whiten, dim, dtype)
    check_options(context, index, vectors, steps=steps, against=against, calibrate=calibrate)
    anew = rerank_config(context, rerank, rerank_top)
    if anew:
        check_rerank(context, index)
    if calibrate:
        assert index is not None
        _calibrate(out, index, as_json=as_json)
        return 0
    if against is not None:
        _compare(out, index, against, ranks_of(ranks), table, ignore_same, as_json=as_json)
        return 0
    if anew:
        _rerank(out, index, anew, ranks_of(ranks), table, ignore_same, as_json=as_json)
        return 0
    stepwise = steps or bool(str(vectors))
    more = {} if stepwise else {"table": table, "ignore_same": ignore_same}
    with out.progress("embedding") as on_progress:
        report = _measure(vectors, steps, per_class, confused)(
            data,
            model=model,
            index=index,
            query=query,
            gallery=gallery,
            dataset=dataset,
            crop_box=crop_box,
            ranks=ranks_of(ranks),
            config=EmbedConfig(
                batch_size=batch_size, workers=workers, device=device, exact_decode=exact_decode
            ),
            on_progress=on_progress,
            **more,
        )
    for skipped in report.skipped:
        out.warn(f"skipped {skipped.path}: {skipped.reason}")
    if as_json:
        out.json(report.to_dict())
    else:
        _show(out, report)
    return EXIT_SKIPPED if report.skipped else 0


def _measure(
    vectors: VectorConfig, steps: bool, per_class: bool, confused: int
) -> "Callable[..., EvaluationReport] | Callable[..., VectorsReport]":
    """At once, or step by step."""
    if steps or str(vectors):
        from cgdcli.judging.steps import evaluate_vectors

        return evaluate_vectors if steps else partial(evaluate_vectors, vectors=vectors)
    from cgdcli.evaluation import Details
    from cgdcli.evaluation import evaluate as measure

    return partial(measure, details=Details(per_class, confused))


def _show(out: Output, report: "EvaluationReport | VectorsReport") -> None:
    from cgdcli.reports import EvaluationReport
    from cgdcli.views.evaluation import class_table, confused_table, evaluation_table
    from cgdcli.views.tables import vectors_table

    if not isinstance(report, EvaluationReport):
        out.show(vectors_table(report))
        return
    out.show(evaluation_table(report))
    if report.classes:
        out.show(class_table(report.classes, every=out.verbose))
    if report.confused:
        out.show(confused_table(report.confused))


def _compare(
    out: Output,
    index: Path | None,
    against: Path,
    ranks: list[int],
    table: Path | None,
    ignore_same: str | None,
    *,
    as_json: bool,
) -> None:
    from cgdcli.judging.pairing import compare_index_quality
    from cgdcli.views.run_comparison import comparison_table, index_comparison_lines

    assert index is not None
    report = compare_index_quality(index, against, ranks, table=table, ignore_same=ignore_same)
    lines, shown = index_comparison_lines(report), comparison_table(report)
    _show_lines(out, report, lines, shown, as_json=as_json)


def _rerank(
    out: Output,
    index: Path | None,
    config: RerankConfig,
    ranks: list[int],
    table: Path | None,
    ignore_same: str | None,
    *,
    as_json: bool,
) -> None:
    from cgdcli.judging.reranking import judge_reranking
    from cgdcli.views.run_comparison import comparison_table, rerank_lines

    assert index is not None
    report = judge_reranking(index, config, ranks, table=table, ignore_same=ignore_same)
    lines, shown = rerank_lines(report), comparison_table(report)
    _show_lines(out, report, lines, shown, as_json=as_json)


def _calibrate(out: Output, index: Path, *, as_json: bool) -> None:
    from cgdcli.judging.calibrating import calibrate_index
    from cgdcli.views.evaluation import calibration_lines, calibration_table

    with out.progress("comparing") as on_progress:
        report = calibrate_index(index, on_progress=on_progress)
    lines, shown = calibration_lines(report), calibration_table(report)
    _show_lines(out, report, lines, shown, as_json=as_json)
    if not as_json:
        out.say(f"kept: {report.file}")


def _show_lines(
    out: Output,
    report: "Report",
    lines: Iterable[str],
    table: "RenderableType",
    *,
    as_json: bool,
) -> None:
    """What it comes to, in words, and its table; or all of it as JSON."""
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(f"{line}\n" for line in lines)
    out.show(table)
