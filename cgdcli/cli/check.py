"""`cgd check`: whether a dataset is fit to train and to be judged on."""

import shlex
from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    DATA_HELP,
    CropBoxOption,
    DatasetOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import Dataset, TrainConfig
from cgdcli.errors import DatasetError


def check(
    data: Annotated[Path, argument(metavar="DATA", help=DATA_HELP)],
    dataset: DatasetOption = Dataset.auto,
    crop_box: CropBoxOption = False,
    quick: Annotated[
        bool, option("--quick", help="Open no picture, as `train` does before its first step.")
    ] = False,
    workers: WorkersOption = TrainConfig.workers,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Check labelled pictures before a night is spent on them.

    Counts of each split, broken files, classes with one picture or in several splits, the same or
    nearly the same picture in two splits, queries whose label the gallery lacks. Exit code 1 if
    something would spoil training or a figure; nothing is changed.
    """
    from cgdcli.datasets.checking import check_data
    from cgdcli.views.checking import check_view, verdict

    out = Output(quiet=quiet, verbose=verbose)
    with out.progress("checking") as on_progress:
        report = check_data(
            data,
            dataset=dataset,
            crop_box=crop_box,
            quick=quick,
            workers=workers,
            on_progress=on_progress,
        )
    if as_json:
        out.json(report.to_dict())
        out.say(verdict(report))
    else:
        out.show(check_view(report, every=verbose))
    if report.sound:
        return 0
    kinds = ", ".join(f.kind for f in report.findings if f.severity == "error")
    raise DatasetError(
        f"`{data}` is not sound: {kinds}",
        hint=f"correct what is said above; all examples: cgd check {shlex.quote(str(data))} -v",
    )
