"""`cgd train`: a network from class folders."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cgdcli.cli.options import (
    DATA_HELP,
    EXIT_SKIPPED,
    BackboneOption,
    CropBoxOption,
    DatasetOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
    argument,
    option,
    was_given,
)
from cgdcli.cli.output import Output
from cgdcli.cli.train_display import TrainDisplay
from cgdcli.config import StrideMode, TrainConfig
from cgdcli.errors import ConfigError
from cgdcli.words import counted

_NOT_SETTINGS = ("data", "name", "runs", "resume", "as_json", "quiet", "verbose")


def train(
    context: typer.Context,
    data: Annotated[Path | None, argument(metavar="DATA", help=DATA_HELP)] = None,
    dataset: DatasetOption = TrainConfig.dataset,
    crop_box: CropBoxOption = TrainConfig.crop_box,
    backbone: BackboneOption = TrainConfig.backbone,
    descriptors: Annotated[
        str,
        option(
            help="Letters of S (SPoC, mean) M (MAC, max) G (GeM) R (R-MAC) C (CroW) W (weighted "
            "GeM); the first feeds the auxiliary classifier."
        ),
    ] = TrainConfig.descriptors,
    embedding_dim: Annotated[
        int, option(help="Length of the embedding; divisible by the number of descriptors.")
    ] = TrainConfig.embedding_dim,
    stride: Annotated[
        StrideMode, option(help="The stage whose stride is removed; `standard`: none.")
    ] = TrainConfig.stride,
    image_size: Annotated[int, option(help="Input size in pixels.")] = TrainConfig.image_size,
    backbone_weights: Annotated[
        str,
        option(
            help="`default` (ImageNet, downloaded once), `none`, or a file (.pth, .safetensors)."
        ),
    ] = TrainConfig.backbone_weights,
    epochs: Annotated[int, option(help="Passes over the pictures.")] = TrainConfig.epochs,
    batch_size: Annotated[int, option(help="Pictures a step.")] = TrainConfig.batch_size,
    per_class: Annotated[int, option(help="Pictures of a class in a batch.")] = (
        TrainConfig.per_class
    ),
    learning_rate: Annotated[
        float, option(help="Adam's; a tenth after 60 % and a hundredth after 80 % of the epochs.")
    ] = TrainConfig.learning_rate,
    val_fraction: Annotated[
        float, option(help="Share of the CLASSES held out to choose `best`, if there is no val.")
    ] = TrainConfig.val_fraction,
    seed: Annotated[int, option(help="Of heads, batches, crops and held-out classes.")] = (
        TrainConfig.seed
    ),
    name: Annotated[
        str | None, option(help="Of the run; default: date-time-backbone-letters.")
    ] = None,
    runs: Annotated[Path, option(help="Folder of the runs.")] = Path("runs"),
    resume: Annotated[
        bool,
        option("--resume", help="Go on with --name, or the newest unfinished run, as it began."),
    ] = False,
    workers: WorkersOption = TrainConfig.workers,
    device: DeviceOption = TrainConfig.device,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Train a CGD on a folder of classes; keep `best` and `last` under runs/NAME.

    `best` is chosen on val, else on classes held out of train, never on test, which is judged once
    at the end. The reference's ResNet-50 line:

    cgd train data/ --backbone resnet50 --embedding-dim 1536
    """
    from cgdcli.training.loop import train as run
    from cgdcli.views.tables import train_lines

    out = Output(quiet=quiet, verbose=verbose)
    values = {key: value for key, value in context.params.items() if key not in _NOT_SETTINGS}
    if resume:
        _refuse_settings(context, values)
    with TrainDisplay(out) as display:
        report = run(
            data,
            TrainConfig(**values),
            runs=runs,
            name=name,
            resume=resume,
            **(_changes(context) if resume else {}),
            on_report=display.show,
        )
    *result, next_line = train_lines(report)
    if as_json:
        out.say(*result)
        out.json(report.to_dict())
    else:
        out.lines(line + "\n" for line in result)
    out.say(next_line)
    if report.skipped:
        out.warn(f"skipped {counted(len(report.skipped), 'picture')} that could not be read")
    return EXIT_SKIPPED if report.skipped else 0


def _changes(context: typer.Context) -> dict[str, Any]:
    """What may differ on a resume, as it does not change the result: where and with how many."""
    return {n: context.params[n] for n in ("device", "workers") if was_given(context, n)}


def _refuse_settings(context: typer.Context, names: dict[str, object]) -> None:
    """A resumed run has its own settings; an option that would do nothing is an error."""
    for name in names:
        if name not in ("device", "workers") and was_given(context, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} cannot be changed on --resume: the run keeps the "
                "settings it began with",
                hint="leave it out, or start another run",
            )
