"""Job: pictures become unit rows, and a folder of them an index."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import EmbedConfig
from cgdcli.datasets.folders import folder_labels, read_label_table
from cgdcli.engines import Engine, Rows
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import CheckpointError, DatasetError, ImageError, OutputError
from cgdcli.files import check_output
from cgdcli.images.decoding import Pixels, read_image
from cgdcli.images.finding import FoundImage, Listing, find_images
from cgdcli.images.loading import batched, read_ahead, worker_count
from cgdcli.images.transforms import eval_pixels
from cgdcli.index.store import (
    EmbeddingIndex,
    IndexBuilder,
    IndexHeader,
    Picture,
    check_replaceable,
    index_path,
)
from cgdcli.model.cgd import CGD
from cgdcli.reports import EmbedReport, ModelInfo, SkippedImage
from cgdcli.weights.checkpoint import model_fingerprint
from cgdcli.weights.loading import load_model

logger = logging.getLogger("cgdcli")

Model = CGD | str | Path | None
OnProgress = Callable[[int, int, int], None]
"""Called with pictures done, pictures in all, and how many of those done were skipped."""


@dataclass(frozen=True)
class ReadPicture:
    """A picture as read for embedding; `position` is its place among the files asked for."""

    position: int
    file: Path
    pixels: Pixels | None
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    reason: str = ""


@dataclass(frozen=True)
class EmbeddedBatch:
    """Unit rows (B, D) of the readable `pictures`, and those `skipped` since the last batch."""

    rows: Rows
    pictures: list[ReadPicture]
    skipped: list[ReadPicture]


def embed_files(
    engine: Engine, files: Sequence[Path], *, batch_size: int, workers: int
) -> Iterator[EmbeddedBatch]:
    """Embed pictures in order, reading ahead in threads; memory does not grow with their number.

    Raises:
        CheckpointError: the model gives NaN or infinity.
    """
    size = engine.config.transform.image_size

    def read(item: tuple[int, Path]) -> ReadPicture:
        return _read(item[0], item[1], size)

    reads = read_ahead(read, enumerate(files), workers=worker_count(workers))
    for block in batched(reads, batch_size):
        good = [picture for picture in block if picture.pixels is not None]
        skipped = [picture for picture in block if picture.pixels is None]
        rows = np.empty((0, 0), np.float32)
        if good:
            rows = engine.embed(np.stack([p.pixels for p in good if p.pixels is not None]))
            _check_finite(rows, good)
            empty: list[bool] = np.all(rows == 0, axis=1).tolist()
            for i in np.flatnonzero(empty):
                skipped.append(_without_pixels(good[i], "the network's answer is all zero"))
            good = [_without_pixels(p) for p, gone in zip(good, empty, strict=True) if not gone]
            rows = rows[np.logical_not(empty)]
        yield EmbeddedBatch(rows, good, skipped)


def embed_images(
    sources: Iterable[Path | str],
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
    paths = [Path(source) for source in sources]
    target = checked_output(Path(output))
    listing = find_images(paths)
    _check_found(paths, listing)
    names = _labels(labels, listing.images)
    network = as_model(model)
    info = model_info(network)
    absolute = sorted(os.path.abspath(path) for path in paths)
    check_replaceable(target, sources=absolute, fingerprint=info.fingerprint, rebuild=rebuild)
    engine = TorchEngine(network, config.device)
    skipped: list[SkippedImage] = []
    zero_blocks = 0
    with IndexBuilder(target, network.embedding_dim) as builder:
        files = [image.file for image in listing.images]
        for batch in embed_files(
            engine, files, batch_size=config.batch_size, workers=config.workers
        ):
            if len(batch.rows):
                zero_blocks += count_zero_blocks(batch.rows, network.blocks)
                builder.append(batch.rows, _pictures(batch, listing.images, names))
            for picture in batch.skipped:
                skipped.append(SkippedImage(str(picture.file), picture.reason))
                builder.skip(str(picture.file), picture.reason)
            if on_progress:
                on_progress(builder.rows + len(skipped), len(files), len(skipped))
        if not builder.rows:
            raise DatasetError(
                f"none of the {len(files)} pictures could be read; the first: {skipped[0].reason}",
                hint="check that the files are pictures; no index was written",
            )
        builder.finish(_header(builder.rows, network, engine, info, absolute, labels))
        rows = builder.rows
    return EmbedReport(
        index=target,
        rows=rows,
        embedding_dim=network.embedding_dim,
        model=info,
        seconds=time.monotonic() - started,
        skipped=tuple(skipped),
        passed_over=listing.passed_over,
        zero_blocks=zero_blocks,
        labels=len({name for name in names if name is not None}),
    )


def as_model(model: Model) -> CGD:
    """A `CGD` as it is, anything else through `load_model`."""
    return model if isinstance(model, CGD) else load_model(model)


def model_info(model: CGD) -> ModelInfo:
    """What a model is, its fingerprint taken from its weights as they are now."""
    found = model_fingerprint(model)
    if model.info is not None and model.info.fingerprint == found:
        return model.info
    return ModelInfo("a model in memory", found, model.config.to_dict())


def checked_output(output: Path) -> Path:
    """The `.npy` to write; its folder must exist and be writable.

    Raises:
        OutputError: another suffix, a folder, or a folder that is missing or not writable.
    """
    target = index_path(output) if not output.is_dir() else output
    if target.suffix != ".npy" and not target.is_dir():
        raise OutputError(
            f"the index `{output}` should end in .npy: it is a NumPy array",
            hint=f"try -o {output.with_suffix('.npy')}",
        )
    check_output(target, force=True, what="index")
    return target


def count_zero_blocks(rows: Rows, blocks: list[tuple[str, int, int]]) -> int:
    """Rows in which some branch is all zero: there a similarity is no mean of branch cosines."""
    zero = np.zeros(len(rows), dtype=bool)
    for _, start, stop in blocks:
        zero |= ~rows[:, start:stop].any(axis=1)
    return int(zero.sum())


def open_index(index: EmbeddingIndex | Path | str, root: Path | None = None) -> EmbeddingIndex:
    """An opened index as it is, a path opened."""
    return index if isinstance(index, EmbeddingIndex) else EmbeddingIndex.open(index, root=root)


def _read(position: int, file: Path, image_size: int) -> ReadPicture:
    try:
        status = file.stat()
        image, sha256 = read_image(file)
        pixels = eval_pixels(image, image_size)
    except OSError as error:
        return ReadPicture(position, file, None, reason=f"cannot be read: {error.strerror}")
    except ImageError as error:
        return ReadPicture(position, file, None, reason=error.what.replace(f"`{file}` ", ""))
    return ReadPicture(position, file, pixels, sha256, status.st_size, status.st_mtime_ns)


def _without_pixels(picture: ReadPicture, reason: str = "") -> ReadPicture:
    p = picture
    return ReadPicture(p.position, p.file, None, p.sha256, p.size, p.mtime_ns, reason)


def _check_finite(rows: NDArray[np.float32], pictures: list[ReadPicture]) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise CheckpointError(
            f"the model gives NaN or infinity for `{pictures[int(np.argmax(bad))].file}`",
            hint="its weights are damaged: `cgd inspect MODEL`, or train again",
        )


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
    rows: int, model: CGD, engine: Engine, info: ModelInfo, sources: list[str], labels: str
) -> IndexHeader:
    described = info.to_dict()
    if Path(info.source).is_file():
        described["path"] = os.path.abspath(info.source)
    return IndexHeader(
        rows=rows,
        dim=model.embedding_dim,
        model=described,
        engine=engine.name,
        precision=engine.precision,
        blocks=model.blocks,
        sources=sources,
        labels=labels,
    )
