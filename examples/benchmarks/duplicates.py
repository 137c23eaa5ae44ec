"""How alike copies of a photograph are, and other photographs; and what finding copies costs.

    python examples/benchmarks/duplicates.py copies DATA --model M.safetensors [--pictures 300]
    python examples/benchmarks/duplicates.py time ROWS [--dim 512]

`copies` draws pictures of the folder DATA, makes copies of each in the ways in which copies come
about, embeds all and prints for each way the share at or above some thresholds; then how many pairs
of different originals are there. That is what the default of `cgd duplicates --threshold` was
chosen by. `time` groups random unit rows, a hundredth of them copies of others.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cgdcli import EmbedConfig, EmbeddingIndex, embed_images, find_duplicates
from cgdcli.images.finding import find_images

THRESHOLDS = (0.9, 0.93, 0.95, 0.96, 0.97, 0.98)


def scaled(image: Image.Image, share: float) -> Image.Image:
    size = tuple(max(1, round(share * side)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = ((1 - share) / 2 * side for side in image.size)
    return image.crop((round(x), round(y), round(image.width - x), round(image.height - y)))


Way = Callable[[Image.Image], Image.Image]
WAYS: dict[str, tuple[Way, int]] = {
    "JPEG quality 75": (lambda i: i, 75),
    "JPEG quality 30": (lambda i: i, 30),
    "scaled to half": (lambda i: scaled(i, 0.5), 85),
    "scaled to a quarter": (lambda i: scaled(i, 0.25), 85),
    "cropped to 95 %": (lambda i: cropped(i, 0.95), 92),
    "cropped to 90 %": (lambda i: cropped(i, 0.9), 92),
    "cropped to 80 %": (lambda i: cropped(i, 0.8), 92),
    "a fifth brighter": (lambda i: ImageEnhance.Brightness(i).enhance(1.2), 92),
    "grey": (lambda i: i.convert("L").convert("RGB"), 92),
    "mirrored": (ImageOps.mirror, 92),
}


def copies(data: Path, model: str, pictures: int) -> None:
    files = [image.file for image in find_images([data]).images]
    random.Random(0).shuffle(files)
    files = files[:pictures]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, file in enumerate(files):
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
            image.save(_place(folder, "original", number), quality=95)
            for way, (change, quality) in WAYS.items():
                change(image).save(_place(folder, way, number), quality=quality)
        embed_images([folder], folder / "f.npy", model=model, config=EmbedConfig())
        with EmbeddingIndex.open(folder / "f.npy") as index:
            row_of = {picture.path: row for row, picture in index.pictures()}
            rows = np.asarray(index.rows)
    of_way = {
        way: rows[[row_of[f"{way}/{i:05}.jpg"] for i in range(len(files))]]
        for way in ("original", *WAYS)
    }
    originals = of_way.pop("original")
    print("| copy | median | " + " | ".join(f">= {t}" for t in THRESHOLDS) + " |")
    print("| --- |" + " ---: |" * (len(THRESHOLDS) + 1))
    for way, changed in of_way.items():
        scores = np.vecdot(originals, changed)
        shares = " | ".join(f"{100 * (scores >= t).mean():.0f} %" for t in THRESHOLDS)
        print(f"| {way} | {np.median(scores):.4f} | {shares} |")
    others = (originals @ originals.T)[np.triu_indices(len(originals), 1)]
    counts = " | ".join(str(int((others >= t).sum())) for t in THRESHOLDS)
    print(f"| pairs of {len(others)} other pictures | {np.median(others):.4f} | {counts} |")


def _place(folder: Path, way: str, number: int) -> Path:
    (folder / way).mkdir(exist_ok=True)
    return folder / way / f"{number:05}.jpg"


def timed(count: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.npy"
        rows = rng.standard_normal((count, dim), dtype=np.float32)
        some = count // 100
        rows[:some] = rows[-some:] + 0.01 * rows[:some]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(file, rows)
        del rows
        started = time.monotonic()
        report = find_duplicates(file)
        seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count} rows of {dim}: {len(report.groups)} groups in {seconds:.1f} s, peak {peak:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ways = parser.add_subparsers(dest="what", required=True)
    one = ways.add_parser("copies")
    one.add_argument("data", type=Path)
    one.add_argument("--model", required=True)
    one.add_argument("--pictures", type=int, default=300)
    other = ways.add_parser("time")
    other.add_argument("rows", type=int)
    other.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    if given.what == "copies":
        copies(given.data, given.model, given.pictures)
    else:
        timed(given.rows, given.dim)


if __name__ == "__main__":
    main()
