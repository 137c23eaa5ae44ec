"""Groups of duplicates as one self-contained page: pictures side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.images.mirror import fetch
from cgdcli.remote import place_of
from cgdcli.reports import DuplicateGroup, DuplicateImage, DuplicatesReport
from cgdcli.views.charts import heading, page, paragraphs
from cgdcli.views.duplicates import group_words, image_words, summary_lines
from cgdcli.views.formatting import bytes_text, shown_name
from cgdcli.views.thumbnails import data_uri, sized_thumbnail
from cgdcli.words import counted

# 4 kB a picture: a page of all of them has 12 MB at three pictures a group.
GROUPS_SHOWN, IMAGES_SHOWN = 1_000, 12
_SIDE = 160

# Groups that are out of sight are neither laid out nor painted: 1 000 of them scroll at once.
STYLE = """
:root { --keep: #18794e; --leak: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --keep: #5fcf97; --leak: #ff9592; } }
section.group { border-top: 1px solid var(--line); padding: .7rem 0 1rem;
  content-visibility: auto; contain-intrinsic-size: auto 17rem; }
section.group h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
section.group h3 .leak { color: var(--leak); }
ul.copies { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10rem, 45%), 1fr)); }
ul.copies li { min-width: 0; font-size: .85rem; line-height: 1.4; overflow-wrap: anywhere; }
ul.copies .frame { height: 10rem; display: flex; align-items: center; justify-content: center;
  background: var(--track); border: 3px dashed var(--soft); border-radius: 4px; overflow: hidden;
  margin-bottom: .3rem; text-align: center; }
ul.copies .kept .frame { border: 3px solid var(--keep); }
ul.copies .kept b { color: var(--keep); }
ul.copies img { max-width: 100%; max-height: 100%; display: block; }
@media (max-width: 30rem) { ul.copies .frame { height: 8rem; } }
"""


@dataclass(frozen=True)
class _Shown:
    """A picture as the page has it; `uri` is empty where it cannot be read."""

    uri: str = ""
    size: tuple[int, int] = (0, 0)


def duplicates_page(report: DuplicatesReport) -> str:
    """HTML; asks for nothing from outside. Pictures at an address are copied here first.

    At most `GROUPS_SHOWN` groups, and of each at most `IMAGES_SHOWN` pictures; the rest is counted.
    """
    groups = report.groups[:GROUPS_SHOWN]
    sections = [
        heading(f"Duplicates in {report.index.name}", 1),
        paragraphs(summary_lines(report)),
        paragraphs(_how_to_read(report, len(groups))),
        *_sections(groups),
    ]
    text = page(f"cgd duplicates: {report.index.name}", sections, style=STYLE)
    return text.encode("utf-8", "replace").decode()  # names of files need not be UTF-8


def _how_to_read(report: DuplicatesReport, shown: int) -> list[str]:
    lines = [
        "In a whole frame: a picture to keep. In a dashed one: with its similarity to the kept "
        "picture before it. `cgd duplicates ... --paths-only` prints those that could go."
    ]
    if len(report.groups) > shown:
        lines.append(f"The first {shown} of {len(report.groups)} groups are shown; --json has all.")
    return lines


def _sections(groups: Sequence[DuplicateGroup]) -> Iterator[str]:
    """By kind, each with its heading."""
    shown = [image for group in groups for image in group.images[:IMAGES_SHOWN]]
    pictures = iter(read_ahead(_look, shown, workers=worker_count(0)))
    kind = ""
    for number, group in enumerate(groups, 1):
        if _kind(group) != kind:
            kind = _kind(group)
            yield heading(kind)
        yield _group(number, group, [next(pictures) for _ in group.images[:IMAGES_SHOWN]])


def _kind(group: DuplicateGroup) -> str:
    if group.too_long:
        return "Chains"
    if group.leaks:
        return "Across splits"
    return "Exact copies" if group.exact else "Alike"


def _look(image: DuplicateImage) -> _Shown:
    if image.state == "gone":
        return _Shown()
    found = sized_thumbnail(fetch(place_of(image.path)), _SIDE)
    return _Shown(data_uri(found[0]), found[1]) if found else _Shown()


def _group(number: int, group: DuplicateGroup, pictures: Sequence[_Shown]) -> str:
    words = escape(group_words(group))
    if group.leaks:
        across = f"across {' and '.join(group.splits)}"
        words = words.replace(across, f'<span class="leak">{across}</span>')
    tiles = [_tile(image, picture) for image, picture in zip(group.images, pictures, strict=False)]
    left = len(group.images) - len(tiles)
    more = f"<p>and {counted(left, 'picture')} more</p>" if left else ""
    return (
        f'<section class="group"><h3>{number}. {words}</h3><ul class="copies">'
        f"{''.join(tiles)}</ul>{more}</section>"
    )


def _tile(image: DuplicateImage, picture: _Shown) -> str:
    name = escape(shown_name(Path(image.path).name))
    frame = f"{name}: not found"
    if picture.uri:
        frame = (
            f'<img src="{picture.uri}" alt="{name}" title="{name}" loading="lazy" decoding="async">'
        )
    facts = [f"{picture.size[0]} x {picture.size[1]} px"] if picture.uri else []
    facts += [bytes_text(image.bytes)] if image.bytes is not None else []
    words = escape(image_words(image))
    lines = [f"<b>{words}</b>"] if words else []
    lines += [
        escape(shown_name(fact)) for fact in (", ".join(facts), _belongs(image), image.path) if fact
    ]
    kind = "kept" if image.kept else "spare" if image.spare else "other"
    return f'<li class="{kind}"><div class="frame">{frame}</div>{"<br>".join(lines)}</li>'


def _belongs(image: DuplicateImage) -> str:
    return ", ".join(word for word in (image.split, image.label) if word)
