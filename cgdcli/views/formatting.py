"""Numbers in words: durations, sizes, operations; and values as JSON."""

import json
from typing import Any


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


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON; all in ASCII (`\\udce9`) where a file name is no UTF-8, since JSON itself has to be."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return json.dumps(value, indent=indent)
    return text
