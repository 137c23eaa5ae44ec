"""Files become unit rows: read ahead in threads, embedded batch by batch, in order.

What every job that needs embeddings stands on: embed, search, evaluate, train's evaluation.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import CGDConfig
from cgdcli.engines import Engine, Rows
from cgdcli.engines.vectors import VectorEngine
from cgdcli.errors import CheckpointError, DatasetError, ImageError
from cgdcli.images.cropping import Box
from cgdcli.images.decoding import Pixels, read_image
from cgdcli.images.loading import batched, read_ahead, worker_count
from cgdcli.images.mirror import fetched
from cgdcli.images.transforms import enough_to_resize, eval_pixels
from cgdcli.reports import SkippedImage, StageTimes
from cgdcli.words import counted

OnProgress = Callable[[int, int, int], None]
"""Called with pictures done, pictures in all, and how many of those done were skipped."""


@dataclass(frozen=True)
class ReadPicture:
    """A picture as read for embedding.

    Attributes:
        position: its place among the files asked for.
        pixels: at each size that the engine takes.
        reason: why it is skipped; `unread` where not even its bytes could be read.
    """

    position: int
    file: Path
    pixels: tuple[Pixels, ...] | None
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    reason: str = ""
    unread: bool = False
    decode_seconds: float = 0.0
    transform_seconds: float = 0.0


@dataclass(frozen=True)
class EmbeddedBatch:
    """Unit rows (B, D) of the readable `pictures`, and those `skipped` since the last batch."""

    rows: Rows
    pictures: list[ReadPicture]
    skipped: list[ReadPicture]
    forward_seconds: float = 0.0

    def times(self) -> StageTimes:
        """What it took, all threads together; what is written is added by who writes."""
        read = [*self.pictures, *self.skipped]
        return StageTimes(
            sum(picture.decode_seconds for picture in read),
            sum(picture.transform_seconds for picture in read),
            self.forward_seconds,
        )


def embed_files(
    engine: Engine,
    files: Sequence[Path],
    *,
    batch_size: int,
    workers: int,
    boxes: Sequence[Box | None] = (),
    filled: bool = False,
    exact_decode: bool = True,
) -> Iterator[EmbeddedBatch]:
    """Embed pictures in order, reading ahead in threads; memory does not grow with their number.

    A row depends in its last bits on how many pictures a pass has, and, at one number of threads,
    on nothing else: not on its place among them nor on the others (measured, ResNets and MobileNet
    on a CPU, to the bit).

    Args:
        filled: every pass has `batch_size` pictures, blank ones where there are no more, so that a
            row is the same whatever else is embedded.
        exact_decode: pictures are decoded whole; else a JPEG that is much larger than the network's
            input at a half, a quarter or an eighth of its size (`images.transforms.ENOUGH`).
        boxes: the part of each picture to embed, None for all of it; empty: whole pictures.

    Raises:
        CheckpointError: the model gives NaN or infinity.
        DatasetError: an address cannot be reached.
    """
    own = (engine.config.transform.image_size,)
    sizes = engine.sizes if isinstance(engine, VectorEngine) else own
    at_least = None if exact_decode else enough_to_resize(max(sizes))

    def read(item: tuple[int, Path]) -> ReadPicture:
        return _read(item[0], item[1], sizes, boxes[item[0]] if boxes else None, at_least)

    here = fetched(files)
    room = batch_size if filled else 0
    if engine.parallel == 1:
        reads = read_ahead(read, enumerate(here), workers=worker_count(workers))
        for block in batched(reads, batch_size):
            yield _embedded(engine, block, room)
        return

    def read_and_embed(items: list[tuple[int, Path]]) -> EmbeddedBatch:
        return _embedded(engine, [read(item) for item in items], room)

    threads = min(workers or engine.parallel, engine.parallel)
    blocks = batched(enumerate(here), batch_size)
    yield from read_ahead(read_and_embed, blocks, workers=threads, ahead=3 * threads)


def read_pixels(
    files: Sequence[Path], config: CGDConfig, *, workers: int, exact_decode: bool = True
) -> Pixels:
    """The readable ones of `files` as a network of `config` wants them: uint8 (N, H, W, 3)."""
    size = config.transform.image_size
    at_least = None if exact_decode else enough_to_resize(size)

    def read(file: Path) -> ReadPicture:
        return _read(0, file, [size], None, at_least)

    found = read_ahead(read, fetched(files), workers=worker_count(workers))
    pixels = [picture.pixels[0] for picture in found if picture.pixels is not None]
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)


def _embedded(engine: Engine, block: list[ReadPicture], room: int) -> EmbeddedBatch:
    """One forward pass of at least `room` pictures, blank ones where there are no more."""
    good = [picture for picture in block if picture.pixels is not None]
    skipped = [picture for picture in block if picture.pixels is None]
    if not good:
        return EmbeddedBatch(np.empty((0, 0), np.float32), [], skipped)
    views = zip(*(p.pixels for p in good if p.pixels is not None), strict=True)
    pixels = [_filled(np.stack(view), room) for view in views]
    started = time.perf_counter()
    if isinstance(engine, VectorEngine):
        rows = engine.embed_sizes(pixels)[: len(good)]
    else:
        rows = engine.embed(pixels[0])[: len(good)]
    seconds = time.perf_counter() - started
    _check_finite(rows, good)
    empty: list[bool] = np.all(rows == 0, axis=1).tolist()
    for i in np.flatnonzero(empty):
        skipped.append(_without_pixels(good[i], "the network's answer is all zero"))
    kept = [_without_pixels(p) for p, gone in zip(good, empty, strict=True) if not gone]
    return EmbeddedBatch(rows[np.logical_not(empty)], kept, skipped, seconds)


def _filled(pixels: Pixels, room: int) -> Pixels:
    """At least `room` pictures."""
    if len(pixels) >= room:
        return pixels
    blank = np.zeros((room - len(pixels), *pixels.shape[1:]), np.uint8)
    return np.concatenate([pixels, blank])


def nothing_readable(
    count: int, skipped: Sequence[SkippedImage], left: str = "nothing was written"
) -> DatasetError:
    """The error for a set of pictures of which not one could be read."""
    return DatasetError(
        f"none of the {counted(count, 'picture')} could be read; the first: "
        f"`{skipped[0].path}` {skipped[0].reason}",
        hint=f"check that the files are pictures; {left}",
    )


def _read(
    position: int,
    file: Path,
    sizes: Sequence[int],
    box: Box | None,
    at_least: tuple[int, int] | None,
) -> ReadPicture:
    started = time.perf_counter()
    try:
        status = file.stat()
        image, sha256 = read_image(file, box, at_least=at_least)
        decoded = time.perf_counter()
        pixels = tuple(eval_pixels(image, size) for size in sizes)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return ReadPicture(position, file, None, reason=reason, unread=True)
    except ImageError as error:
        return ReadPicture(position, file, None, reason=error.what.replace(f"`{file}` ", ""))
    return ReadPicture(
        position,
        file,
        pixels,
        sha256,
        status.st_size,
        status.st_mtime_ns,
        decode_seconds=decoded - started,
        transform_seconds=time.perf_counter() - decoded,
    )


def _without_pixels(picture: ReadPicture, reason: str = "") -> ReadPicture:
    return replace(picture, pixels=None, reason=reason)


def _check_finite(rows: NDArray[np.float32], pictures: list[ReadPicture]) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise CheckpointError(
            f"the model gives NaN or infinity for `{pictures[int(np.argmax(bad))].file}`",
            hint="its weights are damaged: `cgd inspect MODEL`, or train again",
        )
