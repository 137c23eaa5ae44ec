"""A run's settings as TOML that any reader takes, whatever characters names and paths have.

TOML has no place for a byte that is not UTF-8, which Python keeps in a path as a lone surrogate.
Such a character is written as U+0000 and the four hex digits of its number, `caf\\u0000dce9`; no
path or name holds U+0000 otherwise, and one in another text is written the same way: `\\u00000000`.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")
_WRITTEN = re.compile("\0([0-9a-f]{4})")
# Of a text between quotation marks: an escape, two of them where they are halves of one character.
_ESCAPE = re.compile(
    r"\\(?:u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})"
    r"|u(?P<lone>d[89a-f][0-9a-f]{2})|.)",
    re.IGNORECASE,
)


def toml_value(value: str | float | list[str]) -> str:
    """A TOML value; JSON's forms are TOML's, but for U+007F, which TOML wants escaped."""
    if isinstance(value, str):
        value = _SURROGATE_OR_NUL.sub(lambda found: f"\0{ord(found[0]):04x}", value)
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value)


def read_toml(file: Path) -> dict[str, Any]:
    """What a file says, its texts as they were before `toml_value`.

    Raises:
        OSError, ValueError: it cannot be read, or is no TOML in UTF-8.
    """
    text = file.read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        values = _from_before(text)
    return {name: _restored(value) for name, value in values.items()}


def _from_before(text: str) -> dict[str, Any]:
    """A file as it was written once, with JSON's escapes: halves of a character.

    Raises:
        TOMLDecodeError: it is no such file either; what is said is of the file as it is.
    """
    mended = _ESCAPE.sub(_as_toml, text)
    if mended == text:
        return tomllib.loads(text)
    try:
        return tomllib.loads(mended)
    except tomllib.TOMLDecodeError:
        return tomllib.loads(text)


def _as_toml(escape: re.Match[str]) -> str:
    if escape["lone"]:
        return f"\\u0000{escape['lone'].lower()}"
    if escape["high"]:
        high, low = (int(escape[half], 16) for half in ("high", "low"))
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
    return escape[0]


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), value)
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    return value
