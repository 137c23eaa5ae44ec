"""`cgd convert-weights`: a foreign weights file becomes a cgd checkpoint, or the other way."""

from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.convert_uses import (
    convert,
    data_base,
    export,
    is_data_base,
    show_plan,
    try_out,
)
from cgdcli.cli.options import (
    ForceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import (
    ConvertConfig,
    Device,
    Foreign,
    Strict,
    StrideMode,
    Transform,
    TrialConfig,
)
from cgdcli.errors import ConfigError

_NUMBERS = "Three numbers, such as 0.485,0.456,0.406."


# Options that only one use of the command knows; elsewhere they would do nothing.
_OF_TRIALS = ("pictures", "device")
_OF_DATA_BASES = ("model", "part")
_OF_WEIGHTS = (
    *("strict", "descriptors", "stride", "gem_p", "image_size", "mean", "std", "take"),
    "embedder",
)


def convert_weights(
    context: typer.Context,
    old: Annotated[
        Path,
        argument(metavar="OLD", help="A weights file, such as a .pth; or a checkpoint, with --to."),
    ],
    output: Annotated[
        Path | None,
        option("--output", "-o", help="The new file. Default: OLD's name with .safetensors."),
    ] = None,
    plan: Annotated[
        bool, option("--plan", help="Write nothing; show what becomes of every entry, and why.")
    ] = False,
    strict: Annotated[
        Strict, option(help="exact: every entry is there; inference: the classifier may lack.")
    ] = ConvertConfig.strict,
    descriptors: Annotated[
        str | None, option(help="Letters of S M G R C W in the branches' order, such as SG.")
    ] = None,
    stride: Annotated[
        StrideMode | None, option(help="Stride mode. The reference's only one is layer3.")
    ] = None,
    gem_p: Annotated[
        float | None, option(help="Exponent of G and W; 3 if nothing says it.")
    ] = None,
    image_size: Annotated[
        int | None, option(help=f"Input size in pixels; {Transform.image_size} if nothing says it.")
    ] = None,
    mean: Annotated[str | None, option(help=f"Of the pixels in [0, 1]. {_NUMBERS}")] = None,
    std: Annotated[str | None, option(help=f"Of the pixels in [0, 1]. {_NUMBERS}")] = None,
    take: Annotated[
        str | None,
        option(metavar="KEY", help="Which weights, if the file has several, such as state_dict."),
    ] = None,
    embedder: Annotated[
        Path | None,
        option(help="What follows a trunk, from its own file. Default: embedder_X for trunk_X."),
    ] = None,
    try_on: Annotated[
        Path | None,
        option(
            "--try",
            metavar="DIR",
            help="Write nothing; measure Recall@1 on a folder of classes: of every stride, letters "
            "and p, then of every size, mean and std with the best of those.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        option(
            help="Write nothing; find the reading that makes these embeddings of the old code: an "
            ".npy of the pictures in --try DIR, or a *_data_base.pth."
        ),
    ] = None,
    pictures: Annotated[
        int, option(min=4, help="With --try or --against: at most so many pictures.")
    ] = TrialConfig.pictures,
    device: Annotated[
        Device, option(help="With --try or --against: where to compute.")
    ] = TrialConfig.device,
    model: Annotated[
        str | None,
        option(help="With OLD a *_data_base.pth: the converted model that made it, to be proved."),
    ] = None,
    part: Annotated[
        str | None,
        option(help="With OLD a *_data_base.pth: gallery, test or train. Default: the first."),
    ] = None,
    to: Annotated[
        Foreign | None, option(help="The other way: write checkpoint OLD under these names.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Convert old weights to a cgd checkpoint: strip a profiler's entries, rename, check, write.

    What tensors cannot say (letters, stride mode, p, image size, mean and std) is taken from the
    options, else from the file, its name or its format, else by an assumption that is announced
    and kept in the new file.

    A file that would run code when loaded (a whole pickled model, a Namespace, numpy scalars) is
    refused, and nothing of it is run. If you trust it, load it where it was made and save
    model.state_dict() alone.

    A *_data_base.pth of leftthomas/CGD (embeddings, paths, labels) becomes an index.

    Example: cgd convert-weights old.pth --against old_data_base.pth
    """
    out = Output(quiet=quiet, verbose=verbose)
    said = ConvertConfig(
        descriptors,
        stride,
        gem_p,
        image_size,
        _three("--mean", mean),
        _three("--std", std),
        strict,
        take,
    )
    trying = try_on is not None or against is not None
    _refuse_idle(context, trying=trying, plan=plan, to=to)
    if to is not None:
        export(out, old, output, to, said, plan=plan, force=force, as_json=as_json)
        return
    if is_data_base(old):
        _refuse_for_data_base(context, old)
        data_base(out, old, output, model, part, force=force, as_json=as_json)
        return
    _refuse(context, _OF_DATA_BASES, f"is for a *_data_base.pth; `{old}` holds weights")
    if trying:
        trial = TrialConfig(pictures=pictures, device=device)
        try_out(out, old, said, embedder, try_on, against, trial, as_json=as_json)
    elif plan:
        show_plan(out, old, said, embedder, as_json=as_json)
    else:
        convert(out, old, output, said, embedder, force=force, as_json=as_json)


def _refuse_idle(context: typer.Context, *, trying: bool, plan: bool, to: Foreign | None) -> None:
    """Refuse what was typed and would do nothing."""
    if trying or plan:
        _refuse(
            context,
            ("output", "force", *_OF_DATA_BASES),
            f"does nothing here: {'--try and --against write' if trying else '--plan writes'} "
            "nothing",
        )
    if trying:
        _refuse(context, ("plan", "to"), "does not go with --try and --against")
    else:
        _refuse(context, _OF_TRIALS, "is for --try and --against")
    if to is not None:
        _refuse(context, (*_OF_DATA_BASES, "embedder"), "does not go with --to")


def _refuse_for_data_base(context: typer.Context, old: Path) -> None:
    """A data base is embeddings: nothing of a network is to be said of it."""
    _refuse(
        context,
        ("plan",),
        f"is for weights; `{old}` is a data base of embeddings: cgd inspect says what is in it",
    )
    _refuse(
        context,
        ("try_on", "against"),
        f"is for weights; `{old}` is a data base of embeddings. Name the weights, and it with "
        "--against",
    )
    _refuse(context, _OF_WEIGHTS, f"is for weights; `{old}` is a data base of embeddings")


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if was_given(context, name):
            shown = {"try_on": "try"}.get(name, name).replace("_", "-")
            raise ConfigError(f"--{shown} {why}", hint=f"leave out --{shown}")


def _three(name: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{name} {text!r} is not three numbers",
            hint=f"red, green and blue, separated by commas: {name} 0.5,0.5,0.5",
        ) from error
    return red, green, blue
