"""Options that several commands share, and the way every option is declared."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cgdcli.config import Dataset, Device, EngineName, RowType, VectorConfig, backbone_words
from cgdcli.config.vectors import scales_of

# Each option is also CGD_<COMMAND>_<OPTION>; `cgd --help` says so once instead of on every line.
option = partial(typer.Option, show_envvar=False)
argument = partial(typer.Argument, show_envvar=False)

EXIT_SKIPPED = 3  # done, but pictures were skipped

QuietOption = Annotated[
    bool, option("--quiet", "-q", help="Say nothing but the result, warnings and errors.")
]
VerboseOption = Annotated[
    bool, option("--verbose", "-v", help="Say more: model, device, every entry or fact.")
]
JsonOption = Annotated[bool, option("--json", help="Print the result as JSON.")]
DeviceOption = Annotated[Device, option(help="Where to compute.")]
ForceOption = Annotated[bool, option("--force", help="Replace an existing output file.")]
WorkersOption = Annotated[
    int, option(min=0, help="Threads that read pictures; 0: as many as cores, at most 8.")
]
EngineOption = Annotated[
    EngineName,
    option(help="What computes; `auto`: OpenVINO on a CPU (extra `fast`), else PyTorch."),
]
BatchSizeOption = Annotated[
    int, option(min=0, help="Pictures a forward pass; 0: what suits the device.")
]
ExactDecodeOption = Annotated[
    bool,
    option(
        "--exact-decode",
        help="Decode pictures whole. Else a JPEG of four times the input's size or more at a "
        "fraction of it: up to twice as fast, cosine .9998.",
    ),
]
FlipOption = Annotated[
    bool, option("--flip", help="Embed each picture and its mirror image, and average the two.")
]
ScalesOption = Annotated[
    str,
    option(
        metavar="LIST",
        help="Embed each picture at these multiples of the image size (rounded to pixels), and "
        "average: 0.7,1,1.4.",
    ),
]
WhitenOption = Annotated[
    bool, option("--whiten", help="PCA-whiten, as learned on these pictures, without labels.")
]
DimOption = Annotated[
    int | None, option(min=1, help="Cut to so many columns by PCA, as learned on these pictures.")
]
RowTypeOption = Annotated[RowType, option("--dtype", help="Of the rows; float16 halves the file.")]
DATA_HELP = (
    "Class folders (DATA/train/<class>/* with val and/or test beside it, or classes alone), a "
    "table (.csv, .jsonl, .parquet: path, label, split ...), or CUB-200-2011, Cars196, Stanford "
    "Online Products or In-shop as they unpack."
)
DatasetOption = Annotated[
    Dataset,
    option(help="How DATA is laid out; `auto` recognises it, and says so where it is a benchmark."),
]
CropBoxOption = Annotated[
    bool,
    option("--crop-box", help="Cut out the boxes that a benchmark comes with; a table's always."),
]
_MODEL_KINDS = (
    "A checkpoint, a run's folder, a torchvision weights file, or a backbone such as resnet50 or "
    "timm:NAME (pretrained, untrained: its pooled descriptors). "
)
BackboneOption = Annotated[
    str, option(metavar="NAME", help=f"The trunk by its name: {backbone_words()}.")
]
MODEL_HELP = _MODEL_KINDS + "Default: $CGD_MODEL, else the newest finished run under ./runs."
ModelOption = Annotated[str | None, option("--model", help=MODEL_HELP)]
IndexModelOption = Annotated[
    str | None,
    option("--model", help=_MODEL_KINDS + "Default: the one that made the index, as it records."),
]
RootOption = Annotated[
    Path | None, option("--root", help="Look for the index's pictures in this folder first.")
]


PLAIN_SCALES = ",".join(f"{scale:g}" for scale in VectorConfig.scales)


def vectors_of(
    flip: bool, scales: str, whiten: bool, dim: int | None, dtype: RowType
) -> VectorConfig:
    """What the five options say together."""
    return VectorConfig(flip, scales_of(scales), whiten, dim, dtype)


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was typed; one from the environment is a default of that machine."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
