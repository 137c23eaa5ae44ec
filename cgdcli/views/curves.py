"""Curves over epochs and shares with their intervals, as inline SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

CURVES_STYLE = """
.curves { display: grid; gap: 1rem 1.5rem; grid-template-columns:
  repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); }
.curves figure { margin: 0; min-width: 0; } .curves figcaption { font-size: .9rem; }
.curves p.keys { margin: 0; font-size: .85rem; } .key { display: inline-block;
  margin-right: .9rem; } .key svg { width: 1.6rem; height: .6rem; margin-right: .3rem; }
polyline.curve, .key line { fill: none; stroke: var(--bar); stroke-width: 2; }
.second { stroke-dasharray: 6 4; } polyline.reference { stroke: var(--soft);
  stroke-dasharray: 2 4; fill: none; stroke-width: 1.5; }
.key line.reference { stroke: var(--soft); stroke-dasharray: 2 4; }
dl.bars rect.interval { fill: var(--ink); opacity: .75; }
"""
# A curve of more points than pixels says nothing more and makes the page large.
MOST_POINTS = 300
_DOTS_UP_TO = 40
_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 52.0, 330.0, 10.0, 170.0, 340, 200
Points = Sequence[tuple[float, float]]
Format = Callable[[float], str]


def percent(share: float) -> str:
    """43.7 %, 50 %."""
    return f"{round(100 * share, 1):g} %"


def plain(value: float) -> str:
    """Four digits at most."""
    return f"{value:.4g}"


def line_chart(
    title: str,
    series: Sequence[tuple[str, Points]],
    words: Format = plain,
    *,
    shares: bool = False,
    reference: tuple[str, float] | None = None,
) -> str:
    """Curves over epochs; at most two, told apart by dashes, and a dotted line to compare with.

    Args:
        series: (name, (epoch, value) rising by epoch); what is not finite is left out.
        words: a value in words, for ticks and for what a point says when pointed at.
        shares: values lie between 0 and 1, and so does the axis.
    """
    series = [(n, [p for p in points if isfinite(p[1])]) for n, points in series]
    epochs = [x for _, points in series for x, _ in points]
    if not epochs:
        return ""
    values = [y for _, points in series for _, y in points]
    values += [reference[1]] if reference else []
    ticks = _share_ticks(values) if shares else _round_ticks(min(values), max(values), 4)
    frame = _Frame(min(epochs), max(epochs), min(ticks[0], *values), max(ticks[-1], *values))
    parts = [_grid(frame, ticks, words)]
    if reference:
        y = frame.y(reference[1])
        parts.append(f'<polyline class="reference" points="{_LEFT},{y:.1f} {_RIGHT},{y:.1f}"/>')
    for number, (name, points) in enumerate(series):
        parts.append(_curve(frame, name, _thinned(points), words, "second" if number else ""))
    names = [name for name, _ in series] + ([reference[0]] if reference else [])
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} by epoch">'
        f"{''.join(parts)}</svg>{_keys(names, reference is not None)}</figure>"
    )


def interval_bars(values: Sequence[tuple[str, float, float, float]]) -> str:
    """(name, share, low, high): a bar each on 0 to 100 %, and its interval as a line in it."""
    rows = []
    for name, share, low, high in values:
        width = max(0.4, 100 * (high - low))
        rows.append(
            f'<dt>{escape(name)}</dt><dd class="chart"><svg viewBox="0 0 100 10" '
            'preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" '
            f'height="10"/><rect class="bar" width="{100 * share:.2f}" height="10"/>'
            f'<rect class="interval" x="{100 * low:.2f}" y="4" width="{width:.2f}" height="2"/>'
            f'</svg></dd><dd class="value">{100 * share:.1f} % '
            f'<span class="soft">({100 * low:.1f} to {100 * high:.1f})</span></dd>'
        )
    return f'<dl class="bars">\n{chr(10).join(rows)}\n</dl>'


@dataclass(frozen=True)
class _Frame:
    """Where epochs and values lie in the picture."""

    first: float
    last: float
    low: float
    high: float

    def x(self, epoch: float) -> float:
        """Of an epoch; a single one in the middle."""
        span = self.last - self.first
        return _LEFT + (_RIGHT - _LEFT) * ((epoch - self.first) / span if span else 0.5)

    def y(self, value: float) -> float:
        """Of a value."""
        return _BOTTOM - (_BOTTOM - _TOP) * (value - self.low) / (self.high - self.low)


def _grid(frame: _Frame, ticks: Sequence[float], words: Format) -> str:
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 6, y + 4, "end", words(tick)))
    parts.append(_text(_LEFT - 12, _BOTTOM + 18, "end", "epoch"))
    for epoch in _epoch_ticks(frame.first, frame.last):
        parts.append(_text(frame.x(epoch), _BOTTOM + 18, "middle", f"{epoch:g}"))
    return "".join(parts)


def _curve(frame: _Frame, name: str, points: Points, words: Format, kind: str) -> str:
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = ""
    if len(points) <= _DOTS_UP_TO:
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(name)}, epoch {epoch:g}: '
            f"{escape(words(value))}</title></circle>"
            for (x, y), (epoch, value) in zip(places, points, strict=True)
        )
    return f'<polyline class="curve {kind}" points="{line}"/>{dots}'


def _keys(names: Sequence[str], has_reference: bool) -> str:
    """Which line is which; a single one needs no key."""
    if len(names) < 2:
        return ""
    kinds = ["", "second"][: len(names) - has_reference] + ["reference"] * has_reference
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 26 10" aria-hidden="true"><line class="{kind}" '
        f'x1="0" x2="26" y1="5" y2="5"/></svg>{escape(name)}</span>'
        for name, kind in zip(names, kinds, strict=True)
    )
    return f'<p class="keys">{keys}</p>'


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return (
        f'<text class="soft" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _thinned(points: Points) -> Points:
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_POINTS)]


def _share_ticks(values: Sequence[float]) -> list[float]:
    """Round shares that do not leave 0 to 1, which values of shares do not either."""
    low, high = min(values), max(values)
    if high - low < 1e-6:
        return [0.0, 0.5, 1.0]
    return [tick for tick in _round_ticks(low, high, 4) if -1e-9 <= tick <= 1 + 1e-9]


def _round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers (1, 2, 5 times a power of ten) that enclose low to high."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):
        low, high = (0.0, 2 * high) if high > 1e-300 else (low - 1, low + 1)
    raw = (high - low) / wanted
    power = 10.0 ** floor(log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    return [i * step for i in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def _epoch_ticks(first: float, last: float) -> list[float]:
    """Whole epochs, the ends among them, six at most."""
    step = max(1, ceil((last - first) / 5))
    ticks = [float(x) for x in range(int(first), int(last) + 1, step)]
    if last - ticks[-1] < step * 0.6 and len(ticks) > 1:
        ticks.pop()
    return ticks if ticks[-1] == last else [*ticks, last]
