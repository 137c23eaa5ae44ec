"""`cgd duplicates`: the pictures of an index that are the same, or nearly so."""

from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.options import (
    DATA_HELP,
    DatasetOption,
    ForceOption,
    JsonOption,
    QuietOption,
    RootOption,
    VerboseOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import Dataset, DuplicatesConfig
from cgdcli.errors import ConfigError


def duplicates(
    context: typer.Context,
    index: Annotated[Path, argument(metavar="INDEX", help="The index: feats.npy.")],
    threshold: Annotated[
        float, option(help="Similarity from which on two pictures are joined, at most 1.")
    ] = DuplicatesConfig.threshold,
    splits: Annotated[
        Path | None,
        option(
            metavar="DATA",
            help="What says which split a picture is of; else the folders train, val and test that "
            f"it lies in. {DATA_HELP}",
        ),
    ] = None,
    dataset: DatasetOption = Dataset.auto,
    html: Annotated[
        Path | None, option(metavar="FILE", help="Write a page: groups side by side.")
    ] = None,
    paths_only: Annotated[
        bool,
        option("--paths-only", help="Print the paths alone of what could go, one a line."),
    ] = False,
    null: Annotated[
        bool, option("--null", "-0", help="With --paths-only: end each by NUL, for xargs -0.")
    ] = False,
    root: RootOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Find the pictures of an index that are the same, or nearly so; nothing is changed.

    Groups are joined by pairs at or above --threshold, and files that are equal byte for byte;
    those across train, val and test come first. Each group says its smallest similarity, too: below
    the threshold, some are alike by others between them alone (a chain).

    Of each group one picture is kept, and --paths-only prints the others that are like it: kept is
    one of test, then of val, then the largest file, then the first row. The exit code is 0, whether
    there are any or not.

    Example: cgd duplicates feats.npy --html duplicates.html
    Example: cgd duplicates feats.npy --paths-only -0 | xargs -0 rm --
    """
    from cgdcli.auditing.duplicates import find_duplicates
    from cgdcli.files import check_output, write_text
    from cgdcli.views.duplicates import duplicates_lines, long_words, summary_lines

    out = Output(quiet=quiet, verbose=verbose)
    _check_options(context, splits, html, paths_only=paths_only, null=null, as_json=as_json)
    config = DuplicatesConfig(threshold)
    if html is not None:
        check_output(html, force=force, what="page")
    with out.progress("comparing") as on_progress:
        report = find_duplicates(
            index, config, splits=splits, dataset=dataset, root=root, on_progress=on_progress
        )
    if html is not None:
        from cgdcli.views.duplicates_page import duplicates_page

        write_text(html, duplicates_page(report))
        out.say(f"page: {html}")
    if as_json:
        out.json(report.to_dict())
    elif paths_only:
        end = "\0" if null else "\n"
        out.lines(f"{image.path}{end}" for group in report.groups for image in group.spare)
    else:
        out.lines(f"{line}\n" for line in duplicates_lines(report, every=verbose))
        return
    out.say(*summary_lines(report)[:3])
    chains = [group for group in report.groups if group.too_long]
    if chains:
        out.warn(long_words(chains))


def _check_options(
    context: typer.Context,
    splits: Path | None,
    html: Path | None,
    *,
    paths_only: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Refuse what would do nothing."""
    if paths_only and as_json:
        raise ConfigError("--paths-only and --json exclude each other", hint="choose one")
    for name, needed, other in (
        ("null", paths_only or not null, "--paths-only"),
        ("dataset", splits is not None, "--splits"),
        ("force", html is not None, "--html"),
    ):
        if not needed and was_given(context, name):
            raise ConfigError(f"--{name} is for {other}", hint=f"add {other}, or leave it out")
