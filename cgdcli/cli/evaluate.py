"""`cgd evaluate`: Recall@K and mAP@R of a model on folders, or of an index."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import RECALL_RANKS, Dataset, EmbedConfig, VectorConfig
from cgdcli.errors import ConfigError

if TYPE_CHECKING:
    from cgdcli.reports import RecallReport, VectorsReport


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
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Measure Recall@K and mAP@R: all against all without self, or query against gallery.

    A hit is a row with the query's label. mAP@R is the mean over queries of 1/R sum P(i) rel(i),
    i up to R, the number of other rows with the query's label.

    With --flip, --scales, --whiten, --dim or --dtype: what each of them gives, on top of the ones
    before it; a projection is learned on what is searched, without labels. Of an index --steps.
    """
    from cgdcli.reports import RecallReport
    from cgdcli.views.tables import recall_table, vectors_table

    out = Output(quiet=quiet, verbose=verbose)
    vectors = vectors_of(flip, scales, whiten, dim, dtype)
    _check_index_options(context, index, vectors, steps)
    with out.progress("embedding") as on_progress:
        report = _measure(vectors, steps)(
            data,
            model=model,
            index=index,
            query=query,
            gallery=gallery,
            dataset=dataset,
            crop_box=crop_box,
            ranks=_ranks(ranks),
            config=EmbedConfig(
                batch_size=batch_size, workers=workers, device=device, exact_decode=exact_decode
            ),
            on_progress=on_progress,
        )
    for skipped in report.skipped:
        out.warn(f"skipped {skipped.path}: {skipped.reason}")
    if as_json:
        out.json(report.to_dict())
    else:
        out.show(
            recall_table(report) if isinstance(report, RecallReport) else vectors_table(report)
        )
    return EXIT_SKIPPED if report.skipped else 0


def _measure(
    vectors: VectorConfig, steps: bool
) -> "Callable[..., RecallReport] | Callable[..., VectorsReport]":
    """At once, or step by step."""
    if steps or str(vectors):
        from cgdcli.judging.steps import evaluate_vectors

        return evaluate_vectors if steps else partial(evaluate_vectors, vectors=vectors)
    from cgdcli.evaluation import evaluate as measure

    return measure


def _check_index_options(
    context: typer.Context, index: Path | None, vectors: VectorConfig, steps: bool
) -> None:
    """Refuse what would do nothing."""
    embedding = ("batch_size", "workers", "device", "exact_decode")
    useless = [name for name in embedding if was_given(context, name)]
    if steps:  # which embeds, as the index records
        useless = ["exact_decode"] if "exact_decode" in useless else []
    if index is not None and useless:
        why = "the index records it" if steps else "no picture is embedded"
        raise ConfigError(
            f"--{useless[0].replace('_', '-')} does nothing beside --index: {why}",
            hint="leave it out",
        )
    if index is not None and str(vectors):
        raise ConfigError(
            f"{vectors} beside --index: rows of an index are as they are, and it records how",
            hint="leave it out; add --steps to see what each recorded step gave",
        )
    if steps and index is None:
        raise ConfigError(
            "--steps shows what an index records; there is no --index",
            hint="name the index, or name the steps: cgd evaluate DATA --flip --whiten",
        )


def _ranks(text: str) -> list[int]:
    try:
        ranks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        ranks = [0]
    if ranks[0] < 1:
        raise ConfigError(
            f"--ranks {text!r} is not a list of whole numbers from 1", hint="try --ranks 1,2,4,8"
        )
    return ranks
