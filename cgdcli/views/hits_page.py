"""Queries and their hits as one self-contained page, to look through with mouse, touch or keys."""

import os
import re
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

from cgdcli.config import DESCRIPTOR_NAMES
from cgdcli.images.incoming import is_elsewhere
from cgdcli.remote import address_of, place_of
from cgdcli.reports import Hit, QueryHits
from cgdcli.streaming import OnProgress
from cgdcli.views.charts import page
from cgdcli.views.embedded import (
    LARGE_BYTES,
    SMALL_BYTES,
    EmbeddedPicture,
    embed_pictures,
)
from cgdcli.views.formatting import bytes_text, no_picture
from cgdcli.views.tiles import VERDICT_STYLE
from cgdcli.views.viewer import HITS_SCRIPT, HITS_STYLE, VIEWER
from cgdcli.words import counted

# rem of a hit without branches, and of each branch: what its height is taken for before it is seen.
_TALL, _TALL_BRANCH = 13.7, 1.15
# In file names: bytes that are no UTF-8.
_NO_TEXT = re.compile("[\ud800-\udfff]")


def hits_page(
    results: Sequence[QueryHits],
    folder: Path,
    *,
    index: str,
    small_bytes: int = SMALL_BYTES,
    large_bytes: int = LARGE_BYTES,
    on_progress: OnProgress | None = None,
) -> str:
    """HTML; asks for nothing from outside, and links each hit to its file.

    Every picture is in it once, small, as far as `small_bytes` go, and up to `large_bytes` of
    enlarged ones: those of the best ranks of all queries. What is gone is named in its place.

    Args:
        folder: where the page will be; links are relative to it.
        index: what was searched, in words.
        on_progress: called with pictures done, pictures in all, and those not found.
    """
    pictures = embed_pictures(
        _by_rank(results),
        small_bytes=small_bytes,
        large_bytes=large_bytes,
        on_progress=on_progress,
    )
    writer = _Writer(pictures, folder)
    sections = [
        _header(results, index, pictures, small_bytes, large_bytes),
        *([_navigation(results, writer)] if len(results) > 1 else []),
        *(_section(number, result, writer) for number, result in enumerate(results, start=1)),
        VIEWER,
        *(
            f'<script type="text/plain" id="l{picture.number}">{picture.large}</script>'
            for picture in pictures.values()
            if picture.large is not None
        ),
    ]
    title = results[0].name if len(results) == 1 else counted(len(results), "query", "queries")
    text = page(
        f"{title}: hits in {index}", sections, style=VERDICT_STYLE + HITS_STYLE, script=HITS_SCRIPT
    )
    return _NO_TEXT.sub("\ufffd", text)


class _Writer:
    """Pictures and links of one page; a picture is written out where it stands first."""

    def __init__(self, pictures: dict[str, EmbeddedPicture], folder: Path) -> None:
        self.pictures, self.folder = pictures, os.path.abspath(folder)
        self.written: set[int] = set()

    def image(self, path: str | None, alt: str, otherwise: str) -> str:
        """An `<img>`; or words, where there is none."""
        if path is None:
            return otherwise
        picture = self.pictures[path]
        if picture.small is None:
            return "not in this page" if picture.found else "picture not found"
        if picture.number in self.written:
            return f'<img data-of="{picture.number}" alt="{escape(alt)}">'
        self.written.add(picture.number)
        return (
            f'<img id="p{picture.number}" src="{picture.small}" alt="{escape(alt)}" '
            'decoding="async">'
        )

    def frame(
        self, path: str | None, *, title: str, does: str, otherwise: str = "no picture is known"
    ) -> str:
        """The picture as a button that enlarges it.

        Args:
            title: of the enlarged view.
            does: what a screen reader says of the button.
            otherwise: stands there where there is no picture at all.
        """
        picture = EmbeddedPicture() if path is None else self.pictures[path]
        note = ""
        if picture.found and picture.large is None and not picture.is_whole and path is not None:
            note = "No enlarged copy is in this page: open the file."
        name = "" if path is None else Path(path).name
        return (
            f'<button class="frame" type="button" aria-haspopup="dialog" '
            f'aria-label="{escape(does)}" data-picture="{picture.number}" '
            f'data-title="{escape(title)}" data-note="{note}">'
            f"{self.image(path, name, otherwise)}</button>"
        )

    def link(self, path: str, words: str | None = None) -> str:
        """The name, or `words`, as a link to the file where a browser could follow it."""
        shown = escape(Path(path).name).replace("_", "_<wbr>")  # where a long one may break
        name = f'<bdi title="{escape(path)}">{shown}</bdi>'
        target = self._target(path)
        return f'<a href="{escape(target)}">{words or name}</a>' if target else name

    def _target(self, path: str) -> str | None:
        if not self.pictures[path].found:
            return None
        if address_of(place_of(path)) is not None:
            return path if path.startswith(("http://", "https://")) else None
        try:
            relative = os.path.relpath(path, self.folder)
        except ValueError:  # Windows: another drive
            return Path(os.path.abspath(path)).as_uri()
        return quote(os.fsencode(relative.replace(os.sep, "/")))


