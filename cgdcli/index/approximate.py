"""An approximate index beside an exact one: `feats.faiss`, of faiss, and what is known of it.

It holds cells (inverted lists around k-means centres) of rows kept short, so that a query looks at
a few cells instead of at every row. It only proposes: what it proposes is scored again from the
`.npy` as `index.exact` does, so that similarities are exact and only a row that was not proposed
can be missing. How rarely that is was measured when it was made, and stands in `feats.faiss.json`.
"""

import dataclasses
import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import ApproximateKind
from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.exact import FEW_QUERIES
from cgdcli.index.rows import sampled_checksum
from cgdcli.index.scanning import Rows, check_files, check_finite
from cgdcli.launch import cores
from cgdcli.remote import shown

if TYPE_CHECKING:
    from cgdcli.index.store import EmbeddingIndex

logger = logging.getLogger("cgdcli")

FORMAT = 1
Ids = NDArray[np.int64]
# Cells and candidates are tuned for the ten nearest of a row. Asked for more, or with what is no
# row of any index (branches weighed anew, several pictures taken together), it does as if for so
# many times the hits. On seven sets of 60 000 and 200 000 rows, in tight classes and loose ones,
# tuned to .99 and more, .987 to 1 of such questions' hits were found by it: up to 100 hits, two
# branches of which one does not count at all, means and differences of unrelated rows.
TUNED_HITS = 10
_FOR_MORE, _FOR_OTHERS = 2, 8
# For so many hits all cells would be looked at; half of them are as many as there is a use for.
_HITS_OF_ALL_CELLS = 1_600
# To gather a row from its place and score it costs what so many cost one after the other.
_GATHERED = 16
# Q queries that look at every row together take Q / 4 times less than each by itself, and at most
# so many times (20 000 to 200 000 rows, two cores: 1.5 to 3 of 5, 4 to 8 of 16, 7 to 14 of 100).
_TOGETHER = 8
# So many values are scored again at a time.
_VALUES_AT_ONCE = 131_072
_SAMPLED_BYTES = 65_536


@dataclass(frozen=True)
class ApproximateFacts:
    """What an approximate index says of itself.

    Attributes:
        generation, checksum: of the index that it was made of.
        faiss: the description that faiss makes such an index of.
        nprobe: cells that a query looks at.
        candidates: proposed for ten hits; for more, see `ApproximateIndex.effort`.
        recall: of the ten nearest rows, found in the mean over `sample` rows that asked.
        seconds: of one query by one thread, its proposals scored again; `exact_seconds` the same by
            looking at every row, by all threads.
        digest: of the file `feats.faiss`.
    """

    rows: int
    dim: int
    generation: str
    checksum: str
    faiss: str
    nprobe: int
    candidates: int
    recall: float
    sample: int
    seconds: float
    exact_seconds: float
    digest: str
    version: str
    format: int = FORMAT

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `feats.faiss.json`.

        Raises:
            IndexFileError: it is damaged, or of another version.
        """
        try:
            facts = cls(**json.loads(path.read_text()))
            facts.check_kinds()
        except (OSError, ValueError, TypeError) as error:
            raise IndexFileError(
                f"`{path}` does not say what `{path.with_suffix('').name}` is: {error}",
                hint=f"make it anew: cgd index {_npy_of(path)} --force",
            ) from error
        if facts.format != FORMAT:
            raise IndexFileError(
                f"`{path}` has format {facts.format}; this cgd reads {FORMAT}",
                hint=f"make it anew: cgd index {_npy_of(path)} --force",
            )
        return facts

    def check_kinds(self) -> None:
        """Whether numbers are numbers, and the kind is one: a file may say anything.

        Raises:
            TypeError, ValueError: one is not.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds: tuple[type, ...] = (int, float) if field.type in (int, float) else (str,)
            if not isinstance(value, kinds):
                raise TypeError(f"{field.name} is {value!r}")
        _ = self.kind

    @property
    def kind(self) -> ApproximateKind:
        """How rows are kept short in it."""
        return ApproximateKind(self.faiss.rpartition(",")[2].lower())

    def text(self) -> str:
        """As it is written."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def describes(self, index: "EmbeddingIndex") -> bool:
        """Whether it was made of the rows that the index has now."""
        return (self.rows, self.dim, self.generation, self.checksum) == state_of(index)


def faiss_path(npy: Path) -> Path:
    """`feats.faiss`."""
    return npy.with_suffix(".faiss")


def facts_path(npy: Path) -> Path:
    """`feats.faiss.json`."""
    return npy.with_suffix(".faiss.json")


def state_of(index: "EmbeddingIndex") -> tuple[int, int, str, str]:
    """Rows, columns, generation and checksum: other ones if any row is another.

    Of an array alone the checksum is of 64 rows; when its file was written tells of the others.

    Raises:
        IndexFileError: the rows' file became shorter.
    """
    generation, checksum = "", ""
    if index.header is not None:
        generation, checksum = index.header.generation, index.header.checksum
    elif isinstance(index.rows, np.ndarray):
        check_files(index.rows)
        try:
            written = index.path.stat().st_mtime_ns
        except OSError:  # moved away since, which its rows outlive
            return len(index), index.dim, "", ""
        checksum = f"{sampled_checksum(index.rows)} {written}"
    return len(index), index.dim, generation, checksum


def imported_faiss() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    # Threads that wait by spinning make 2 threads on 2 busy cores three times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"an approximate index wants faiss, which is not installed ({error})",
            hint="pip install 'cgdcli[ann]'; or search with --exact",
        ) from error
    return faiss


def file_digest(path: Path) -> str:
    """SHA-256 of a file's length, beginning and end: tells a file that was cut or changed halfway
    from the one that was written, at once."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLED_BYTES))
        file.seek(max(0, size - _SAMPLED_BYTES))
        digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()


