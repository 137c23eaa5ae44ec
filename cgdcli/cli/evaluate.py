"""`cgd evaluate`: Recall@K and mAP@R of a model on folders, or of an index."""

from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.options import (
    DATA_HELP,
    EXIT_SKIPPED,
    BatchSizeOption,
    CropBoxOption,
    DatasetOption,
    DeviceOption,
    ExactDecodeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import RECALL_RANKS, Dataset, EmbedConfig
from cgdcli.errors import ConfigError


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
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Measure Recall@K and mAP@R: all against all without self, or query against gallery.

    A hit is a row with the query's label. mAP@R is the mean over queries of 1/R sum P(i) rel(i),
    i up to R, the number of other rows with the query's label.
    """
    from cgdcli.evaluation import evaluate as measure
    from cgdcli.views.tables import recall_table

    out = Output(quiet=quiet, verbose=verbose)
    useless = [
        n for n in ("batch_size", "workers", "device", "exact_decode") if was_given(context, n)
    ]
    if index is not None and useless:
        raise ConfigError(
            f"--{useless[0].replace('_', '-')} does nothing beside --index: no picture is embedded",
            hint="leave it out",
        )
    with out.progress("embedding") as on_progress:
        report = measure(
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
        out.show(recall_table(report))
    return EXIT_SKIPPED if report.skipped else 0


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
