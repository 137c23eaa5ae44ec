"""The contact sheet: a query and its hits as one picture."""

import contextlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from cgdcli.errors import ConfigError, ImageError
from cgdcli.files import atomic_path
from cgdcli.images.decoding import read_image
from cgdcli.images.mirror import fetch
from cgdcli.remote import place_of
from cgdcli.reports import Hit, QueryHits
from cgdcli.views.formatting import no_picture, shown_name
from cgdcli.words import counted

TILE, GAP, CAPTION, BORDER = 176, 14, 40, 5
HITS_PER_LINE = 10
# Of 200 x 240 pixels: 290 MB in memory, and more than anybody looks at.
MOST_TILES = 2_000
SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msgothic.ttc",
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
)
PAPER, TILE_GROUND, INK, FAINT = "#ffffff", "#eceef0", "#1c2024", "#60666d"
RIGHT, WRONG, UNKNOWN = "#18794e", "#c62a2f", "#c1c8cd"  # AA contrast on paper for the first two


def write_sheet(results: Sequence[QueryHits], target: Path) -> None:
    """Write a PNG: one row of tiles per query, the query at the left, hits by rank.

    A hit carries rank, similarity and label; where both labels are known its border is green with
    a tick or red with a cross. A picture that is gone is drawn as an empty tile, and says so.

    Raises:
        ConfigError: it would have too many tiles.
        OutputError: it cannot be written.
    """
    sheet = draw_sheet(results)
    with atomic_path(target) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def check_tiles(hits: Sequence[int]) -> None:
    """Whether a sheet of queries with so many hits each is not too large.

    Raises:
        ConfigError: it has more than `MOST_TILES` tiles, empty ones at the ends of lines counted.
    """
    columns, lines = _columns(hits), sum(max(1, -(-count // HITS_PER_LINE)) for count in hits)
    if columns * lines > MOST_TILES:
        raise ConfigError(
            f"a contact sheet of {counted(len(hits), 'query', 'queries')} with up to "
            f"{counted(max(hits), 'hit')} has {columns * lines} tiles; at most {MOST_TILES} fit",
            hint="--html hits.html shows as many as there are; or ask for fewer hits or queries",
        )


def _columns(hits: Sequence[int]) -> int:
    return 1 + min(HITS_PER_LINE, max(hits, default=0))


def draw_sheet(results: Sequence[QueryHits]) -> Image.Image:
    """The same, as a picture in memory."""
    counts = [len(result.hits) for result in results]
    check_tiles(counts)
    lines = [_lines(result) for result in results]
    columns = _columns(counts)
    step = TILE + 2 * BORDER + GAP
    height = TILE + 2 * BORDER + CAPTION + GAP
    rows = sum(len(group) for group in lines)
    sheet = Image.new("RGB", (2 * GAP + columns * step, 2 * GAP + rows * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    line = 0
    for result, group in zip(results, lines, strict=True):
        top = GAP + line * height
        _draw_query(sheet, draw, result, (GAP, top))
        for row, hits in enumerate(group):
            for column, hit in enumerate(hits, start=1):
                place = (GAP + column * step + GAP, top + row * height)
                _draw_hit(sheet, draw, result, hit, place)
        line += len(group)
    return sheet


def _lines(result: QueryHits) -> list[Sequence[Hit]]:
    hits = result.hits
    return [hits[i : i + HITS_PER_LINE] for i in range(0, len(hits), HITS_PER_LINE)] or [()]


def _draw_query(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, result: QueryHits, place: tuple[int, int]
) -> None:
    _draw_tile(sheet, draw, result.query_path, place, INK, no_picture(result.query))
    label = f"label {result.label}" if result.label is not None else ""
    _caption(draw, place, f"query {result.name}", label, None)


def _draw_hit(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    result: QueryHits,
    hit: Hit,
    place: tuple[int, int],
) -> None:
    right = None
    if result.label is not None and hit.label is not None:
        right = result.label == hit.label
    colour = UNKNOWN if right is None else RIGHT if right else WRONG
    _draw_tile(sheet, draw, hit.path, place, colour)
    label = f"label {hit.label}" if hit.label is not None else Path(hit.path).name
    _caption(draw, place, f"{hit.rank}   {hit.similarity:z.4f}", label, right)


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    path: str | None,
    place: tuple[int, int],
    colour: str,
    otherwise: str = "no picture is known",
) -> None:
    """`otherwise` stands where there is no path; a picture that cannot be read is not found."""
    left, top = place
    side = TILE + 2 * BORDER
    box = (left, top, left + side - 1, top + side - 1)
    draw.rectangle(box, TILE_GROUND, outline=colour, width=BORDER)
    inside = (left + BORDER, top + BORDER)
    at = (inside[0] + 8, inside[1] + 8)
    if path is None:
        draw.text(at, otherwise, FAINT, font=_font(13))
        return
    try:
        picture = ImageOps.contain(read_image(fetch(place_of(path)))[0], (TILE, TILE))
        corner = ((TILE - picture.width) // 2, (TILE - picture.height) // 2)
        sheet.paste(picture, (inside[0] + corner[0], inside[1] + corner[1]))
    except ImageError:
        draw.text(at, "picture not found", FAINT, font=_font(13))


def _caption(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], first: str, second: str, right: bool | None
) -> None:
    left, top = place[0] + BORDER, place[1] + TILE + 2 * BORDER + 3
    first = _shortened(draw, shown_name(first), 15)
    second = _shortened(draw, shown_name(second), 13)
    draw.text((left, top), first, INK, font=_font_for(first, 15))
    draw.text((left, top + 19), second, FAINT, font=_font_for(second, 13))
    if right is not None:
        _mark(draw, (left + TILE - 18, top + 3), right)


def _mark(draw: ImageDraw.ImageDraw, place: tuple[int, int], right: bool) -> None:
    """A tick or a cross: the verdict does not rest on colour alone."""
    x, y = place
    if right:
        draw.line([(x, y + 7), (x + 5, y + 12), (x + 15, y)], RIGHT, width=3, joint="curve")
    else:
        draw.line([(x + 2, y), (x + 14, y + 12)], WRONG, width=3)
        draw.line([(x + 14, y), (x + 2, y + 12)], WRONG, width=3)


def _shortened(draw: ImageDraw.ImageDraw, text: str, size: int) -> str:
    font = _font_for(text, size)
    if draw.textlength(text, font=font) <= TILE:
        return text
    while text and draw.textlength(text + "...", font=font) > TILE:
        text = text[:-1]
    return text + "..."


@cache
def _font_for(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font has Latin letters only; for others one of the system's is looked for."""
    if not text.isascii():
        for name in SYSTEM_FONTS:
            with contextlib.suppress(OSError):
                return ImageFont.truetype(name, size)
    return _font(size)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