def _by_rank(results: Sequence[QueryHits]) -> list[str]:
    """Every picture: the queries' own, then the first hit of each query, the second ..."""
    ranks = zip_longest(*(result.hits for result in results))
    hits = [hit.path for rank in ranks for hit in rank if hit is not None]
    return [result.query_path for result in results if result.query_path is not None] + hits


def _header(
    results: Sequence[QueryHits],
    index: str,
    pictures: dict[str, EmbeddedPicture],
    small_bytes: int,
    large_bytes: int,
) -> str:
    hits = sum(len(result.hits) for result in results)
    asked = (
        f"Hits for {results[0].name}"
        if len(results) == 1
        else f"Hits for {counted(len(results), 'query', 'queries')}"
    )
    lines = [
        f"{counted(hits, 'hit')} in {index}. The similarity is a cosine: 1 for the same picture. "
        "A bar begins at 0 and ends at 1."
    ]
    letters = next((list(h.branches) for r in results for h in r.hits if h.branches), [])
    if letters:
        named = ", ".join(f"{letter} {DESCRIPTOR_NAMES.get(letter, '')}" for letter in letters)
        lines.append(f"It is the mean of its branches' cosines: {named}.")
    lines += _left_out(pictures, small_bytes, large_bytes)
    words = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return (
        f"<header><div><h1>{escape(asked)}</h1>{words}</div>"
        '<button class="small" type="button" id="ask" aria-haspopup="dialog">Keys <kbd>?</kbd>'
        "</button></header>"
    )


def _left_out(
    pictures: dict[str, EmbeddedPicture], small_bytes: int, large_bytes: int
) -> list[str]:
    found = [picture for picture in pictures.values() if picture.found]
    named = sum(picture.small is None for picture in found)
    small = sum(picture.large is None and not picture.is_whole for picture in found) - named
    lines = []
    if small:
        lines.append(
            f"{counted(small, 'picture is', 'pictures are')} here in small only: enlarged copies "
            f"take {bytes_text(large_bytes)} at most. Their names lead to the files."
        )
    if named:
        lines.append(
            f"{counted(named, 'picture is', 'pictures are')} only named: small copies take "
            f"{bytes_text(small_bytes)} at most."
        )
    return lines


def _navigation(results: Sequence[QueryHits], writer: _Writer) -> str:
    """A link to each query. The pictures are written by their sections, which come later."""
    links = []
    for number, result in enumerate(results, start=1):
        picture = writer.pictures[result.query_path] if result.query_path is not None else None
        image = '<span class="none"></span>'
        if picture is not None and picture.small is not None:
            image = f'<img data-of="{picture.number}" alt="">'
        links.append(f'<li><a href="#q{number}">{image}<bdi>{escape(result.name)}</bdi></a></li>')
    return f'<nav aria-label="Queries"><ol>{"".join(links)}</ol></nav>'


