"""`cgd compare`: which of two runs retrieves better, and how surely."""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.config import EmbedConfig


def compare(
    first: Annotated[
        Path, argument(metavar="A", help="A run: its folder, or its name below --runs.")
    ],
    second: Annotated[
        Path, argument(metavar="B", help="The run to compare with it, of the same pictures.")
    ],
    runs: Annotated[Path, option(help="Folder of the runs.")] = Path("runs"),
    batch_size: BatchSizeOption = EmbedConfig.batch_size,
    workers: WorkersOption = EmbedConfig.workers,
    device: DeviceOption = EmbedConfig.device,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare two runs on the same pictures: B less A, query by query, with a 95 % interval.

    Judged on the test pictures of their data, else on val or the classes held out, as each run
    kept it at its end; a run that did not is judged again. Also says what differs in the settings,
    and the time of training. Runs of other pictures are refused (exit code 4).

    Example: cgd compare runs/old runs/new
    """
    from cgdcli.judging.comparison import compare_runs
    from cgdcli.views.run_comparison import comparison_lines, comparison_table, settings_table

    out = Output(quiet=quiet, verbose=verbose)
    config = EmbedConfig(batch_size=batch_size, workers=workers, device=device)
    with out.progress("embedding") as on_progress:
        report = compare_runs(first, second, config, runs=runs, on_progress=on_progress)
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(line + "\n" for line in comparison_lines(report))
    out.show(comparison_table(report))
    out.show(settings_table(report))
