"""The uses of `cgd convert-weights`, one function each: call the job, show its report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cgdcli.cli.output import Output
from cgdcli.config import ConvertConfig, Foreign, TrialConfig
from cgdcli.errors import CheckpointError, ConfigError, MismatchError

if TYPE_CHECKING:
    from cgdcli.reports import ConversionPlan, TrialReport


def is_data_base(old: Path) -> bool:
    """Whether a file is a *_data_base.pth; torch is imported only here."""
    from cgdcli.conversion import is_data_base_file

    return is_data_base_file(old)


def convert(
    out: Output,
    old: Path,
    output: Path | None,
    said: ConvertConfig,
    embedder: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """A foreign file becomes a checkpoint."""
    from cgdcli.conversion import convert_weights
    from cgdcli.views.conversion import conversion_lines, entry_lines

    with out.byte_progress("converting") as on_progress:
        report = convert_weights(
            old, output, said, embedder=embedder, force=force, on_progress=on_progress
        )
    _warn_assumed(out, report)
    if report.not_finite:
        out.warn(
            f"{', '.join(report.not_finite[:3])} hold NaN or infinity, as the file does: no "
            "embedding can be made with them"
        )
    if out.verbose:
        out.say(*entry_lines(report))
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(line + "\n" for line in conversion_lines(report))
    out.say(f"next: cgd embed IMAGES -o feats.npy --model {shlex.quote(str(report.target))}")


def show_plan(
    out: Output, old: Path, said: ConvertConfig, embedder: Path | None, *, as_json: bool
) -> None:
    """What becomes of every entry; nothing is written."""
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


def try_out(
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
    """Every reading measured; nothing is written."""
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
        raise _not_proved(old, against, report)


def _not_proved(old: Path, against: Path, report: "TrialReport") -> MismatchError:
    from cgdcli.conversion.old_rows import NEAR_DIFFERENCE

    difference = report.scores[0].max_difference or 0.0
    if difference < NEAR_DIFFERENCE:
        return MismatchError(
            f"the nearest reading of `{old}` is near the embeddings of `{against}`, not equal: it "
            f"differs by up to {difference:.1e} in cosine, or another fits as well",
            hint="half precision or TF32 in the old code makes as much; so does a p, a mean or a "
            "size that is not among those tried: say it with --gem-p, --mean, --image-size",
        )
    return MismatchError(
        f"no reading of `{old}` makes the embeddings of `{against}`: the nearest differs by up to "
        f"{difference:.1e} in cosine",
        hint="other weights, other pictures or another transform made them",
    )


def data_base(
    out: Output,
    old: Path,
    output: Path | None,
    model: str | None,
    part: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Embeddings of the old code become an index."""
    from cgdcli.conversion import convert_data_base
    from cgdcli.views.conversion import data_base_lines

    report = convert_data_base(old, output, part=part, model=model, force=force)
    if as_json:
        out.json(report.to_dict())
        return
    out.lines(line + "\n" for line in data_base_lines(report))
    out.say(f"next: cgd search row:0 --index {shlex.quote(str(report.target))}")


def export(
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
    """A checkpoint under another tool's names."""
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
