"""Where the time goes when a folder is embedded: decoding, the transform, the network."""

import time
from pathlib import Path

import numpy as np

from cgdcli.config import ProfileConfig
from cgdcli.engines.torch_engine import TorchEngine, torch_device
from cgdcli.errors import DatasetError, ImageError
from cgdcli.images.decoding import read_image
from cgdcli.images.finding import find_images
from cgdcli.images.loading import worker_count
from cgdcli.images.transforms import enough_to_resize, eval_pixels
from cgdcli.model.cgd import CGD
from cgdcli.model.lending import lent
from cgdcli.reports import FolderReport, SkippedImage
from cgdcli.streaming import embed_files, nothing_readable


def profile_folder(model: CGD, folder: Path, config: ProfileConfig) -> FolderReport:
    """Time some pictures of a folder one by one, then as `embed` does them, reading ahead.

    Raises:
        DatasetError: there is no picture, or none that can be read.
    """
    files = [image.file for image in find_images([folder]).images]
    if not files:
        raise DatasetError(
            f"`{folder}` holds no pictures", hint="name a folder with pictures in it or below it"
        )
    places = np.unique(np.linspace(0, len(files) - 1, config.pictures).round().astype(int))
    chosen = [files[i] for i in places]
    batch_size = max(config.batch_sizes)
    with lent(model, torch_device(config.device)):
        engine = TorchEngine(model, config.device)
        parts, skipped = _one_by_one(engine, chosen)
        if not len(parts):
            raise nothing_readable(len(chosen), skipped)
        started = time.perf_counter()
        for _ in embed_files(engine, chosen, batch_size=batch_size, workers=0, exact_decode=False):
            pass
        rate = len(parts) / (time.perf_counter() - started)
    decode, transform, forward = parts.mean(0).tolist()
    return FolderReport(
        folder=str(folder),
        found=len(files),
        measured=len(parts),
        workers=worker_count(0),
        batch_size=batch_size,
        decode_seconds=decode,
        transform_seconds=transform,
        forward_seconds=forward,
        images_per_second=rate,
        expected_seconds=len(files) / rate,
        index_bytes=4 * model.embedding_dim * len(files),
        skipped=tuple(skipped),
    )


def _one_by_one(
    engine: TorchEngine, files: list[Path]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], list[SkippedImage]]:
    """Seconds of decode, transform and forward (N, 3), and the pictures that cannot be read."""
    size = engine.config.transform.image_size
    engine.embed(np.full((1, size, size, 3), 128, np.uint8))  # the first pass is never typical
    parts: list[tuple[float, float, float]] = []
    skipped: list[SkippedImage] = []
    for file in files:
        marks = [time.perf_counter()]
        try:
            image, _ = read_image(file, at_least=enough_to_resize(size))
        except ImageError as error:
            skipped.append(SkippedImage(str(file), error.what.replace(f"`{file}` ", "")))
            continue
        except OSError as error:
            skipped.append(SkippedImage(str(file), f"cannot be read: {error.strerror}"))
            continue
        marks.append(time.perf_counter())
        pixels = eval_pixels(image, size)
        marks.append(time.perf_counter())
        engine.embed(pixels[None])
        marks.append(time.perf_counter())
        parts.append((marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]))
    return np.array(parts), skipped
