"""How answers are shown: the options of it, what they refuse, and the one place that obeys them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cgdcli.cli.options import EXIT_SKIPPED, option, was_given
from cgdcli.cli.output import Output
from cgdcli.config import Thumbnails
from cgdcli.errors import ConfigError
from cgdcli.words import counted

if TYPE_CHECKING:
    import typer

    from cgdcli.reports import QueryHits, SkippedImage

JsonLinesOption = Annotated[
    bool, option("--jsonl", help="Print one JSON object a query, a line, as they are found.")
]
CsvOption = Annotated[bool, option("--csv", help="Print the hits of all queries as one CSV table.")]
PathsOption = Annotated[
    bool, option("--paths-only", help="Print the hits' paths alone, one a line.")
]
NullOption = Annotated[
    bool,
    option("--null", "-0", help="With --paths-only: end each path with NUL, for `xargs -0`."),
]
SheetOption = Annotated[
    Path | None, option("--sheet", help="Write a contact sheet (PNG): query and hits.")
]
HtmlOption = Annotated[
    Path | None,
    option("--html", help="Write a page to look through: pictures, bars, keys; works offline."),
]
OpenOption = Annotated[bool, option("--open", help="Open the page of --html in the browser.")]
CopyOption = Annotated[
    Path | None,
    option(
        "--copy-to",
        metavar="DIR",
        help="Copy the hits' pictures there, as 01_0.8312_name.jpg; a folder for each of several "
        "queries.",
    ),
]
ThumbnailsOption = Annotated[
    Thumbnails,
    option(
        help="Pictures in the table, in a terminal only (extra `pictures`); `auto`: as the "
        "terminal answers, else coloured half blocks.",
    ),
]
MISSING_NAMED = 20
_WHAT = {"--sheet": "contact sheet", "--html": "page"}


class Form(StrEnum):
    """What goes to stdout."""

    table = "the table"
    json = "--json"
    jsonl = "--jsonl"
    csv = "--csv"
    paths = "--paths-only"


def form_of(*, as_json: bool, as_jsonl: bool, as_csv: bool, paths_only: bool) -> Form:
    """The one form that was asked for.

    Raises:
        ConfigError: there are two.
    """
    wanted = {
        Form.json: as_json,
        Form.jsonl: as_jsonl,
        Form.csv: as_csv,
        Form.paths: paths_only,
    }
    forms = [form for form, on in wanted.items() if on]
    if len(forms) > 1:
        raise ConfigError(
            f"{' and '.join(forms)} exclude each other: stdout has one form", hint="choose one"
        )
    return forms[0] if forms else Form.table


@dataclass(frozen=True)
class Showing:
    """What is printed, and what is written beside it.

    Attributes:
        form: of stdout; files go together with any.
        null: paths end with NUL instead of a line's end.
        sheet, html, copy_to: where to; None for not at all.
        open_page: open the page in the browser.
        force: replace files that exist.
        thumbnails: pictures in the table.
    """

    form: Form = Form.table
    null: bool = False
    sheet: Path | None = None
    html: Path | None = None
    open_page: bool = False
    copy_to: Path | None = None
    force: bool = False
    thumbnails: Thumbnails = Thumbnails.auto

    @property
    def comes_bit_by_bit(self) -> bool:
        """Whether an answer is printed before the last is there."""
        return self.form is Form.jsonl

    @property
    def writes(self) -> bool:
        """Whether files are made of the answers."""
        return not (self.sheet is None and self.html is None and self.copy_to is None)

    def check(self, context: "typer.Context") -> None:
        """Refuse before any work what would fail or do nothing after it.

        Raises:
            ConfigError: an option does nothing beside the others, or a name is of another kind.
            OutputError: something could not be written.
        """
        from cgdcli.files import check_output

        self._check_given(context)
        if self.null and self.form is not Form.paths:
            raise ConfigError(
                "--null (-0) is about the paths of --paths-only and does nothing without",
                hint="cgd search ... --paths-only -0 | xargs -0 ...",
            )
        if self.open_page and self.html is None:
            raise ConfigError(
                "--open opens the page of --html, and none is written",
                hint="cgd search ... --html hits.html --open",
            )
        files = (("--sheet", self.sheet, ".png"), ("--html", self.html, ".html"))
        for name, file, suffix in files:
            if file is not None:
                check_output(file, force=self.force, what=_WHAT[name])
                if file.suffix.lower() != suffix:
                    raise ConfigError(
                        f"{name} {file} should end in {suffix}", hint=f"{name} {file}{suffix}"
                    )
        if self.copy_to is not None:
            from cgdcli.views.copies import check_folder

            check_folder(self.copy_to, force=self.force)

    def _check_given(self, context: "typer.Context") -> None:
        """Options that were typed, and do nothing."""
        if was_given(context, "force") and not self.writes:
            raise ConfigError(
                "--force is for --sheet, --html and --copy-to: no file is written",
                hint="add one of them, or leave it out",
            )
        drawn = was_given(context, "thumbnails") and self.thumbnails is not Thumbnails.off
        if drawn and self.form is not Form.table:
            raise ConfigError(
                f"--thumbnails {self.thumbnails} is for the table, and {self.form} prints none",
                hint="leave one of them out",
            )

    def check_size(self, queries: int, hits: int) -> None:
        """Refuse before any search what is too large to be drawn after it.

        Raises:
            ConfigError: the contact sheet would have too many tiles.
        """
        if self.sheet is not None:
            from cgdcli.views.sheet import check_tiles

            check_tiles([hits] * queries)


def show_answers(
    out: Output,
    answers: "Iterator[QueryHits | SkippedImage]",
    showing: Showing,
    *,
    index: Path | str,
) -> int:
    """Write the files, say so, print the answers; the exit code.

    Args:
        answers: JSON lines are printed as they come; for all else they are waited for.
        index: what was searched, to be named.
    """
    results, skipped = _taken(out, answers, showing)
    missing = False
    if showing.sheet is not None:
        from cgdcli.views.sheet import write_sheet

        write_sheet(results, showing.sheet)
        out.say(f"contact sheet: {showing.sheet}")
    if showing.html is not None:
        _write_page(out, results, showing.html, index, open_it=showing.open_page)
    if showing.copy_to is not None:
        several = len(results) + skipped > 1
        missing = _copy(out, results, showing.copy_to, several=several, force=showing.force)
    _print(out, results, showing)
    return EXIT_SKIPPED if skipped or missing else 0


def _taken(
    out: Output, answers: "Iterator[QueryHits | SkippedImage]", showing: Showing
) -> "tuple[list[QueryHits], int]":
    """The answers that are wanted once all are there, and how many queries could not be read."""
    from cgdcli.reports import QueryHits
    from cgdcli.views.answers import json_lines

    results, skipped = [], 0
    for answer in answers:
        if not isinstance(answer, QueryHits):
            out.warn(f"skipped the query: {answer.reason}")
            skipped += 1
            continue
        if showing.comes_bit_by_bit:
            out.lines(json_lines([answer]))
        if not showing.comes_bit_by_bit or showing.writes:
            results.append(answer)
    return results, skipped


def _write_page(
    out: Output, results: "Sequence[QueryHits]", target: Path, index: Path | str, *, open_it: bool
) -> None:
    from cgdcli.cli.opening import open_in_browser
    from cgdcli.files import write_text
    from cgdcli.remote import shown
    from cgdcli.views.formatting import bytes_text
    from cgdcli.views.hits_page import hits_page

    with out.progress("page") as on_progress:
        text = hits_page(results, target.parent, index=shown(index), on_progress=on_progress)
    write_text(target, text)
    out.say(f"page: {target} ({bytes_text(target.stat().st_size)})")
    why_not = open_in_browser(target) if open_it else None
    if why_not is not None:
        out.warn(f"the page is not opened: {why_not}; open {target} yourself")


def _copy(
    out: Output, results: "Sequence[QueryHits]", folder: Path, *, several: bool, force: bool
) -> bool:
    """Whether pictures were missing."""
    from cgdcli.views.copies import copy_hits

    done = copy_hits(results, folder, several=several, force=force)
    for skipped in done.missing[:MISSING_NAMED]:
        out.warn(skipped.reason)
    if len(done.missing) > MISSING_NAMED:
        more = len(done.missing) - MISSING_NAMED
        out.warn(f"and {counted(more, 'more picture')} that cannot be copied")
    out.say(f"copied to {folder}: {counted(done.copied, 'picture')}")
    return bool(done.missing)


def _print(out: Output, results: "Sequence[QueryHits]", showing: Showing) -> None:
    from cgdcli.views import answers

    match showing.form:
        case Form.json:
            out.json([answers.answer_dict(result) for result in results])
        case Form.jsonl:
            pass  # they were printed as they came
        case Form.csv:
            out.lines(answers.csv_lines(results))
        case Form.paths:
            out.lines(answers.path_lines(results, end="\0" if showing.null else "\n"))
        case Form.table:
            from cgdcli.cli.drawing import drawn
            from cgdcli.views.tables import hits_table

            pictures = drawn(out, results, showing.thumbnails)
            for result in results:
                out.show(hits_table(result, pictures))
