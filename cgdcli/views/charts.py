"""Bars as inline SVG, and the frame of a page: self-contained, light and dark, no script."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5b6470;
  --line: #d5dae0; --bar: #2f6fb3; --track: #eef1f5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --soft: #9aa4b0;
  --line: #343b44; --bar: #6fa8dc; --track: #23282f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .3rem .8rem;
  margin: .5rem 0; align-items: center; font-size: .9rem; }
dl.bars dt { grid-column: 1; } dl.bars dd { margin: 0; }
dl.bars dd.value { font-variant-numeric: tabular-nums; text-align: right; }
dl.bars svg { display: block; width: 100%; height: .9rem; }
rect.track { fill: var(--track); } rect.bar { fill: var(--bar); }
@media (max-width: 30rem) { dl.bars { grid-template-columns: 1fr max-content; gap: .1rem .6rem; }
  dl.bars dd.chart { grid-column: 1 / -1; grid-row: auto; margin-bottom: .4rem; }
  dl.bars dt { grid-column: 1; } dl.bars dd.value { grid-column: 2; } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole document: everything it needs is in it."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraphs(lines: Sequence[str]) -> str:
    """One paragraph a line."""
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def bars(values: Sequence[tuple[str, float, str]]) -> str:
    """(name, number, number in words): a bar each, as long as the number; the words stand by it."""
    largest = max((number for _, number, _ in values), default=0) or 1
    rows = []
    for name, number, words in values:
        width = 100 * number / largest
        rows.append(
            f'<dt>{escape(name)}</dt><dd class="chart"><svg viewBox="0 0 100 10" '
            'preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" '
            f'height="10"/><rect class="bar" width="{width:.2f}" height="10"/></svg></dd>'
            f'<dd class="value">{escape(words)}</dd>'
        )
    return f'<dl class="bars">\n{chr(10).join(rows)}\n</dl>'


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        f"{chr(10).join(lines)}</tbody></table></div>"
    )
