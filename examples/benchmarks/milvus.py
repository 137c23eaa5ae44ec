"""What an index in Milvus costs: sending it, opening it, asking it, with and without a filter.

    python examples/benchmarks/milvus.py ADDRESS [--rows 12000] [--dim 512] [--queries 100]

ADDRESS is http://127.0.0.1:19530/bench or bench.db; what is there is replaced. Rows are unit ones
around 500 centres. Recall is of the 10 nearest rows by exact search of the files.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from cgdcli import EmbeddingIndex, send_to_milvus
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def around(centres: np.ndarray, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(len(centres), size=count)]
    return unit(rows + 0.7 / np.sqrt(rows.shape[1]) * rng.standard_normal(rows.shape))


def make(path: Path, rows: np.ndarray) -> None:
    model = {"source": "benchmark", "fingerprint": "0" * 64}
    with IndexBuilder(path, rows.shape[1]) as builder:
        for first in range(0, len(rows), 10_000):
            block = rows[first : first + 10_000]
            pictures = [
                Picture(Path("/bench"), f"{i}.jpg", f"{i % 25:03d}", i, i, f"{i:064x}")
                for i in range(first, first + len(block))
            ]
            builder.append(block, pictures)
        header = IndexHeader(0, rows.shape[1], model, "torch", "fp32", None, ["/bench"])
        builder.finish(header)


def asked(
    index: EmbeddingIndex, queries: np.ndarray, where: str | None
) -> tuple[float, np.ndarray]:
    """Milliseconds a query, one at a time, and the rows found."""
    among = None if where is None else index.among(where)
    begun = time.perf_counter()
    found = [index.search(query[None], 10, among=among)[1][0] for query in queries]
    return 1_000 * (time.perf_counter() - begun) / len(queries), np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    for name, default in (("rows", 12_000), ("dim", 512), ("queries", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    centres = unit(np.random.default_rng(0).standard_normal((500, options.dim)))
    queries = around(centres, options.queries, 2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.npy"
        make(file, around(centres, options.rows, 1))
        report = send_to_milvus(file, options.address, replace=True)
        rate = report.sent / report.seconds
        print(f"{report.index_type}: sent and checked {report.sent} rows of {options.dim}, "
              f"{rate:.0f} rows/s")  # fmt: skip
        begun = time.perf_counter()
        with EmbeddingIndex.open(options.address) as there, EmbeddingIndex.open(file) as here:
            print(f"opened in {1_000 * (time.perf_counter() - begun):.0f} ms")
            for where in (None, 'label == "007"'):
                (_, wanted), (ms, found) = (asked(index, queries, where) for index in (here, there))
                recall = np.mean(
                    [len({*a} & {*b}) / 10 for a, b in zip(wanted, found, strict=True)]
                )
                print(f"where {where}: {ms:.1f} ms a query, recall {recall:.3f}")


if __name__ == "__main__":
    main()
