"""The base of all results, and what several of them hold."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgdcli.remote import shown


class Report:
    """Base of the results; `to_dict` is their JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, keys as text."""
        plain = _plain(dataclasses.asdict(self))  # type: ignore[call-overload]
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return shown(value)
    return value


@dataclass(frozen=True)
class SkippedImage(Report):
    """A picture that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ModelInfo(Report):
    """Which model it is: where it came from and what identifies it.

    Attributes:
        source: the file, or the backbone's name, that was loaded.
        assumed: what the source did not say and was taken by convention, in words.
    """

    source: str
    fingerprint: str
    config: dict[str, Any]
    assumed: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
