"""The map of embeddings: dots that show their picture when pointed at, by mouse, touch or keys."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cgdcli.reports import MapPoint
from cgdcli.views.thumbnails import data_uri, sprite_sheet, thumbnails

SIDE, COLUMNS = 64, 25
_WIDTH, _HEIGHT, _EDGE = 700.0, 460.0, 14.0

MAP_STYLE = """
.map { position: relative; } .map svg { width: 100%; max-width: none; display: block;
  border: 1px solid var(--line); border-radius: 4px; touch-action: pan-y; }
.map svg:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
.map { --l: 38%; } @media (prefers-color-scheme: dark) { .map { --l: 68%; } }
figure.map circle { fill: hsl(var(--h) 65% var(--l)); }
.map path.dot { stroke: hsl(var(--h) 65% var(--l)); stroke-width: 2; fill: none; }
@media (max-width: 40rem) { .map circle.dot { r: 7px; } .map path.dot { stroke-width: 4; } }
.map .dim { opacity: .1; }
.map .ring { fill: none; stroke: var(--ink); stroke-width: 2.5; }
.map .card { position: absolute; pointer-events: none; padding: .5rem; width: 11rem;
  max-width: 60%; background: var(--paper); border: 1px solid var(--soft); border-radius: 4px;
  font-size: .85rem; line-height: 1.35; }
.map .card p { margin: .2rem 0 0; } .map .thumb { zoom: 2; }
.map select { font: inherit; color: var(--ink); background: var(--paper); max-width: 14rem;
  border: 1px solid var(--soft); border-radius: 4px; padding: .15rem .3rem; }
