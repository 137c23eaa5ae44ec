"""`cgd convert-weights`: a foreign weights file becomes a cgd checkpoint, or the other way."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cgdcli.cli.options import ForceOption, JsonOption, QuietOption, VerboseOption, argument, option
from cgdcli.cli.output import Output
from cgdcli.config import ConvertConfig, Foreign, Strict, StrideMode, Transform
from cgdcli.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from cgdcli.reports import ConversionPlan

_NUMBERS = "Three numbers, such as 0.485,0.456,0.406."


def convert_weights(
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
    if to is not None:
        _export(out, old, output, to, said, plan=plan, force=force, as_json=as_json)
        return
    if plan:
        _show_plan(out, old, said, embedder, as_json=as_json)
        return
    from cgdcli.conversion import convert_weights as convert
    from cgdcli.views.conversion import conversion_lines, entry_lines

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
