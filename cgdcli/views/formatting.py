"""Numbers in words: durations, sizes, operations; and values as JSON."""

import json
import re
from typing import Any

# Control characters, which a terminal would obey, and bytes of file names that are no UTF-8.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def duration(seconds: float) -> str:
    """4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(seconds: float) -> str:
    """12.3 ms; 45 µs below one."""
    return f"{1000 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} µs"


def bytes_text(count: float) -> str:
    """1.5 MB: decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def giga(count: int) -> str:
    """Billions to two places, or millions to three; 0 as such."""
    if not count:
        return "0"
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.3f} M"


def shown_name(name: str) -> str:
    """A name of a file or label on one line: `two\\nlines.jpg`, `caf\\xe9.jpg`, as in `ls -b`."""
    return _NOT_SHOWN.sub(_escape, name)


def no_picture(query: str) -> str:
    """In the place of a query's picture, where there is none."""
    if re.fullmatch(r"row:\d+", query):
        return "no picture is known"
    return "of several pictures"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte as Python keeps it
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode("ascii")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON; all in ASCII (`\\udce9`) where a file name is no UTF-8, since JSON itself has to be."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return json.dumps(value, indent=indent)
    return text