.map label { display: inline-block; margin-bottom: .5rem; }
"""
# Pictures are found by the nearest dot; arrow keys go to the nearest dot in that direction, which
# need not lead to every dot: page keys go through all, or all of the class chosen.
MAP_SCRIPT = """
(() => {
  const figure = document.querySelector('figure.map'); if (!figure) return;
  const svg = figure.querySelector('svg'), card = figure.querySelector('.card');
  const ring = figure.querySelector('.ring'), choice = figure.querySelector('select');
  const dots = [...figure.querySelectorAll('.dot')], thumb = card.querySelector('.thumb');
  const data = JSON.parse(figure.querySelector('script').textContent);
  const lines = [...card.querySelectorAll('p')];
  let now = -1;
  const shown = i => !choice.value || data.points[i][2] === +choice.value;
  const hide = () => { now = -1; card.hidden = true; ring.setAttribute('visibility', 'hidden'); };
  const show = i => {
    const [x, y, label, file, hit, w, h] = data.points[i], box = svg.getBoundingClientRect();
    now = i; card.hidden = false; ring.setAttribute('visibility', 'visible');
    ring.setAttribute('cx', x); ring.setAttribute('cy', y);
    thumb.style.width = w + 'px'; thumb.style.height = h + 'px';
    thumb.style.backgroundPosition =
      `-${i % data.columns * data.side}px -${Math.floor(i / data.columns) * data.side}px`;
    lines[0].textContent = (w ? '' : 'picture not found: ') + data.labels[label];
    lines[1].textContent = file;
    lines[2].textContent = hit ? '\\u2713 nearest picture: same label'
      : '\\u2717 nearest picture: another label';
    const top = box.top - figure.getBoundingClientRect().top + y * box.height / data.height;
    const left = x * box.width / data.width;
    const room = figure.clientWidth - card.offsetWidth;
    card.style.left = Math.max(0, Math.min(room, left - card.offsetWidth / 2)) + 'px';
    const above = top - card.offsetHeight - 12;
    card.style.top = (above > 0 ? above : top + 12) + 'px';
  };
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), scale = data.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = -1, least = (18 * scale) ** 2;
    data.points.forEach((p, i) => { const d = (p[0] - x) ** 2 + (p[1] - y) ** 2;
      if (d < least && shown(i)) { least = d; best = i; } });
    if (best < 0) hide(); else if (best !== now) show(best);
  });
  svg.addEventListener('pointerleave', () => { if (document.activeElement !== svg) hide(); });
  svg.addEventListener('blur', hide);
  const nearest = (from, dx, dy) => {
    let best = -1, least = Infinity;
    data.points.forEach((p, i) => {
      const x = p[0] - from[0], y = p[1] - from[1], ahead = x * dx + y * dy;
      const aside = Math.abs(x * dy) + Math.abs(y * dx), cost = ahead + 2 * aside;
      if (i !== now && shown(i) && ahead > 0 && cost < least) { least = cost; best = i; } });
    return best;
  };
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const first = () => { const i = data.points.findIndex((_, i) => shown(i)); if (i >= 0) show(i); };
  svg.addEventListener('focus', () => { if (now < 0 && svg.matches(':focus-visible')) first(); });
  svg.addEventListener('keydown', event => {
    if (event.key === 'Escape') return hide();
    const way = ways[event.key], turn = { PageDown: 1, PageUp: -1 }[event.key];
    if (!way && !turn) return;
    event.preventDefault();
    if (now < 0) return first();
    let next = way ? nearest(data.points[now], ...way) : now + turn;
    while (turn && data.points[next] && !shown(next)) next += turn;
    if (data.points[next]) show(next);
  });
  choice.addEventListener('change', () => { hide();
    dots.forEach((dot, i) => dot.classList.toggle('dim', !shown(i))); });
})();
"""


def embedding_map(points: Sequence[MapPoint]) -> str:
    """The figure; it wants `MAP_STYLE` and `MAP_SCRIPT` on its page. Without script, dots alone."""
    labels = sorted({point.label for point in points})
    number = {label: i for i, label in enumerate(labels)}
    images = thumbnails([point.path for point in points], SIDE)
    places = _places(points)
    entries = [
        [
            *place,
            number[p.label],
            Path(p.path).name,
            int(p.is_hit),
            *(image.size if image else (0, 0)),
        ]
        for p, place, image in zip(points, places, images, strict=True)
    ]
    data = {"side": SIDE, "columns": COLUMNS, "width": _WIDTH, "height": _HEIGHT}
    text = json.dumps(data | {"labels": labels, "points": entries}).replace("<", "\\u003c")
    dots = "".join(
        _dot(p, place, _hue(number[p.label])) for p, place in zip(points, places, strict=True)
    )
    choices = "".join(f'<option value="{i}">{escape(n)}</option>' for i, n in enumerate(labels))
    sheet = data_uri(sprite_sheet(images, SIDE, COLUMNS))
    return (
        f"<style>.map .thumb {{ background-image: url({sheet}); }}</style>"
        f'<figure class="map"><label>Class <select><option value="">all {len(labels)}</option>'
        f'{choices}</select></label><svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" tabindex="0" '
        'role="application" aria-label="Map of embeddings; arrow keys go to the nearest picture '
        'there, page keys through all">'
        f'{dots}<circle class="ring" r="8" visibility="hidden" style="fill: none"/></svg>'
        '<div class="card" role="status" hidden><div class="thumb"></div>'
        '<p></p><p class="soft"></p><p></p></div>'
        f'<script type="application/json">{text}</script></figure>'
    )


def _places(points: Sequence[MapPoint]) -> list[tuple[float, float]]:
    """Into the frame by one scale for both axes: distances stay comparable."""
    xs, ys = [p.x for p in points], [p.y for p in points]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    inside_x, inside_y = _WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE
    scale = min(inside_x / wide if wide else 1e9, inside_y / high if high else 1e9)
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [
        (
            round(_WIDTH / 2 + scale * (p.x - middle_x), 1),
            round(_HEIGHT / 2 - scale * (p.y - middle_y), 1),
        )
        for p in points
    ]


def _dot(point: MapPoint, place: tuple[float, float], hue: int) -> str:
    """A dot, or a cross where the nearest picture has another label."""
    x, y = place
    if point.is_hit:
        return f'<circle class="dot" cx="{x}" cy="{y}" r="4" style="--h:{hue}"/>'
    return f'<path class="dot" style="--h:{hue}" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _hue(number: int) -> int:
    """Hues far apart from those before, by the golden angle."""
    return round(number * 137.508) % 360
