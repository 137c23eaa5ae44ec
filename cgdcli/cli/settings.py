"""Options of `cgd train`, made from the fields of `TrainConfig`: name and help stand there."""

import dataclasses
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from cgdcli.cli.options import option
from cgdcli.config import RECIPES, Recipe, TrainConfig
from cgdcli.config.training import option_name

SETTINGS = tuple(field.name for field in dataclasses.fields(TrainConfig))


def with_settings(command: Callable[..., int]) -> Callable[..., int]:
    """The command with one option for each setting in place of its `**settings`.

    An option that is not given is None: the config file, then the recipe, say what it is.
    """
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    first = [p for p in own if p.name in ("context", "data")]
    rest = [p for p in own if p not in first]
    parameters = [*first, *(_parameter(field) for field in dataclasses.fields(TrainConfig)), *rest]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(field: "dataclasses.Field[Any]") -> inspect.Parameter:
    kind = field.type
    how: dict[str, Any] = {"metavar": "NAME"} if field.name in ("backbone", "loss") else {}
    if field.metadata.get("auto"):
        how = {"metavar": "<int>|auto", "parser": _whole_or_auto}
    shown = option(option_name(field.name), help=_help(field), show_default=False, **how)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, shown],  # type: ignore[operator]
    )


def _whole_or_auto(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor `auto`.") from None


def _help(field: "dataclasses.Field[Any]") -> str:
    """Words, then the default, and the reference's where it is another."""
    words = str(field.metadata["help"])
    reference = RECIPES[Recipe.reference].get(field.name, field.default)
    default = f"default: {_plain(field.default)}"
    if reference != field.default and field.name not in ("recipe", "evaluations"):
        default += f"; reference: {_plain(reference)}"
    return f"{words}  [{default}]"


def _plain(value: Any) -> str:
    return (
        value.value
        if isinstance(value, StrEnum)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value) or "none"
    )


def given_settings(context: typer.Context) -> dict[str, Any]:
    """Settings from the command line, else the environment."""
    return {name: context.params[name] for name in SETTINGS if context.params[name] is not None}