class ApproximateIndex:
    """An opened `feats.faiss`, mapped: what a query does not touch is not read."""

    def __init__(self, found: Any, facts: ApproximateFacts) -> None:
        self.faiss, self.facts = imported_faiss(), facts
        self.index = found

    @classmethod
    def beside(cls, index: "EmbeddingIndex") -> Self | None:
        """The one of an index, if there is one that may be used; why not is said.

        One that was made before rows changed is never used: every row is then looked at.
        """
        facts_file, file = facts_path(index.path), faiss_path(index.path)
        if not facts_file.exists() or not file.exists():
            return None
        try:
            facts = ApproximateFacts.read(facts_file)
            if not facts.describes(index):
                raise MismatchError(
                    f"`{file}` was made of other rows than `{index.path.name}` has now",
                    hint=f"renew it: cgd index {shown(index.path)}",
                )
            return cls(_opened(file, facts), facts)
        except (ConfigError, IndexFileError, MismatchError) as error:
            logger.warning("%s; every row is looked at instead (%s)", error.what, error.hint)
            return None

    def search(
        self,
        queries: NDArray[np.float32],
        rows: Rows,
        k: int,
        *,
        exclude: Sequence[set[int]] | None = None,
        plain: bool = True,
        threads: int = 0,
    ) -> tuple[NDArray[np.float64], Ids]:
        """As `index.exact.nearest`, but of the rows that it proposes.

        Where it proposes fewer than `k`, the rest is -inf and -1.

        Args:
            plain: the queries are such as it was tuned on: rows, as a network makes them.
            threads: that look at cells; 0 for as many as there are cores.

        Raises:
            IndexFileError: it proposes rows that there are not; the rows' file became shorter, or
                has a row that is not finite.
        """
        count = min(k, self.facts.rows)
        most = max((len(rows) for rows in exclude or ()), default=0)
        cells, candidates = self.effort(k, plain)
        proposed = self.propose(queries, candidates + most, cells, threads)
        check_files(rows)
        similarities = np.full((len(queries), count), -np.inf)
        ids = np.full((len(queries), count), -1, dtype=np.int64)
        for number, (query, found) in enumerate(zip(queries, proposed, strict=True)):
            kept = np.unique(found[found >= 0])
            if exclude is not None:
                kept = kept[~np.isin(kept, list(exclude[number]))]
            near = _scored(rows, kept, query)
            order = np.lexsort((kept, -near))[:count]
            similarities[number, : len(order)], ids[number, : len(order)] = near[order], kept[order]
        return similarities, ids

    def is_tuned_for(self, k: int, plain: bool) -> bool:
        """Whether its recall was measured on such questions."""
        return plain and k <= TUNED_HITS

    def effort(self, k: int, plain: bool = True) -> tuple[int, int]:
        """Cells that are looked at for `k` hits, and rows that are proposed."""
        facts = self.facts
        if self.is_tuned_for(k, plain):
            return facts.nprobe, facts.candidates
        hits = (_FOR_MORE if plain else _FOR_OTHERS) * max(k, TUNED_HITS)
        candidates = -(-facts.candidates * hits // TUNED_HITS)
        wider = facts.nprobe * math.sqrt(hits / TUNED_HITS)
        share = self.index.nlist * math.sqrt(hits / _HITS_OF_ALL_CELLS)
        cells = min(self.index.nlist // 2, math.ceil(max(wider, share)))
        return max(facts.nprobe, cells), candidates

    def is_worth_it(self, k: int, plain: bool = True, queries: int = 1) -> bool:
        """Whether to look at every row takes longer.

        Many queries look at every row together: what it was not tuned for then never is worth it.
        """
        if queries > FEW_QUERIES:
            saved = min(_TOGETHER, queries / FEW_QUERIES)
            if not self.is_tuned_for(k, plain) or self.facts.exact_seconds < (
                saved * self.facts.seconds
            ):
                return False
        return _GATHERED * self.effort(k, plain)[1] < self.facts.rows

    def propose(
        self, queries: NDArray[np.float32], count: int, cells: int = 0, threads: int = 0
    ) -> Ids:
        """Rows (Q, count), best first by what it knows, -1 where there are no more.

        Args:
            cells: that are looked at; 0 for as many as it was tuned to.

        Raises:
            IndexFileError: rows that there are not: the file is damaged.
        """
        faiss = self.faiss
        faiss.omp_set_num_threads(min(threads or cores(), max(1, len(queries))))
        parameters = faiss.SearchParametersIVF(nprobe=cells or self.facts.nprobe)
        _, found = self.index.search(
            np.ascontiguousarray(queries, np.float32), count, params=parameters
        )
        rows = np.asarray(found, dtype=np.int64)
        if rows.max(initial=-1) >= self.facts.rows:
            raise IndexFileError(
                f"the approximate index proposes row {rows.max()} of {self.facts.rows}: its file "
                "is damaged",
                hint="make it anew: cgd index ... --force; or search with --exact",
            )
        return rows


def _scored(rows: Rows, numbers: Ids, query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Exact similarities of some rows, as `index.exact` computes them."""
    asked, scores = query.astype(np.float64), np.empty(len(numbers))
    at_once = max(1, _VALUES_AT_ONCE // len(asked))
    for first in range(0, len(numbers), at_once):
        part = slice(first, first + at_once)
        scores[part] = np.vecdot(rows[numbers[part]].astype(np.float64), asked)
    if not np.isfinite(scores).all():
        check_finite(rows, numbers[~np.isfinite(scores)])
    return scores


def _opened(file: Path, facts: ApproximateFacts) -> Any:
    faiss = imported_faiss()
    if file_digest(file) != facts.digest:
        raise IndexFileError(
            f"`{file}` is not the one that `{file.name}.json` describes",
            hint=f"make it anew: cgd index {_npy_of(file)} --force",
        )
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise IndexFileError(
            f"`{file}` cannot be read by faiss {faiss.__version__} (made by {facts.version})",
            hint=f"make it anew: cgd index {_npy_of(file)} --force",
        ) from error


def _npy_of(path: Path) -> Path:
    return path.with_name(path.name.partition(".faiss")[0] + ".npy")
