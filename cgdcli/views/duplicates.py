"""Groups of duplicates in plain words, for a terminal."""

from collections.abc import Iterator

from cgdcli.remote import shown
from cgdcli.reports import DuplicateGroup, DuplicateImage, DuplicatesReport
from cgdcli.views.formatting import bytes_text, duration, shown_name
from cgdcli.words import counted

GROUPS_SHOWN, IMAGES_SHOWN = 20, 20


def duplicates_lines(report: DuplicatesReport, *, every: bool = False) -> Iterator[str]:
    """What was found in all, then group by group (`every`: all of them, and all of each)."""
    yield from summary_lines(report)
    groups = len(report.groups)
    shown_groups = groups if every else min(groups, GROUPS_SHOWN)
    for number, group in enumerate(report.groups[:shown_groups], 1):
        yield ""
        yield f"{number}  {group_words(group)}"
        count = len(group.images) if every else IMAGES_SHOWN
        yield from (f"   {_image_line(image)}" for image in group.images[:count])
        if len(group.images) > count:
            yield f"   ... and {counted(len(group.images) - count, 'picture')} more"
    if groups > shown_groups:
        yield ""
        yield f"... and {counted(groups - shown_groups, 'group')} more: -v, --json or --html"


def summary_lines(report: DuplicatesReport) -> list[str]:
    """Rows, groups, copies, leaks, and what could go."""
    grouped = sum(len(group.images) for group in report.groups)
    exact = sum(group.exact for group in report.groups)
    size = sum(image.bytes or 0 for group in report.groups for image in group.spare)
    if not report.groups:
        found = f"no two of {counted(report.rows, 'row')} at a similarity of"
        return [
            f"{shown(report.index)}: {found} {report.threshold:g} or above; "
            f"in {duration(report.seconds)}",
            split_words(report),
        ]
    lines = [
        f"{shown(report.index)}: {counted(report.rows, 'row')}, "
        f"{counted(len(report.groups), 'group')} of {counted(grouped, 'picture')} at a similarity "
        f"of {report.threshold:g} or above, "
        f"{exact} of them exact copies; in {duration(report.seconds)}",
        f"{counted(report.spare, 'picture')} ({bytes_text(size)}) could go: a kept one is as good",
        split_words(report),
    ]
    long = [group for group in report.groups if group.too_long]
    if long:
        lines.append(long_words(long))
    return lines


def split_words(report: DuplicatesReport) -> str:
    """Whether pictures are in two splits, and what says in which."""
    if report.split_by is None:
        return "no split is known: neither folders train, val and test, nor --splits say it"
    by = "folders" if report.split_by == "folders" else f"`{report.split_by}`"
    splits = ", ".join(f"{name} {rows}" for name, rows in report.splits.items())
    leaks = counted(report.leaks, "group") if report.leaks else "no group"
    return f"{leaks} across splits ({splits}, by {by})"


def long_words(groups: list[DuplicateGroup]) -> str:
    """What to do about chains."""
    pictures = sum(len(group.images) for group in groups)
    return (
        f"{counted(len(groups), 'chain', 'chains')} of {pictures} pictures, each alike to some "
        "other and few to all: beyond exact copies no duplicates are told there; a higher "
        "--threshold divides them"
    )


def group_words(group: DuplicateGroup) -> str:
    """How many, how alike, of which splits."""
    low, high = f"{group.smallest:.4f}", f"{group.largest:.4f}"
    words = [counted(len(group.images), "picture")]
    alike = low if low == high else f"{low} to {high}"
    words.append("exact copies" if group.exact else f"similarity {alike}")
    if group.leaks:
        words.append(f"across {' and '.join(group.splits)}")
    if group.too_long:
        words.append("a chain, and no group of copies")
    elif group.chain:
        words.append("a chain: some are alike by others between them alone")
    return ", ".join(words)


def image_words(image: DuplicateImage) -> str:
    """Kept, or how similar to the one that is; or why neither."""
    if image.state:
        return image.state
    if image.kept:
        return "kept"
    return "" if image.similarity is None else f"{image.similarity:.4f}"


def _image_line(image: DuplicateImage) -> str:
    size = "" if image.bytes is None else bytes_text(image.bytes)
    facts = ", ".join(shown_name(fact) for fact in (image.split, image.label) if fact)
    path = shown_name(image.path)
    return f"{image_words(image):9s} {size:>9s}  {path}{f'  ({facts})' if facts else ''}"
