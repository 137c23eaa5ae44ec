"""Queries and their hits, and classes taken for each other, as tiles of a page."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from cgdcli.reports import ConfusedPair, Hit, JudgedQuery
from cgdcli.views.thumbnails import data_uri, thumbnails

_SIDE = 112
VERDICT_STYLE = """
:root { --right: #18794e; --wrong: #c62a2f; }
@media (prefers-color-scheme: dark) { :root { --right: #5fcf97; --wrong: #ff9592; } }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""
TILES_STYLE = (
    VERDICT_STYLE
    + """
ul.sheet { list-style: none; margin: .5rem 0; padding: 0; }
ul.sheet > li { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .6rem;
  padding: .6rem 0; border-top: 1px solid var(--line); max-width: 48rem; }
ul.sheet.pairs { display: grid; gap: 0 2rem; grid-template-columns:
  repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
ul.sheet.pairs > li { grid-template-columns: repeat(2, minmax(0, 1fr)); align-content: start; }
ul.sheet.pairs p { grid-column: 1 / -1; margin: 0; font-size: .9rem; }
.tile { min-width: 0; font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
.tile .frame { height: 7rem; display: flex; align-items: center; justify-content: center;
  background: var(--track); border: 3px solid var(--soft); border-radius: 4px; overflow: hidden; }
.tile.right .frame { border-color: var(--right); } .tile.wrong .frame { border-color: var(--wrong);
  border-style: dashed; }
.tile.query .frame { border-color: var(--ink); }
.tile img { max-width: 100%; max-height: 100%; display: block; }
.tile.right b { color: var(--right); } .tile.wrong b { color: var(--wrong); }
@media (max-width: 40rem) { .tile .frame { height: 5.5rem; }
  ul.sheet > li { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
"""
)
Pictures = dict[str, str | None]


def query_sheet(queries: Sequence[JudgedQuery]) -> str:
    """A line of tiles for each query: itself, then its nearest pictures by rank.

    A hit carries rank, similarity and label, and says by a tick and a whole frame, or a cross and
    a dashed one, whether it has the query's label.
    """
    answers = [query.answer for query in queries]
    pictures = _pictures(path for a in answers for path in (a.query, *(h.path for h in a.hits)))
    lines = []
    for query in queries:
        answer = query.answer
        words = [
            "<strong>query</strong>",
            escape(str(answer.label)),
            f"AP@R {100 * query.average_precision:.0f} %",
        ]
        tiles = [_tile("query", answer.query, pictures, words)]
        tiles += [_hit_tile(hit, answer.label, pictures) for hit in answer.hits]
        lines.append(f"<li>{''.join(tiles)}</li>")
    return f'<ul class="sheet">{chr(10).join(lines)}</ul>'


def pair_sheet(pairs: Sequence[ConfusedPair]) -> str:
    """For each pair of classes how often, and the surest of those mistakes."""
    if not pairs:
        return "<p>None: the nearest picture of every query has its label.</p>"
    pictures = _pictures(path for pair in pairs for path in (pair.query, pair.neighbour))
    lines = []
    for pair in pairs:
        first, second = escape(pair.first), escape(pair.second)
        words = (
            f"<p><strong>{first} and {second}</strong><br>{pair.first_as_second} of "
            f"{pair.of_first} one way, {pair.second_as_first} of {pair.of_second} the other; the "
            "surest:</p>"
        )
        asked, found = (first, second) if pair.query_is_first else (second, first)
        tiles = [
            _tile("query", pair.query, pictures, ["<strong>query</strong>", asked]),
            _tile("wrong", pair.neighbour, pictures, [f"1 &nbsp; {pair.similarity:.3f}", found]),
        ]
        lines.append(f"<li>{words}{''.join(tiles)}</li>")
    return f'<ul class="sheet pairs">{chr(10).join(lines)}</ul>'


def _hit_tile(hit: Hit, label: str | None, pictures: Pictures) -> str:
    right = hit.label == label
    mark = (
        f'<b aria-hidden="true">{"✓" if right else "✗"}</b>'
        f'<span class="unseen">{"right" if right else "wrong"}: </span>'
    )
    words = [f"{hit.rank} &nbsp; {hit.similarity:.3f}", f"{mark} {escape(str(hit.label))}"]
    return _tile("right" if right else "wrong", hit.path, pictures, words)


def _tile(kind: str, path: str, pictures: Pictures, words: Sequence[str]) -> str:
    """One picture in its frame, lines of HTML below it."""
    uri, name = pictures[path], escape(Path(path).name)
    shown = f'<img src="{uri}" alt="{name}" title="{name}">' if uri else f"{name}: not found"
    return f'<div class="tile {kind}"><div class="frame">{shown}</div>{"<br>".join(words)}</div>'


def _pictures(paths: Iterable[str]) -> Pictures:
    """Data URIs, each picture read once; None where it cannot be read."""
    once = list(dict.fromkeys(paths))
    images = thumbnails(once, _SIDE)
    return {p: data_uri(i) if i else None for p, i in zip(once, images, strict=True)}
