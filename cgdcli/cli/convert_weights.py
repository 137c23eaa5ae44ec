"""`cgd convert-weights`: a foreign weights file becomes a cgd checkpoint, or the other way."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from cgdcli.errors import CheckpointError, ConfigError, MismatchError

if TYPE_CHECKING:
    from cgdcli.reports import ConversionPlan

_NUMBERS = "Three numbers, such as 0.485,0.456,0.406."


# Options that only one use of the command knows; elsewhere they would do nothing.
_OF_TRIALS = ("pictures", "device")
_OF_DATA_BASES = ("model", "part")


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
            help="Write nothing; measure Recall@1 of every reading on a folder of classes.",
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
    if trying:
        trial = TrialConfig(pictures=pictures, device=device)
        _try(out, old, said, embedder, try_on, against, trial, as_json=as_json)
        return
    if to is not None:
        _export(out, old, output, to, said, plan=plan, force=force, as_json=as_json)
        return
    if plan:
        _show_plan(out, old, said, embedder, as_json=as_json)
        return
    from cgdcli.conversion import convert_weights as convert
    from cgdcli.conversion import is_data_base_file

    if is_data_base_file(old):
        _convert_data_base(out, old, output, model, part, force=force, as_json=as_json)
        return
    from cgdcli.views.conversion import conversion_lines, entry_lines

    idle = [name for name in _OF_DATA_BASES if was_given(context, name)]
    if idle:
        raise ConfigError(
            f"--{idle[0]} is for a *_data_base.pth; `{old}` holds weights",
            hint=f"leave out --{idle[0]}",
        )
    with out.byte_progress("converting") as on_progress:
        report = convert(old, output, said, embedder=embedder, force=force, on_progress=on_progress)
    _warn_assumed(out, report)
    if verbose:
        out.say(*entry_lines(report))
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(line + "\n" for line in conversion_lines(report))
    out.say(f"next: cgd embed IMAGES -o feats.npy --model {shlex.quote(str(report.target))}")


def _refuse_idle(context: typer.Context, *, trying: bool, plan: bool, to: Foreign | None) -> None:
    """Refuse what was typed and would do nothing."""
    given = {
        name: was_given(context, name)
        for name in ("output", "force", "plan", "to", *_OF_TRIALS, *_OF_DATA_BASES)
    }
    writes_nothing = "--try and --against" if trying else "--plan" if plan else ""
    for name in ("output", "force", *_OF_DATA_BASES) if writes_nothing else ():
        if given[name]:
            raise ConfigError(
                f"--{name} does nothing here: {writes_nothing} write nothing"
                if trying
                else f"--{name} does nothing here: --plan writes nothing",
                hint=f"leave out --{name}",
            )
    for name in ("plan", "to") if trying else _OF_TRIALS:
        if given[name]:
            why = "does not go with --try and --against" if trying else "is for --try and --against"
            raise ConfigError(f"--{name} {why}", hint=f"leave out --{name}")


def _show_plan(
    out: Output, old: Path, said: ConvertConfig, embedder: Path | None, *, as_json: bool
) -> None:
    from cgdcli.conversion import plan_conversion
    from cgdcli.views.conversion import plan_lines, plan_table

    plan = plan_conversion(old, said, embedder=embedder)
    if as_json:
        out.json(plan.to_dict())
    else:
        out.show(plan_table(plan))
        out.lines(line + "\n" for line in plan_lines(plan))
    _warn_assumed(out, plan)
    if plan.problems:
        raise CheckpointError(
            f"`{old}` cannot be converted as it is: {plan.problems[0]}",
            hint="nothing was written; the plan above names every entry",
        )


def _try(
    out: Output,
    old: Path,
    said: ConvertConfig,
    embedder: Path | None,
    folder: Path | None,
    against: Path | None,
    trial: TrialConfig,
    *,
    as_json: bool,
) -> None:
    from cgdcli.conversion import try_readings
    from cgdcli.views.trial import trial_lines, trial_table

    with out.progress("trying") as on_progress:
        report = try_readings(
            old,
            folder,
            said,
            against=against,
            trial=trial,
            embedder=embedder,
            on_progress=on_progress,
        )
    if as_json:
        out.json(report.to_dict())
    else:
        out.show(trial_table(report))
        out.lines(line + "\n" for line in trial_lines(report))
    if against is not None and not report.decided:
        raise MismatchError(
            f"no reading of `{old}` stands out as what made the embeddings of `{against}`: the "
            f"nearest differs by up to {report.scores[0].max_difference:.1e} in cosine",
            hint="other weights, other pictures or another transform made them; or take more "
            "pictures",
        )


def _convert_data_base(
    out: Output,
    old: Path,
    output: Path | None,
    model: str | None,
    part: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    from cgdcli.conversion import convert_data_base
    from cgdcli.views.conversion import data_base_lines

    report = convert_data_base(old, output, part=part, model=model, force=force)
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(line + "\n" for line in data_base_lines(report))
    out.say(f"next: cgd search row:0 --index {shlex.quote(str(report.target))}")


def _export(
    out: Output,
    source: Path,
    target: Path | None,
    to: Foreign,
    said: ConvertConfig,
    *,
    plan: bool,
    force: bool,
    as_json: bool,
) -> None:
    from cgdcli.conversion import export_weights
    from cgdcli.views.conversion import export_lines

    if plan or said != ConvertConfig(strict=said.strict):
        raise ConfigError(
            "--to writes a checkpoint as it is; --plan and what is said of a foreign file "
            "(--descriptors, --stride ...) do not go with it",
            hint=f"cgd convert-weights {shlex.quote(str(source))} --to {to}",
        )
    report = export_weights(source, to, target, strict=said.strict, force=force)
    if as_json:
        out.json(report.to_dict())
    else:
        out.lines(line + "\n" for line in export_lines(report))


def _warn_assumed(out: Output, plan: "ConversionPlan") -> None:
    if plan.assumed:
        out.warn(
            f"the file does not say everything; assumed: {'; '.join(plan.assumed)} "
            "(say otherwise with the options; measure which fits with --try DIR)"
        )


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
