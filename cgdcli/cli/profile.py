"""`cgd profile`: parameters, MACs and FLOPs, latency, memory."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cgdcli.cli.options import (
    BackboneOption,
    DeviceOption,
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
    RESNETS,
    CGDConfig,
    ProfileConfig,
    StrideMode,
    Transform,
    check_descriptors,
)
from cgdcli.errors import ConfigError
from cgdcli.files import check_output, write_text

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
    stride: Annotated[
        StrideMode | None,
        option(help="Stride mode; default: layer3 of a torchvision ResNet, else standard."),
    ] = None,
    image_size: Annotated[int, option(help="Input size in pixels.")] = Transform.image_size,
    depth: Annotated[
        int, option(min=1, max=3, help="1: stages, 2: residual blocks, 3: every layer.")
    ] = 1,
    batch_size: Annotated[
        str, option(metavar="N[,N...]", help="Pictures a timed pass; several: one line each.")
    ] = "1",
    repeats: Annotated[
        int, option(min=1, help="Timed passes; below 100 the p99 is the slowest.")
    ] = ProfileConfig.repeats,
    compare: Annotated[
        str | None,
        option(
            metavar="V[,V...]",
            help="Variants side by side: stride modes, letters, or both as layer4:SG. The "
            "dimension is brought to a multiple of the letters.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        option(metavar="DIR", help="Time decoding, transform and network on a folder's pictures."),
    ] = None,
    pictures: Annotated[
        int, option(min=1, help="With --images: so many of them, evenly spaced.")
    ] = ProfileConfig.pictures,
    roofline: Annotated[
        bool, option("--roofline", help="Each stage beside this machine's measured peaks.")
    ] = False,
    html: Annotated[
        Path | None, option(metavar="FILE", help="Write a page with charts, too.")
    ] = None,
    device: DeviceOption = ProfileConfig.device,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Count parameters, MACs and FLOPs (two per MAC) by stage; measure latency and memory.

    Counts are exact and the same in every run; what is not counted is listed. Every timed pass is
    in the figures.

    Example: cgd profile --backbone resnet50 --embedding-dim 1536 --classes 98 --depth 2
    Example: cgd profile --compare layer3,layer4,standard
    Example: cgd profile runs/NAME --images photos/ --roofline --html profile.html
    """
    from cgdcli.profiling import compare_models, group_layers, profile_model
    from cgdcli.views.profile import compare_table, profile_table
    from cgdcli.views.profile_page import profile_page

    out = Output(quiet=quiet, verbose=verbose)
    _refuse_idle(context, checkpoint, compare=compare, images=images, html=html)
    config = ProfileConfig(
        batch_sizes=_sizes(batch_size),
        repeats=repeats,
        device=device,
        roofline=roofline,
        images=None if images is None else str(images),
        pictures=pictures,
    )
    if html is not None:
        check_output(html, force=force, what="page")
    network = CGDConfig(
        backbone=backbone,
        stride=stride or (CGDConfig.stride if backbone in RESNETS else StrideMode.standard),
        descriptors=descriptors,
        embedding_dim=embedding_dim or None,
        classes=classes,
        transform=Transform(image_size=image_size),
    )
    if compare is not None:
        if checkpoint is not None:
            from cgdcli.networks import as_model

            network = as_model(checkpoint).config
        comparison = compare_models(variants(network, compare), config)
        if as_json:
            out.json(comparison.to_dict())
        else:
            out.show(compare_table(comparison))
        if html is not None:
            write_text(html, profile_page(comparison))
        return
    report = profile_model(network if checkpoint is None else checkpoint, config)
    if as_json:
        out.json(report.to_dict())
    else:
        out.show(profile_table(report, group_layers(report.counts.layers, depth)))
    if html is not None:
        write_text(html, profile_page(report))
        out.say(f"page: {html}")


def variants(network: CGDConfig, text: str) -> dict[str, CGDConfig]:
    """`layer4,SMG,standard:G` to one config each, by these words; heads are CGD's own.

    Raises:
        ConfigError: a word that is neither stride mode nor letters.
    """
    found: dict[str, CGDConfig] = {}
    for word in text.split(","):
        first, _, second = word.strip().partition(":")
        is_stride = first in tuple(StrideMode)
        if not first or (second and not is_stride):
            raise ConfigError(
                f"--compare {text!r}: {word!r} is no variant",
                hint="write stride modes, letters or both, such as layer3,SMG,layer4:SG",
            )
        letters = second or (network.descriptors if is_stride else first)
        check_descriptors(letters)
        dim = network.embedding_dim
        if dim is not None:
            dim = max(1, round(dim / len(letters))) * len(letters)
        found[word.strip()] = replace(
            network,
            stride=StrideMode(first) if is_stride else network.stride,
            descriptors=letters,
            embedding_dim=dim,
            heads=(),
        )
    return found


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--batch-size {text!r} is not whole numbers", hint="such as 32, or 1,8,32"
        ) from error


def _refuse_idle(
    context: typer.Context,
    checkpoint: str | None,
    *,
    compare: str | None,
    images: Path | None,
    html: Path | None,
) -> None:
    """Refuse what was typed and would do nothing."""
    described = [name for name in _NETWORK_OPTIONS if was_given(context, name)]
    if checkpoint is not None and described:
        raise ConfigError(
            f"{checkpoint} says its whole network; --{described[0].replace('_', '-')} cannot "
            "be given beside it",
            hint="leave out the checkpoint, or the options",
        )
    for name, needed in (
        ("pictures", images is not None),
        ("force", html is not None),
        ("depth", compare is None),
        ("images", compare is None),
    ):
        if was_given(context, name) and not needed:
            other = {"pictures": "--images", "force": "--html"}.get(name)
            why = f"is for {other}" if other else "does not go with --compare"
            raise ConfigError(f"--{name} {why}", hint=f"leave out --{name}")
