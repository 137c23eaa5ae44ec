"""Exact search against what the machine can do: reading the rows, a bare matrix product.

    python examples/benchmarks/search_exact.py [--rows 1000000] [--dim 512] [--repeats 7]

Rows are random unit ones in a file of their own, in the page cache. Everything in turns; medians,
and the median of the ratios within each turn with the smallest and largest.

- warm: a process that has read the rows before. One query against reading the same bytes with all
  cores (the fastest of three ways to read); 100 queries against `queries @ rows.T`, in blocks too
  small to hold the whole, without looking at what comes out.
- float16: the same rows stored as float16 against float32 in the same turn.
- fresh: a new process each time, which opens the file and asks once, against one that reads the
  file with preadv into one buffer; imports are not counted, the largest resident set is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cgdcli.index.exact import nearest
from cgdcli.index.rows import RowWriter, open_rows
from cgdcli.launch import cores

FRESH = """
import json, os, resource, sys, time
import numpy as np
from cgdcli.index.exact import nearest
from cgdcli.index.rows import open_rows
way, file, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
queries = np.load(sys.argv[4])[:count]
begun = time.perf_counter()
if way == "read":
    descriptor, buffer, place = os.open(file, os.O_RDONLY), bytearray(2**21), 0
    while read := os.preadv(descriptor, [buffer], place):
        place += read
else:
    nearest(queries, open_rows(__import__("pathlib").Path(file)), 10)
seconds = time.perf_counter() - begun
status = [line.split() for line in open("/proc/self/status")]
pages = [int(words[1]) for words in status if words[0] in ("VmHWM:", "RssAnon:")]
print(json.dumps([seconds, *pages]))
"""


def make(folder: Path, rows: int, dim: int, dtype: str) -> Path:
    """Rows in blocks, the same for every dtype."""
    path = folder / f"{dtype}.npy"
    writer = RowWriter(path, dim, dtype=dtype)
    rng = np.random.default_rng(0)
    for start in range(0, rows, 20_000):
        block = rng.standard_normal((min(20_000, rows - start), dim), dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        writer.append(block)
    writer.finish()
    return path


def in_threads(work: Callable[[np.ndarray], object], rows: np.ndarray) -> None:
    """All cores, each some neighbouring rows."""
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, np.array_split(rows, cores())))


def product(queries: np.ndarray, rows: np.ndarray) -> None:
    """`queries @ rows.T`, never the whole."""
    out = np.empty((len(queries), 16_384), np.float32)
    for start in range(0, len(rows), 16_384):
        block = rows[start : start + 16_384]
        np.matmul(queries, block.T, out=out[:, : len(block)])


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def fresh(way: str, file: Path, count: int, queries: Path) -> tuple[float, float, float]:
    """Seconds, megabytes of memory of its own, and the largest resident set in megabytes."""
    line = [sys.executable, "-c", FRESH, way, str(file), str(count), str(queries)]
    spent, peak, own = json.loads(subprocess.check_output(line))
    return spent, own / 1024, peak / 1024


def report(title: str, found: dict[str, list[float]], base: str) -> None:
    print(f"\n{title}\n\n| way | ms | ratio | smallest, largest |\n| --- | --- | --- | --- |")
    for name, runs in found.items():
        ratios = np.array(runs) / found[base]
        print(
            f"| {name} | {1e3 * statistics.median(runs):.1f} | {np.median(ratios):.2f} | "
            f"{ratios.min():.2f}, {ratios.max():.2f} |"
        )


def warm(files: dict[str, Path], queries: np.ndarray, repeats: int) -> None:
    """In one process; the first two turns are not counted."""
    rows = {dtype: open_rows(file) for dtype, file in files.items()}
    plain = np.asarray(rows["float32"])
    one: dict[str, Callable[[], object]] = {
        "read: sum of 64-bit words": lambda: in_threads(lambda r: r.view(np.uint64).sum(), plain),
        "read: largest value": lambda: in_threads(lambda r: r.max(), plain),
        "read: np.vecdot": lambda: in_threads(lambda r: np.vecdot(r, queries[0]), plain),
        "cgd, 1 query": lambda: nearest(queries[:1], rows["float32"], 10),
        "cgd, 1 query, float16": lambda: nearest(queries[:1], rows["float16"], 10),
    }
    many: dict[str, Callable[[], object]] = {
        "product alone": lambda: product(queries, plain),
        "cgd, 100 queries": lambda: nearest(queries, rows["float32"], 10),
        "cgd, 100 queries, float16": lambda: nearest(queries, rows["float16"], 10),
    }
    for title, ways in (("Warm, one query", one), ("Warm, 100 queries", many)):
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(-2, repeats):
            for name, work in ways.items():
                spent = seconds(work)
                if turn >= 0:
                    found[name].append(spent)
        readers = [name for name in found if name.startswith(("read", "product"))]
        base = min(readers, key=lambda name: statistics.median(found[name]))
        report(title, found, base)


def cold(files: dict[str, Path], queries: Path, repeats: int) -> None:
    """A process for each."""
    ways = {
        "preadv": ("read", "float32", 1),
        "cgd, 1 query": ("search", "float32", 1),
        "cgd, 1 query, float16": ("search", "float16", 1),
        "cgd, 100 queries": ("search", "float32", 100),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (way, dtype, count) in ways.items():
            spent, own, peak = fresh(way, files[dtype], count, queries)
            found[name].append(spent)
            memory[name].append(own)
            peaks[name].append(peak)
    report("Fresh process, in the page cache", found, "preadv")
    print("\n| way | MB of its own at the end | MB resident at most |\n| --- | --- | --- |")
    for name in ways:
        print(f"| {name} | {max(memory[name]):.0f} | {max(peaks[name]):.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        types = ("float32", "float16")
        files = {t: make(Path(folder), given.rows, given.dim, t) for t in types}
        queries = np.random.default_rng(1).standard_normal((100, given.dim), dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        np.save(Path(folder) / "queries.npy", queries)
        print(f"{given.rows} x {given.dim}, {os.cpu_count()} cores, NumPy {np.__version__}")
        warm(files, queries, given.repeats)
        cold(files, Path(folder) / "queries.npy", given.repeats)


if __name__ == "__main__":
    main()