def _section(number: int, result: QueryHits, writer: _Writer) -> str:
    name = result.name
    branches = len(result.hits[0].branches or ()) if result.hits else 0
    about = []
    path = result.query_path
    if path is not None:
        about.append(f"<p>{_query_link(result, path, writer)}</p>")
    if result.label is not None:
        about.append(f"<p>label <bdi>{escape(result.label)}</bdi></p>")
        known = [hit for hit in result.hits if hit.label is not None]
        right = sum(hit.label == result.label for hit in known)
        if known:
            about.append(f"<p>{right} of {counted(len(known), 'hit')} with this label</p>")
    frame = writer.frame(
        path,
        title=f"Query: {name}",
        does=f"Enlarge query: {name}",
        otherwise=no_picture(result.query),
    )
    hits = "\n".join(_hit(hit, result.label, writer) for hit in result.hits)
    tall = f"{_TALL + _TALL_BRANCH * branches:.1f}rem"
    grid = f'<ol class="hits" role="list" style="--tall: {tall}">{hits}</ol>'
    return (
        f'<section id="q{number}" aria-label="{escape(name)}">'
        f'<div class="query item">{frame}<div><h2><bdi>{escape(name)}</bdi></h2>'
        f'<div class="about">{"".join(about)}</div></div></div>\n'
        f"{grid if result.hits else '<p>No hits.</p>'}</section>"
    )


def _query_link(result: QueryHits, path: str, writer: _Writer) -> str:
    """Of a picture from elsewhere the copy goes with this process."""
    if result.query == path:
        return writer.link(path, "open the file") if writer.pictures[path].found else ""
    if not is_elsewhere(result.query):  # row:3
        return writer.link(path)
    if result.query.startswith(("http://", "https://")):
        return f'<a href="{escape(result.query)}">open the address</a>'
    return ""


def _hit(hit: Hit, label: str | None, writer: _Writer) -> str:
    kind, verdict = "", ""
    if hit.label is not None and label is not None:
        right = hit.label == label
        kind = "right" if right else "wrong"
        verdict = (
            f'<b aria-hidden="true">{"✓" if right else "✗"}</b>'
            f'<span class="unseen">{"right" if right else "wrong"}: </span> '
        )
    name = Path(hit.path).name
    words = (
        f'<p>{verdict}<bdi title="{escape(hit.label)}">{escape(hit.label) or "(empty)"}</bdi></p>'
        if (hit.label is not None)
        else ""
    )
    # Of hits ordered anew: what the order is by.
    score = "" if hit.score is None else f'<p class="soft">score {hit.score:z.4f}</p>'
    # A row of an array alone: no table says what it is.
    path = None if hit.path == f"row:{hit.row}" else hit.path
    frame = writer.frame(
        path, title=f"Hit {hit.rank}: {name}", does=f"Enlarge hit {hit.rank}: {name}"
    )
    return (
        f'<li class="hit item {kind}">{frame}<div class="about">'
        f'<div class="line"><span class="rank"><span class="unseen">rank </span>{hit.rank}</span>'
        f'<span><span class="unseen">similarity </span>{hit.similarity:z.4f}</span></div>'
        f"{score}{_length(hit.similarity)}{_branches(hit)}{words}<p>{writer.link(hit.path)}</p></div></li>"
    )


def _branches(hit: Hit) -> str:
    if not hit.branches:
        return ""
    rows = "".join(
        f"<dt>{escape(letter)}</dt><dd>{_length(value)}</dd><dd>{value:.2f}</dd>"
        for letter, value in hit.branches.items()
    )
    return f'<dl class="branches">{rows}</dl>'


def _length(value: float) -> str:
    """A bar from 0 to 1; the number stands beside it."""
    return f'<div class="length" style="--part: {100 * min(1.0, max(0.0, value)):.1f}%"></div>'
