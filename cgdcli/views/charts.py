"""Bars as inline SVG, and the frame of a page: self-contained, light and dark, no script."""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log, log10

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
th { white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .3rem .8rem;
  margin: .5rem 0; align-items: center; font-size: .9rem; }
dl.bars dt { grid-column: 1; } dl.bars dd { margin: 0; }
dl.bars dd.value { font-variant-numeric: tabular-nums; text-align: right; }
dl.bars svg { display: block; width: 100%; height: .9rem; }
rect.track { fill: var(--track); } rect.bar { fill: var(--bar); }
td.prose { white-space: normal; text-align: left; min-width: 16rem; }
figure { margin: .5rem 0; } figure svg { width: 100%; height: auto; max-width: 44rem; }
figure text { fill: var(--ink); font-size: 13px; } figure text.soft { fill: var(--soft); }
figure .roof { fill: none; stroke: var(--soft); stroke-width: 2; }
figure .axis { stroke: var(--line); } figure circle { fill: var(--bar); }
@media (max-width: 30rem) { dl.bars { grid-auto-flow: row dense; gap: .1rem .6rem;
  grid-template-columns: 1fr max-content; }
  dl.bars dd.chart { grid-column: 1 / -1; grid-row: auto; margin-bottom: .4rem; }
  dl.bars dt { grid-column: 1; } dl.bars dd.value { grid-column: 2; } }
"""


def page(title: str, sections: Sequence[str], *, style: str = "", script: str = "") -> str:
    """A whole document: everything it needs is in it.

    Args:
        style, script: CSS and JavaScript of what is in the sections.
    """
    body = "\n".join(sections)
    code = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n{code}</body>\n</html>\n"
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


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, prose: bool = False) -> str:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        prose: the last column is words, which may take several lines.
    """
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(_cell(cell, prose and i == len(rest)) for i, cell in enumerate(rest, 1))
        + "</tr>"
        for first, *rest in rows
    ]
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        f"{chr(10).join(lines)}</tbody></table></div>"
    )


def roofline_chart(
    points: Sequence[tuple[str, float, float]], gflops: float, gigabytes: float
) -> str:
    """Log-log: the roof of `gflops` (GFLOP/s) and `gigabytes` (GB/s), and what was achieved.

    Args:
        points: (name, FLOPs per byte, GFLOP/s).
    """
    ridge = gflops / gigabytes
    low_x = min([ridge, *(x for _, x, _ in points)]) / 2
    high_x = max([ridge, *(x for _, x, _ in points)]) * 2
    low_y = min([gflops, *(y for _, _, y in points)]) / 2
    high_y = max([gflops, *(y for _, _, y in points)]) * 1.6

    def at(x: float, y: float) -> tuple[float, float]:
        return _along(x, low_x, high_x, 60, 680), _along(y, low_y, high_y, 330, 14)

    start = max(low_x, low_y / gigabytes)
    roof = [at(start, start * gigabytes), at(ridge, gflops), at(high_x, gflops)]
    parts = [_ticks(low_x, high_x, low_y, high_y, at)]
    parts.append(
        f'<polyline class="roof" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in roof)}"/>'
    )
    parts.append(f'<text class="soft" x="68" y="28">the roof: {gflops:.0f} GFLOP/s, ')
    parts.append(f"left of the bend {gigabytes:.1f} GB/s</text>")
    parts += _labelled([(name, *at(x, y)) for name, x, y in points])
    return (
        '<figure><svg viewBox="0 0 700 375" role="img" aria-label="Roofline: GFLOP/s over FLOPs '
        f'per byte">{"".join(parts)}</svg></figure>'
    )


def _labelled(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """Dots with their names below them, each name as high as those beside it leave room for."""
    parts, taken = [], list[tuple[float, float, float]]()
    for name, x, y in sorted(points, key=lambda point: (-point[2], point[1])):
        half, row = 4.0 * len(name), y + 20
        while any(abs(row - r) < 15 and abs(x - c) < half + h for c, r, h in taken):
            row += 15
        taken.append((x, row, half))
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{row - 11:.1f}"/>'
        )
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(f'<text x="{x:.1f}" y="{row:.1f}" text-anchor="middle">{escape(name)}</text>')
    return parts


def _ticks(
    low_x: float,
    high_x: float,
    low_y: float,
    high_y: float,
    at: Callable[[float, float], tuple[float, float]],
) -> str:
    """A line and a number at every power of ten, and what the axes are."""
    parts = []
    for power in range(floor(log10(low_x)), ceil(log10(high_x)) + 1):
        if low_x <= 10.0**power <= high_x:
            x, _ = at(10.0**power, low_y)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="330"/>')
            parts.append(f'<text class="soft" x="{x:.1f}" y="346" text-anchor="middle">')
            parts.append(f"{10.0**power:g}</text>")
    for power in range(floor(log10(low_y)), ceil(log10(high_y)) + 1):
        if low_y <= 10.0**power <= high_y:
            _, y = at(low_x, 10.0**power)
            parts.append(f'<line class="axis" x1="60" x2="680" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="soft" x="54" y="{y + 4:.1f}" text-anchor="end">')
            parts.append(f"{10.0**power:g}</text>")
    parts.append('<text class="soft" x="680" y="366" text-anchor="end">FLOPs per byte</text>')
    parts.append('<text class="soft" x="60" y="366">GFLOP/s upwards, both logarithmic</text>')
    return "".join(parts)


def _along(value: float, low: float, high: float, start: float, end: float) -> float:
    """The place of a value on a logarithmic axis."""
    return start + (end - start) * log(value / low) / log(high / low)


def _cell(text: str, prose: bool) -> str:
    return f'<td class="prose">{escape(text)}</td>' if prose else f"<td>{escape(text)}</td>"
