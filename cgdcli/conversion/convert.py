"""Converting: plan, refuse or write, and read back what was written."""

import time
from pathlib import Path

from cgdcli.config import ConvertConfig
from cgdcli.conversion.plan import Prepared, prepare
from cgdcli.errors import CheckpointError
from cgdcli.files import OnBytes, check_output
from cgdcli.reports import ConversionReport
from cgdcli.weights.checkpoint import Checkpoint, verify_written


def convert_weights(
    source: Path | str,
    target: Path | str | None = None,
    config: ConvertConfig | None = None,
    *,
    embedder: Path | str | None = None,
    force: bool = False,
    on_progress: OnBytes | None = None,
) -> ConversionReport:
    """Convert a foreign weights file (`weights.foreign.FORMATS`) to a cgd checkpoint.

    What tensors cannot say is taken from `config`, else from the file itself, its name or its
    format, else by an assumption that the report, the new file and every later use of it name.

    Args:
        target: the new .safetensors file; None for the source's name with that suffix.
        embedder: the file of what follows the trunk in `source`; None for the one beside it by
            name (`trunk_best.pth`, `embedder_best.pth`), if there is one.

    Raises:
        CheckpointError: unreadable, unknown entries, shapes that do not fit, letters unknown.
        MismatchError: letters or dimension contradict the tensors.
        OutputError: the target exists (without `force`) or cannot be written.
    """
    started = time.monotonic()
    source = Path(source)
    target = checked_target(source, target, ".safetensors", force=force)
    prepared = prepare(source, config, embedder, on_progress)
    checkpoint = as_checkpoint(prepared)
    written = checkpoint.save(target, on_progress)
    verify_written(target, checkpoint, on_progress)
    plan = prepared.plan
    return ConversionReport(
        **plan.__dict__,
        target=target,
        not_finite=tuple(
            name
            for name, tensor in checkpoint.tensors.items()
            if not name.startswith("classifier.") and not tensor.isfinite().all()
        ),
        fingerprint=written,
        seconds=time.monotonic() - started,
    )


def as_checkpoint(prepared: Prepared) -> Checkpoint:
    """The foreign file as one of ours, in memory.

    Raises:
        CGDError: the plan's `error`.
    """
    if prepared.error is not None:
        raise prepared.error
    assert prepared.config is not None
    plan = prepared.plan
    return Checkpoint(
        prepared.config,
        {n: t.float() if t.is_floating_point() else t.long() for n, t in prepared.tensors.items()},
        origin={"converted_from": plan.source.name, "format": plan.format},
        assumed=plan.assumed,
    )


def checked_target(source: Path, target: Path | str | None, suffix: str, *, force: bool) -> Path:
    """Where to write: never over the source, never over anything else without `force`.

    Raises:
        CheckpointError: it is the source.
        OutputError: see `files.check_output`.
    """
    target = Path(target) if target is not None else source.with_suffix(suffix)
    if target.suffix != suffix:
        target = target.with_name(target.name + suffix)
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(
            f"`{source}` would be written over itself", hint="name another file with -o"
        )
    check_output(target, force=force, what="checkpoint")
    return target
