"""Checks that say the value, the rule and the remedy."""

import dataclasses
from enum import StrEnum
from typing import Any, TypeVar

from cgdcli.errors import ConfigError

EnumT = TypeVar("EnumT", bound=StrEnum)


class Auto(int):
    """0 that is meant as `auto`: where the word can be said, a plain 0 is a number out of range."""


# What stands for `auto` in a setting of numbers that may be measured.
AUTO = Auto(0)


def check_choice(name: str, value: Any, kind: type[EnumT]) -> EnumT:
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(
            f"unknown {name} {value!r}; known are {', '.join(kind)}",
            hint=f"choose one of them with --{name.replace('_', '-')}",
        ) from None


def check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            f"{option} {value} is out of range: {low:g} to {high:g}",
            hint=f"choose a value in that range, or leave {option} out for the default",
        )


def check_names(kind: type[Any], values: dict[str, Any]) -> None:
    wanted = {f.name for f in dataclasses.fields(kind)}
    if set(values) != wanted:
        missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
        raise ConfigError(
            f"a saved {kind.__name__} has other entries than this version: "
            f"missing {missing}, unknown {unknown}",
            hint="the file was written by another version of cgd; use that version",
        )
