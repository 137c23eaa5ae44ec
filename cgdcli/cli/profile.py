"""`cgd profile`: parameters, MACs and FLOPs, latency, memory."""

from typing import Annotated

import typer

from cgdcli.cli.options import (
    BackboneOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.config import (
    CGDConfig,
    ProfileConfig,
    StrideMode,
    Transform,
)
from cgdcli.errors import ConfigError

_NETWORK_OPTIONS = ("backbone", "descriptors", "embedding_dim", "classes", "stride", "image_size")


def profile(
    context: typer.Context,
    checkpoint: Annotated[
        str | None,
        argument(
            metavar="CHECKPOINT",
            help="A checkpoint, a run, or weights; or describe a network below.",
        ),
    ] = None,
    backbone: BackboneOption = CGDConfig.backbone,
    descriptors: Annotated[str, option(help="Letters of S M G R C W.")] = CGDConfig.descriptors,
    embedding_dim: Annotated[
        int, option(min=0, help="Length of the embedding; 0: pooled, no projection.")
    ] = 512,
    classes: Annotated[int, option(min=0, help="Of the auxiliary classifier.")] = CGDConfig.classes,
    stride: Annotated[StrideMode, option(help="Stride mode.")] = CGDConfig.stride,
    image_size: Annotated[int, option(help="Input size in pixels.")] = Transform.image_size,
    batch_size: Annotated[int, option(min=1, help="Pictures a timed pass.")] = (
        ProfileConfig.batch_size
    ),
    repeats: Annotated[int, option(min=1, help="Timed passes.")] = ProfileConfig.repeats,
    device: DeviceOption = ProfileConfig.device,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Count parameters, MACs and FLOPs (two per MAC) by stage; measure latency and memory.

    Example: cgd profile --backbone resnet50 --embedding-dim 1536 --classes 98
    """
    from cgdcli.profiling import profile_model
    from cgdcli.views.profile import profile_table

    out = Output(quiet=quiet, verbose=verbose)
    described = [name for name in _NETWORK_OPTIONS if was_given(context, name)]
    if checkpoint is not None and described:
        raise ConfigError(
            f"{checkpoint} says its whole network; --{described[0].replace('_', '-')} cannot "
            "be given beside it",
            hint="leave out the checkpoint, or the options",
        )
    network = CGDConfig(
        backbone=backbone,
        stride=stride,
        descriptors=descriptors,
        embedding_dim=embedding_dim or None,
        classes=classes,
        transform=Transform(image_size=image_size),
    )
    report = profile_model(
        network if checkpoint is None else checkpoint,
        ProfileConfig(batch_size=batch_size, repeats=repeats, device=device),
    )
    if as_json:
        out.json(report.to_dict())
    else:
        out.show(profile_table(report))
