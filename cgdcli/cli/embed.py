"""`cgd embed`: pictures become an index."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cgdcli.cli.options import (
    EXIT_SKIPPED,
    PLAIN_SCALES,
    BatchSizeOption,
    DeviceOption,
    DimOption,
    EngineOption,
    ExactDecodeOption,
    FlipOption,
    JsonOption,
    ModelOption,
    QuietOption,
    RowTypeOption,
    ScalesOption,
    VerboseOption,
    WhitenOption,
    WorkersOption,
    argument,
    option,
    vectors_of,
)
from cgdcli.cli.output import Output
from cgdcli.config import EmbedConfig, EmbedPrecision, VectorConfig
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.launch import is_launched, rank
from cgdcli.words import counted


def embed(
    output: Annotated[
        Path,
        option("--output", "-o", help="The index: feats.npy (+ .sqlite), be it at an address."),
    ],
    images: Annotated[
        list[Path] | None,
        argument(
            metavar="IMAGES",
            help="Pictures, folders (read recursively), patterns in quotes: 'imgs/**/*.jpg', or "
            "addresses: s3://bucket/folder (extra `cloud`).",
        ),
    ] = None,
    files_from: Annotated[
        str | None,
        option(
            metavar="FILE", help="Instead of IMAGES: a list of pictures, a line each; -: stdin."
        ),
    ] = None,
    null: Annotated[
        bool, option("--null", "-0", help="The list's files end with NUL, as of find -print0.")
    ] = False,
    model: ModelOption = None,
    labels: Annotated[
        str,
        option(help="`folder` (class folders, where there are), `none`, or a table: path,label."),
    ] = "folder",
    exclude: Annotated[
        list[str] | None,
        option(
            metavar="PATTERN",
            help="Leave out pictures whose name, or a folder of theirs, matches; with a / the "
            "path below IMAGES. May be given several times.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        option("--verify", help="Compare pictures with the index by content, not size and time."),
    ] = False,
    rebuild: Annotated[
        bool,
        option("--rebuild", help="Start over, also from other pictures or another model."),
    ] = False,
    parts: Annotated[
        int | None,
        option(
            min=1,
            help="Make the index in so many parts, feats.00000-of-00016.npy ...; every command "
            "takes them as one. Under torchrun each process makes its share; default: one each.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        option(
            metavar="I/N",
            help="Make part I, from 0, of N alone: in a job array $SLURM_ARRAY_TASK_ID/16 (Slurm) "
            "or $JOB_COMPLETION_INDEX/16 (Kubernetes).",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        option(
            metavar="[ADDRESS]",
            help="Let a Ray cluster make the parts (extra `ray`): host:port, ray://host:port or "
            "`local`; alone: the one that runs, else one on this machine for the time.",
        ),
    ] = None,
    batch_size: BatchSizeOption = EmbedConfig.batch_size,
    max_megapixels: Annotated[
        float, option(help="Skip pictures that claim more pixels: a bomb fills the memory.")
    ] = EmbedConfig.max_megapixels,
    engine: EngineOption = EmbedConfig.engine,
    precision: Annotated[
        EmbedPrecision,
        option(
            help="Other than fp32: taken if it finds what fp32 finds on a sample. auto: the "
            "fastest that does. int8: OpenVINO on a CPU; calibrated on the pictures by the extra "
            "int8."
        ),
    ] = EmbedConfig.precision,
    exact_decode: ExactDecodeOption = EmbedConfig.exact_decode,
    flip: FlipOption = VectorConfig.flip,
    scales: ScalesOption = PLAIN_SCALES,
    whiten: WhitenOption = VectorConfig.whiten,
    dim: DimOption = VectorConfig.dim,
    dtype: RowTypeOption = VectorConfig.dtype,
    workers: WorkersOption = EmbedConfig.workers,
    device: DeviceOption = EmbedConfig.device,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Embed pictures into an index that remembers its model: feats.npy and feats.sqlite.

    Given again, the same line embeds only what is new or has changed, and drops what is gone; after
    a run that was stopped or killed, it goes on from there.

    --flip, --scales, --whiten, --dim and --dtype are recorded in the index and applied to its
    queries; a projection stays as learned until --rebuild. What each gives on pictures of yours:
    cgd evaluate DATA with the same options.

    Pictures that cannot be read are skipped, listed and make the exit code 3. Files without a
    picture's extension are passed over.

    Parts: a picture's is a hash of its path below IMAGES: a folder that grows moves nothing. Each
    is refreshed, and survives a kill, by itself; jobs that make them need not know each other.
    """
    from cgdcli.embedding import EmbedRequest
    from cgdcli.embedding.sharing import embed_request
    from cgdcli.index.shards import Shard
    from cgdcli.views.tables import embed_lines, times_line

    out = Output(quiet=quiet, verbose=verbose, mute=rank() > 0)
    request = EmbedRequest(
        _sources(images, files_from, null),
        output,
        model=model,
        listed=files_from is not None,
        labels=labels,
        exclude=exclude or (),
        verify=verify,
        rebuild=rebuild,
        config=EmbedConfig(
            batch_size,
            workers,
            device,
            max_megapixels,
            engine=engine,
            precision=precision,
            exact_decode=exact_decode,
            vectors=vectors_of(flip, scales, whiten, dim, dtype),
        ),
    )
    one = None if shard is None else Shard.parse(shard)
    with out.progress("embedding") as on_progress:
        report = embed_request(request, shard=one, parts=parts, ray=ray, on_progress=on_progress)
    out.say(*embed_lines(report))
    if verbose and report.embedded:
        out.say(times_line(report))
    if quiet and report.skipped:
        out.warn(f"skipped {counted(len(report.skipped), 'picture')}: see inspect --skipped")
    if as_json:
        out.json(report.to_dict())
    # A launcher takes any other code for a failure, and stops the processes that are at work.
    return EXIT_SKIPPED if report.skipped and not is_launched() else 0


def _sources(images: list[Path] | None, files_from: str | None, null: bool) -> list[Path]:
    """What is to be embedded: IMAGES, or the files of a list."""
    if bool(images) == (files_from is not None):
        raise ConfigError(
            "one of IMAGES and --files-from is wanted, and not both",
            hint="cgd embed imgs/ -o feats.npy, or: find imgs -print0 | cgd embed --files-from - "
            "-0 -o feats.npy",
        )
    if files_from is None:
        if null:
            raise ConfigError(
                "-0 says how a list of files is read; there is none",
                hint="leave it out, or give --files-from FILE",
            )
        return images or []
    try:
        data = sys.stdin.buffer.read() if files_from == "-" else Path(files_from).read_bytes()
    except OSError as error:
        raise DatasetError(
            f"cannot read the list `{files_from}`: {error.strerror}",
            hint="name a file with one picture a line, or - for stdin",
        ) from error
    names = data.split(b"\0") if null else data.splitlines()
    return [Path(os.fsdecode(name)) for name in names if name]
