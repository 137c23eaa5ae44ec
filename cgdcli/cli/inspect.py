"""`cgd inspect`: what is this file?"""

from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import JsonOption, QuietOption, VerboseOption, argument, option
from cgdcli.cli.output import Output
from cgdcli.errors import ConfigError, IndexFileError


def inspect(
    file: Annotated[
        Path, argument(metavar="FILE", help="A checkpoint, a run, an index or foreign weights.")
    ],
    rows: Annotated[
        bool, option("--rows", help="Print the index's table, one JSON object a line.")
    ] = False,
    as_csv: Annotated[bool, option("--csv", help="With --rows: as CSV.")] = False,
    skipped: Annotated[
        bool, option("--skipped", help="Print the pictures the index skipped, and why.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say what a file is: its kind, configuration, fingerprint, sizes, rows.

    Example: cgd inspect feats.npy --rows --csv
    """
    from cgdcli.inspection import index_rows, inspect_file, rows_as_csv, rows_as_json_lines
    from cgdcli.views.inspection import inspect_table

    out = Output(quiet=quiet, verbose=verbose)
    if as_csv and not rows:
        raise ConfigError("--csv is a form of --rows and does nothing alone", hint="--rows --csv")
    if rows:
        out.lines((rows_as_csv if as_csv else rows_as_json_lines)(index_rows(file)))
        return
    report = inspect_file(file)
    if skipped:
        if "skipped" not in report.facts:
            raise IndexFileError(
                f"`{file}` is a {report.kind}; only an index with a .sqlite knows of skipped ones",
                hint="name an index: cgd inspect feats.npy --skipped",
            )
        entries = report.facts["skipped"]
        out.lines(f"{entry['path']}\t{entry['reason']}\n" for entry in entries)
    elif as_json:
        out.json(report.to_dict())
    else:
        out.show(inspect_table(report, whole=verbose))
