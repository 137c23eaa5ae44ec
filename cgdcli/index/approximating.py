"""Making an approximate index, and finding the least work that reaches the recall wanted."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ApproximateConfig, ApproximateKind
from cgdcli.config.search import MEBIBYTE
from cgdcli.errors import ConfigError
from cgdcli.index.approximate import (
    ApproximateFacts,
    ApproximateIndex,
    file_digest,
    imported_faiss,
    state_of,
)
from cgdcli.index.exact import nearest
from cgdcli.index.scanning import RowReader
from cgdcli.index.store import EmbeddingIndex
from cgdcli.launch import cores

OnRows = Callable[[int, int, int], None]
"""Called with rows added, rows in all, and 0."""

# Below, looking at every row of 512 columns takes 1 to 2 ms, and nothing is gained.
FEWEST_ROWS = 20_000
# k-means on so many rows a centre, 8 rounds: more changes the recall by less than the sample tells.
_TRAINED_BY_CENTRE, _ROUNDS = 50, 8
_ADDED_AT_ONCE = 65_536
# From so many rows on, finding a row's cell among all centres one by one takes most of the time.
_ROWS_FOR_A_GRAPH = 20_000_000
_CANDIDATES = {
    ApproximateKind.rabitq: (100, 200, 400, 800),
    ApproximateKind.sq8: (20, 50, 100),
}
_HITS = 10


@dataclass(frozen=True)
class Sample:
    """Rows of the index that ask: (S, D), their numbers, and the ten nearest others of each."""

    queries: NDArray[np.float32]
    own: NDArray[np.int64]
    nearest: NDArray[np.int64]
    exact_seconds: float


def cells(rows: int) -> int:
    """2 sqrt(N) to a power of two, and at least `_TRAINED_BY_CENTRE` rows for each."""
    wanted = 2 ** round(math.log2(max(1.0, 2 * math.sqrt(rows))))
    return int(min(wanted, 2 ** int(math.log2(max(1, rows // _TRAINED_BY_CENTRE)))))


def description(kind: ApproximateKind, rows: int) -> str:
    """What faiss makes it of."""
    graph = "_HNSW32" if rows >= _ROWS_FOR_A_GRAPH else ""
    codes = {ApproximateKind.rabitq: "RaBitQ", ApproximateKind.sq8: "SQ8"}[kind]
    return f"IVF{cells(rows)}{graph},{codes}"


def code_bytes(kind: ApproximateKind, rows: int, dim: int) -> int:
    """What short rows and their numbers take."""
    return rows * (8 + (dim if kind is ApproximateKind.sq8 else dim // 8 + 8))


def make(index: EmbeddingIndex, kind: ApproximateKind, on_rows: OnRows | None) -> Any:
    """A trained faiss index of all rows; memory holds the short rows and one block of long ones."""
    faiss = imported_faiss()
    faiss.omp_set_num_threads(cores())
    rows = index.rows
    made = faiss.index_factory(index.dim, description(kind, len(rows)), faiss.METRIC_INNER_PRODUCT)
    lists = faiss.extract_index_ivf(made)
    lists.cp.niter, lists.cp.max_points_per_centroid = _ROUNDS, _TRAINED_BY_CENTRE
    lists.cp.min_points_per_centroid = 1
    count = min(len(rows), _TRAINED_BY_CENTRE * cells(len(rows)))
    chosen = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    made.train(np.ascontiguousarray(index.stored(chosen), dtype=np.float32))
    with RowReader(rows, _ADDED_AT_ONCE) as reader:
        for start in range(0, len(rows), _ADDED_AT_ONCE):
            stop = min(start + _ADDED_AT_ONCE, len(rows))
            made.add(reader.read(start, stop))
            if on_rows is not None:
                on_rows(stop, len(rows), 0)
    return made


def sample_of(index: EmbeddingIndex, size: int) -> Sample:
    """Evenly spread rows and, by looking at every row, what is nearest to each but itself."""
    own = np.unique(np.linspace(0, len(index) - 1, min(size, len(index))).astype(np.int64))
    queries = np.asarray(index.stored(own), dtype=np.float32)
    _, ids = nearest(queries, index.rows, _HITS, exclude=[{int(row)} for row in own])
    spent = []
    for query in queries[:5]:
        started = time.perf_counter()
        nearest(query[None], index.rows, _HITS)
        spent.append(time.perf_counter() - started)
    return Sample(queries, own, ids, float(np.median(spent)))


@dataclass(frozen=True)
class Trial:
    """An index that was made, and what it is tried with."""

    made: Any
    kind: ApproximateKind
    index: EmbeddingIndex
    sample: Sample

    def tuned(self, file: Path, wanted: float) -> ApproximateFacts:
        """What is to be known of it, with the cells and candidates that reach `wanted` in least
        time; where none do, those with the best recall."""
        rows, dim, generation, checksum = state_of(self.index)
        facts = ApproximateFacts(
            rows=rows,
            dim=dim,
            generation=generation,
            checksum=checksum,
            faiss=description(self.kind, rows),
            nprobe=1,
            candidates=0,
            recall=0.0,
            sample=len(self.sample.own),
            seconds=0.0,
            exact_seconds=self.sample.exact_seconds,
            digest=file_digest(file),
            version=imported_faiss().__version__,
        )
        found = list(self._tried(facts, wanted))
        enough = [tried for tried in found if tried.recall >= wanted]
        chosen = enough or [max(found, key=lambda tried: tried.recall)]
        timed = [replace(tried, seconds=self._seconds(tried)) for tried in chosen]
        return min(timed, key=lambda tried: tried.seconds)

    def _tried(self, facts: ApproximateFacts, wanted: float) -> Iterator[ApproximateFacts]:
        """With more and more cells, until for each number of candidates there are enough.

        What wants more cells and more candidates than another that is enough is left out: it only
        ever takes longer, and by a noisy clock it would be chosen all the same.
        """
        nprobe, missing = 1, list(_CANDIDATES[self.kind])
        while missing and nprobe <= cells(facts.rows):
            tried = replace(facts, nprobe=nprobe)
            count = min(missing[-1] + 1, facts.rows)  # one more: a row finds itself
            proposed = ApproximateIndex(self.made, tried).propose(self.sample.queries, count)
            for place, candidates in enumerate(missing):
                recall = _recall(proposed[:, : candidates + 1], self.sample)
                yield replace(tried, candidates=candidates, recall=recall)
                if recall >= wanted:
                    del missing[place:]
                    break
            nprobe *= 2

    def _seconds(self, facts: ApproximateFacts) -> float:
        """Of one query, in the median."""
        tried, spent = ApproximateIndex(self.made, facts), []
        for query in self.sample.queries[:50]:
            started = time.perf_counter()
            tried.search(query[None], self.index.rows, _HITS)
            spent.append(time.perf_counter() - started)
        return float(np.median(spent))


def _recall(proposed: NDArray[np.int64], sample: Sample) -> float:
    shares = [
        np.isin(right[right >= 0], found).mean()
        for found, right in zip(proposed, sample.nearest, strict=True)
        if (right >= 0).any()
    ]
    return float(np.mean(shares)) if shares else 1.0


def kinds_to_try(config: ApproximateConfig, rows: int, dim: int) -> list[ApproximateKind]:
    """The kind that is named; else both, the shorter one first, the longer one if it has room.

    Raises:
        ConfigError: the shortest of them takes more memory than it may.
    """
    kinds = [ApproximateKind.rabitq, ApproximateKind.sq8]
    if config.kind is not ApproximateKind.auto:
        kinds = [config.kind]
    elif rows < FEWEST_ROWS:
        return []
    fit = [kind for kind in kinds if code_bytes(kind, rows, dim) <= config.max_memory]
    if not fit:
        wanted = code_bytes(kinds[0], rows, dim)
        raise ConfigError(
            f"{rows} rows of {dim} columns kept short by {kinds[0]} take "
            f"{-(-wanted // MEBIBYTE)} MB; --max-memory allows {config.max_memory // MEBIBYTE}",
            hint=f"--max-memory {-(-wanted // MEBIBYTE)}, or search with --exact",
        )
    return fit
