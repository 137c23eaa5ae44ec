"""`cgd inspect`: what is this file, and how do two of them differ?"""

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cgdcli.cli.options import (
    JsonOption,
    QuietOption,
    RootOption,
    VerboseOption,
    argument,
    option,
)
from cgdcli.cli.output import Output
from cgdcli.errors import CheckpointError, ConfigError, IndexFileError
from cgdcli.words import counted

if TYPE_CHECKING:
    from cgdcli.reports.inspection import InspectReport


def inspect(
    file: Annotated[
        Path, argument(metavar="FILE", help="A checkpoint, a run, an index or foreign weights.")
    ],
    other: Annotated[
        Path | None,
        argument(metavar="OTHER", help="A second one: say how the two differ.", show_default=False),
    ] = None,
    keys: Annotated[
        bool,
        option("--keys", help="List every tensor; of foreign weights, what becomes of it here."),
    ] = False,
    rows: Annotated[
        bool, option("--rows", help="Print the index's table, one JSON object a line.")
    ] = False,
    as_csv: Annotated[bool, option("--csv", help="With --rows or --keys: as CSV.")] = False,
    skipped: Annotated[
        bool, option("--skipped", help="Print the pictures the index skipped, and why.")
    ] = False,
    verify: Annotated[
        bool,
        option("--verify", help="Read the index's pictures again, not only their size and time."),
    ] = False,
    root: RootOption = None,
    fail_on_anomaly: Annotated[
        bool, option("--fail-on-anomaly", help="Exit with 1 if there is any anomaly.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say what a file is and what is odd about it, or how two files differ.

    Of weights: network, parts, fingerprint, origin; NaN, Inf, a profiler's entries, dead, constant
    or doubled layers. Of an index: model, rows, labels; rows that are not unit, pictures gone or
    changed. That reads the file once, and asks the size and time of every picture.

    Anomalies are findings: the exit code is 0. A file that other commands refuse as damaged is
    shown as far as it can be read, then exits with 1 or 4.

    Example: cgd inspect old.pth new.safetensors
    """
    out = Output(quiet=quiet, verbose=verbose)
    _check_options(
        other, keys, rows, as_csv, skipped, verify, root, fail_on_anomaly, as_json=as_json
    )
    if other is not None:
        _compare(out, file, other, keys=keys, as_json=as_json)
    elif rows:
        from cgdcli.inspection import index_rows

        _lines(out, index_rows(file, root=root), as_csv=as_csv)
    else:
        _look(
            out,
            file,
            keys=keys,
            as_csv=as_csv,
            skipped=skipped,
            verify=verify,
            root=root,
            fail_on_anomaly=fail_on_anomaly,
            as_json=as_json,
        )


def _check_options(
    other: Path | None,
    keys: bool,
    rows: bool,
    as_csv: bool,
    skipped: bool,
    verify: bool,
    root: Path | None,
    fail_on_anomaly: bool,
    *,
    as_json: bool,
) -> None:
    """Refuse options that would do nothing."""
    lists = [
        name for name, on in (("--rows", rows), ("--keys", keys), ("--skipped", skipped)) if on
    ]
    if len(lists) > 1:
        raise ConfigError(f"{' and '.join(lists)} each print a list", hint="take one of them")
    if as_csv and not (rows or keys):
        raise ConfigError(
            "--csv is a form of --rows and --keys and does nothing alone", hint="--rows --csv"
        )
    if as_csv and as_json:
        raise ConfigError("--csv and --json are two forms of one list", hint="take one of them")
    idle = [n for n, on in (("--fail-on-anomaly", fail_on_anomaly), ("--verify", verify)) if on]
    if rows and idle:
        raise ConfigError(
            f"--rows prints a table and looks for nothing odd: {' and '.join(idle)} has no use",
            hint="leave out one of them",
        )
    alone = (
        ("--rows", rows),
        ("--csv", as_csv),
        ("--skipped", skipped),
        ("--verify", verify),
        ("--root", root),
        ("--fail-on-anomaly", fail_on_anomaly),
    )
    unused = [name for name, on in alone if on]
    if other is not None and unused:
        raise ConfigError(
            f"{', '.join(unused)} is about one file, and two are named",
            hint="inspect them one after the other",
        )


def _look(
    out: Output,
    file: Path,
    *,
    keys: bool,
    as_csv: bool,
    skipped: bool,
    verify: bool,
    root: Path | None,
    fail_on_anomaly: bool,
    as_json: bool,
) -> None:
    from cgdcli.inspection import inspect_file, key_rows
    from cgdcli.views.inspection import inspect_table, keys_table

    with out.progress("reading pictures") if verify else nullcontext() as on_progress:
        report = inspect_file(file, keys=keys, root=root, verify=verify, on_progress=on_progress)
    if skipped:
        _show_skipped(out, file, report, as_json=as_json)
    elif as_json:
        out.json(report.to_dict())
    elif keys and (as_csv or not sys.stdout.isatty()):
        _lines(out, key_rows(report.keys), as_csv=as_csv, as_tsv=not as_csv)
    elif keys:
        out.show(keys_table(report.keys))
    else:
        out.show(inspect_table(report, whole=out.verbose))
    if report.refusal is not None:
        raise report.refusal.error()
    if fail_on_anomaly and report.anomalies:
        raise CheckpointError(
            f"`{file}` has {counted(len(report.anomalies), 'anomaly', 'anomalies')}; none is "
            "wanted (--fail-on-anomaly)",
            hint=f"see them: cgd inspect '{file}'",
        )


def _show_skipped(out: Output, file: Path, report: "InspectReport", *, as_json: bool) -> None:
    if "skipped" not in report.facts:
        raise IndexFileError(
            f"`{file}` is a {report.kind}; only an index with a .sqlite knows of skipped ones",
            hint="name an index: cgd inspect feats.npy --skipped",
        )
    entries = report.facts["skipped"]
    if as_json:
        out.json(entries)
    else:
        out.lines(f"{entry['path']}\t{entry['reason']}\n" for entry in entries)


def _lines(
    out: Output, rows: Iterable[dict[str, Any]], *, as_csv: bool, as_tsv: bool = False
) -> None:
    from cgdcli.inspection import rows_as_csv, rows_as_json_lines, rows_as_tsv

    form = rows_as_csv if as_csv else rows_as_tsv if as_tsv else rows_as_json_lines
    out.lines(form(rows))


def _compare(out: Output, a: Path, b: Path, *, keys: bool, as_json: bool) -> None:
    from cgdcli.inspection import compare_files
    from cgdcli.views.comparison import comparison_view

    report = compare_files(a, b, keys=keys)
    if as_json:
        out.json(report.to_dict())
    else:
        out.show(comparison_view(report, whole=out.verbose))
    if report.refusal is not None:
        raise report.refusal.error()
