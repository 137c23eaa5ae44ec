"""Job: pictures become an index."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cgdcli.config import EmbedConfig
from cgdcli.datasets.folders import folder_labels, read_label_table
from cgdcli.engines import Engine, Rows
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import DatasetError, OutputError
from cgdcli.files import check_output
from cgdcli.images.finding import FoundImage, Listing, absolute_path, find_images
from cgdcli.index.builder import IndexBuilder, check_replaceable
from cgdcli.index.records import IndexHeader, Picture, index_path, relative_to_index
from cgdcli.model.cgd import CGD
from cgdcli.reports import EmbedReport, ModelInfo, SkippedImage
from cgdcli.streaming import (
    EmbeddedBatch,
    Model,
    OnProgress,
    as_model,
    embed_files,
    model_info,
    nothing_readable,
)


def embed_images(
    sources: Iterable[Path | str] | Path | str,
    output: Path | str,
    *,
    model: Model = None,
    labels: str = "folder",
    rebuild: bool = False,
    config: EmbedConfig | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Embed files and folders into an index: `output` (.npy) and the `.sqlite` beside it.

    Args:
        model: a `CGD`, or what `weights.loading.load_model` takes.
        labels: `folder` (the class folder, where a source holds class folders), `none`, or the
            path of a CSV file with columns path,label.
        rebuild: replace an index of other sources or another model.

    Raises:
        DatasetError: no picture is found, or none can be read.
        MismatchError: `output` is something else than an index of these sources by this model.
        OutputError: it cannot be written.
    """
    config = config or EmbedConfig()
    started = time.monotonic()
    paths = [Path(s) for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
    target = checked_output(Path(output))
    listing = find_images(paths)
    _check_found(paths, listing)
    names = _labels(labels, listing.images)
    network = as_model(model)
    info = model_info(network)
    absolute = sorted(str(absolute_path(path)) for path in paths)
    check_replaceable(target, sources=absolute, model=info, rebuild=rebuild)
    engine = TorchEngine(network, config.device)
    with IndexBuilder(target, network.embedding_dim) as builder:
        labelled, skipped, zero_blocks = _fill(builder, engine, listing, names, config, on_progress)
        builder.finish(_header(builder, network, engine, info, absolute, labels))
    return EmbedReport(
        index=target,
        rows=builder.rows,
        embedding_dim=network.embedding_dim,
        model=info,
        seconds=time.monotonic() - started,
        skipped=skipped,
        passed_over=listing.passed_over,
        zero_blocks=zero_blocks,
        labels=len(labelled),
    )


def _fill(
    builder: IndexBuilder,
    engine: TorchEngine,
    listing: Listing,
    names: list[str | None],
    config: EmbedConfig,
    on_progress: OnProgress | None,
) -> tuple[set[str], tuple[SkippedImage, ...], int]:
    """Put every picture into the index.

    Returns:
        The labels that rows have, the pictures skipped, the number of rows with an all-zero block.
    """
    labels: set[str] = set()
    skipped: list[SkippedImage] = []
    zero_blocks = 0
    files = [image.file for image in listing.images]
    for batch in embed_files(engine, files, batch_size=config.batch_size, workers=config.workers):
        if len(batch.rows):
            zero_blocks += count_zero_blocks(batch.rows, engine.model.blocks)
            pictures = _pictures(batch, listing.images, names)
            labels |= {picture.label for picture in pictures if picture.label is not None}
            builder.append(batch.rows, pictures)
        for picture in batch.skipped:
            skipped.append(SkippedImage(str(picture.file), picture.reason))
            builder.skip(str(picture.file), picture.reason)
        if on_progress:
            on_progress(builder.rows + len(skipped), len(files), len(skipped))
    if not builder.rows:
        raise nothing_readable(len(files), skipped)
    return labels, tuple(skipped), zero_blocks


def checked_output(output: Path) -> Path:
    """The `.npy` to write; its folder must exist and be writable.

    Raises:
        OutputError: another suffix, a folder, or a folder that is missing or not writable.
    """
    target = index_path(output) if not output.is_dir() else output
    if target.suffix != ".npy" and not target.is_dir():
        raise OutputError(
            f"the index `{output}` should end in .npy: it is a NumPy array",
            hint=f"try -o {output}.npy",
        )
    check_output(target, force=True, what="index")
    return target


def count_zero_blocks(rows: Rows, blocks: list[tuple[str, int, int]]) -> int:
    """Rows in which some branch is all zero: there a similarity is no mean of branch cosines."""
    zero = np.zeros(len(rows), dtype=bool)
    for _, start, stop in blocks:
        zero |= ~rows[:, start:stop].any(axis=1)
    return int(zero.sum())


def _check_found(paths: list[Path], listing: Listing) -> None:
    if listing.images:
        return
    where = ", ".join(f"`{path}`" for path in paths)
    empty = f"no picture among {listing.passed_over} files" if listing.passed_over else "no files"
    raise DatasetError(
        f"{where}: {empty}; at least one picture (.jpg, .png, .webp ...) is wanted",
        hint="give a picture or a folder with pictures in it or below it",
    )


def _labels(labels: str, images: Sequence[FoundImage]) -> list[str | None]:
    if labels == "none":
        return [None] * len(images)
    if labels == "folder":
        return folder_labels(images)
    return read_label_table(Path(labels), images)


def _pictures(
    batch: EmbeddedBatch, images: Sequence[FoundImage], names: Sequence[str | None]
) -> list[Picture]:
    return [
        Picture(
            images[p.position].root,
            images[p.position].path,
            names[p.position],
            p.size,
            p.mtime_ns,
            p.sha256,
        )
        for p in batch.pictures
    ]


def _header(
    builder: IndexBuilder,
    model: CGD,
    engine: Engine,
    info: ModelInfo,
    sources: list[str],
    labels: str,
) -> IndexHeader:
    described = info.to_dict()
    if Path(info.source).is_file():
        described["path"] = os.path.abspath(info.source)
    return IndexHeader(
        rows=builder.rows,
        dim=model.embedding_dim,
        model=described,
        engine=engine.name,
        precision=engine.precision,
        blocks=model.blocks,
        sources=sources,
        relative_sources=[str(relative_to_index(source, builder.path)) for source in sources],
        labels=labels,
    )
