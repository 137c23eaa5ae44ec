"""What an index of 100 million pictures costs in parts: sizes, memory, hours, what breaks first.

What one picture costs is measured here, on a small scale; the table multiplies. The rate of
embedding is given: `embed_speed.py` measures it.

    python examples/benchmarks/scale_out.py --rate 12 > examples/benchmarks/scale_out.md
"""

import argparse
import os
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cgdcli.images.finding import find_images
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.exact import nearest
from cgdcli.index.records import IndexHeader, Picture, sidecar
from cgdcli.index.shards import part_of, shards
from cgdcli.index.store import EmbeddingIndex

FILES, ROWS, SEARCHED = 20_000, 20_000, 100_000
GB = 1e9


def unit(rows: int, dim: int) -> Any:
    values = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def timed(do: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, its seconds, and the most memory that it took on the way."""
    started = time.perf_counter()
    do()
    seconds = time.perf_counter() - started
    tracemalloc.start()
    kept = do()
    _, size = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept, seconds, size


def listing_costs(folder: Path) -> dict[str, float]:
    """Finding the pictures, of which a process keeps one part."""
    names = [f"class{i % 100:03d}/holiday-photo-{i:08d}.jpg" for i in range(FILES)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    _, walk, kept = timed(lambda: find_images([folder]))
    started = time.perf_counter()
    for name in names:
        part_of(name, 256)
    hashed = time.perf_counter() - started
    return {
        "walk": FILES / walk,
        "hash": FILES / hashed,
        "kept": kept / FILES,
    }


def index_costs(folder: Path, dim: int) -> dict[str, float]:
    """The table of a part, and opening many parts as one."""
    header = IndexHeader(
        0, dim, {"source": "m", "fingerprint": "f" * 64}, "e", "fp32", None, ["/d"]
    )
    rows = unit(ROWS, dim)
    of = shards(20)
    step = ROWS // len(of)
    started = time.perf_counter()
    for shard in of:
        with IndexBuilder(shard.path(folder / "f.npy"), dim) as builder:
            first = shard.part * step
            builder.append(
                rows[first : first + step],
                [
                    Picture(Path("/d"), f"class{i % 100:03d}/holiday-photo-{i:08d}.jpg",
                            f"class{i % 100:03d}", i, i, f"{i:064x}")
                    for i in range(first, first + step)
                ],
            )  # fmt: skip
            builder.finish(IndexHeader(**header.__dict__ | {"part": [shard.part, shard.of]}))
    written = time.perf_counter() - started
    tables = sum(sidecar(shard.path(folder / "f.npy")).stat().st_size for shard in of)
    started = time.perf_counter()
    with EmbeddingIndex.open(folder / "f.npy") as index:
        opened = time.perf_counter() - started
        _, _, known = timed(lambda: list(index.pictures()))
    return {
        "table": tables / ROWS,
        "write": ROWS / written,
        "open": opened / len(of),
        "known": known / ROWS,
    }


def search_rate(dim: int) -> float:
    """Rows of the index a second that one query is compared with."""
    rows = unit(SEARCHED, dim)
    nearest(rows[:1], rows, 10)
    started = time.perf_counter()
    nearest(rows[:1], rows, 10)
    return SEARCHED / (time.perf_counter() - started)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rate", type=float, required=True, help="pictures/s of one process")
    parser.add_argument("--processes", type=int, default=8, help="of one machine: GPUs or cores")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = listing_costs(Path(place, "imgs"))
        made = index_costs(Path(place), args.dim)
    measured = {**found, **made, "search": search_rate(args.dim)}
    print("\n".join(report(args, measured)))


def report(args: argparse.Namespace, m: dict[str, float]) -> list[str]:
    total, dim = args.pictures, args.dim
    walk = total / m["walk"] + total / m["hash"]
    return [
        f"# {total:,} pictures, {dim} dimensions, float32",
        "",
        f"`python examples/benchmarks/scale_out.py {' '.join(sys.argv[1:])}`; measured on "
        f"{os.cpu_count()} cores with a local disk, other programs at work:",
        "",
        f"- finding: {m['walk']:,.0f} files/s, {m['hash']:,.0f} hashes of paths/s; "
        f"{m['kept']:.0f} bytes of memory a picture of one's own part, none of another's",
        f"- a row: {4 * dim} bytes in the .npy, {m['table']:.0f} in the .sqlite; "
        f"{m['known']:.0f} bytes of memory while a part is refreshed",
        f"- opening: {1000 * m['open']:.1f} ms a part; exact search: "
        f"{m['search'] / 1e6:.1f} million rows/s a query, from memory",
        f"- embedding: {args.rate:g} pictures/s a process (given), {args.processes} processes a "
        "machine",
        "",
        "| parts | pictures a part | .npy of a part | .sqlite of a part | memory of a process, "
        "network apart | files a search opens |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row_of_parts(total, of, dim, m) for of in (16, 64, 256, 1024)),
        "",
        "| machines | processes | time to embed | of each process to find |",
        "| --- | --- | --- | --- |",
        *(
            f"| {n} | {n * args.processes} | "
            f"{hours(total / (args.rate * n * args.processes))} | {hours(walk)} |"
            for n in (1, 4, 16, 64)
        ),
        "",
        *_what_breaks(total, dim, walk, m),
    ]


def _row_of_parts(total: int, of: int, dim: int, m: dict[str, float]) -> str:
    own = total / of
    memory = own * (m["kept"] + m["known"])
    return (
        f"| {of} | {own:,.0f} | {own * 4 * dim / GB:.1f} GB | {own * m['table'] / GB:.2f} GB | "
        f"{memory / GB:.1f} GB | {2 * of} |"
    )


def _what_breaks(total: int, dim: int, walk: float, m: dict[str, float]) -> list[str]:
    size = total * 4 * dim
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        "What breaks, in this order:",
        "",
        f"1. **Finding.** Every process walks the whole folder: {hours(walk)} each, and a network "
        "disk, slower by itself, answers all of them at once: that bounds how many machines help. "
        "Remedy: fewer processes with more parts each (torchrun, `--parts`), or an index for each "
        "subfolder.",
        f"2. **Exact search** reads all {size / GB:.0f} GB for a query: "
        f"{total / m['search']:.0f} s from memory, {size / 2e9:.0f} s from a disk of 2 GB/s. "
        "Beyond some ten million rows an approximate index is wanted.",
        "3. **Open files.** A search holds two for each part; 1024 are a common limit (here "
        f"{soft}, at most {hard}): `ulimit -n` before a search of more than 500 parts.",
        "4. **A refresh** holds what is known of its part, so a few large parts want memory.",
        f"5. **Labels** of all rows, which `evaluate --index` wants, are about "
        f"{total * 60 / GB:.0f} GB.",
        "",
        "Several sources at once, or a list, cost each process 100 bytes more for every picture of "
        "another part, as one that is named twice must be in one part.",
        "",
        "What does not break: a part's files and lock; a kill, which costs seconds of one part; a "
        "folder that grows, of which only the parts with new pictures are written.",
    ]


if __name__ == "__main__":
    main()
