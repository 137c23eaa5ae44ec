"""Which options of `cgd evaluate` go together."""

from pathlib import Path

import typer

from cgdcli.cli.options import was_given
from cgdcli.config import VectorConfig
from cgdcli.errors import ConfigError

_EMBEDDING = ("batch_size", "workers", "device", "exact_decode")
_NOT_OF_TWO = (
    *("data", "query", "gallery", "model", "dataset", "crop_box"),
    *("per_class", "confused"),
)
_DETAILS = ("table", "ignore_same", "per_class", "confused")


def check_options(
    context: typer.Context,
    index: Path | None,
    vectors: VectorConfig,
    *,
    steps: bool,
    against: Path | None,
    calibrate: bool,
) -> None:
    """Refuse what would do nothing.

    Raises:
        ConfigError: it says which option, and why.
    """
    _check_index(context, index, vectors, steps)
    if steps or str(vectors):
        beside = "--steps" if steps else str(vectors)
        _refuse(context, (*_DETAILS, "against"), f"beside {beside}: each step has its own figures")
    if calibrate:
        if index is None:
            raise ConfigError(
                "--calibrate counts pairs of rows of an index, and there is no --index",
                hint="cgd evaluate --index feats.npy --calibrate",
            )
        names = (*_NOT_OF_TWO, *_DETAILS, "ranks", "steps", "against")
        _refuse(context, names, "beside --calibrate, which counts pairs of all labelled rows")
    if against is not None:
        if index is None:
            raise ConfigError(
                f"--against {against} is a second index, and there is no first",
                hint=f"cgd evaluate --index feats.npy --against {against}",
            )
        _refuse(context, _NOT_OF_TWO, "beside --against, which compares two indexes")


def check_rerank(context: typer.Context, index: Path | None) -> None:
    """Refuse what would do nothing beside --rerank."""
    if index is None:
        raise ConfigError(
            "--rerank is measured on the rows of an index, and there is no --index",
            hint="cgd embed DATA -o feats.npy, then cgd evaluate --index feats.npy --rerank ...",
        )
    names = (*_NOT_OF_TWO, "steps", "against", "calibrate")
    _refuse(context, names, "beside --rerank, which compares two orders of the hits")


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    useless = [name for name in names if was_given(context, name)]
    if useless:
        option = "DATA" if useless[0] == "data" else f"--{useless[0].replace('_', '-')}"
        raise ConfigError(f"{option} does nothing {why}", hint="leave it out")


def _check_index(
    context: typer.Context, index: Path | None, vectors: VectorConfig, steps: bool
) -> None:
    useless = [name for name in _EMBEDDING if was_given(context, name)]
    if steps:  # which embeds, as the index records
        useless = ["exact_decode"] if "exact_decode" in useless else []
    if index is not None and useless:
        why = "the index records it" if steps else "no picture is embedded"
        raise ConfigError(
            f"--{useless[0].replace('_', '-')} does nothing beside --index: {why}",
            hint="leave it out",
        )
    if index is not None and str(vectors):
        raise ConfigError(
            f"{vectors} beside --index: rows of an index are as they are, and it records how",
            hint="leave it out; add --steps to see what each recorded step gave",
        )
    if steps and index is None:
        raise ConfigError(
            "--steps shows what an index records; there is no --index",
            hint="name the index, or name the steps: cgd evaluate DATA --flip --whiten",
        )


def ranks_of(text: str) -> list[int]:
    """`1,2,4` as numbers, ascending.

    Raises:
        ConfigError: it is no such list.
    """
    try:
        ranks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        ranks = [0]
    if ranks[0] < 1:
        raise ConfigError(
            f"--ranks {text!r} is not a list of whole numbers from 1", hint="try --ranks 1,2,4,8"
        )
    return ranks
