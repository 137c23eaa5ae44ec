"""What embedding, searching and evaluating give."""

from dataclasses import astuple, dataclass
from pathlib import Path

from cgdcli.reports.base import ModelInfo, Report, SkippedImage


@dataclass(frozen=True)
class StageTimes(Report):
    """Where the time went, in seconds of all threads together: they overlap."""

    decode: float = 0.0
    transform: float = 0.0
    forward: float = 0.0
    write: float = 0.0

    def __add__(self, other: "StageTimes") -> "StageTimes":
        return StageTimes(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class EmbedReport(Report):
    """What `embed_images` made.

    Attributes:
        rows, labels, skipped: of the whole index.
        embedded, zero_blocks: rows that were made now, and those of them with an all-zero block.
        renamed, relabelled, dropped: rows that were kept under another name or with another label,
            and that were left out.
        continued: rows that a run which was stopped had made.
        passed_over, excluded: files without a picture's extension; pictures left out by patterns.
        engine, precision: that made the rows of now.
        times: of the rows of now; what is left of `seconds` is finding pictures and starting.
        vectors: of what views, projected to what, as options; empty where as the network gives.
        bytes: of the rows on the disk, the `.npy` of every part.
        parts: of an index in parts, how many were made; `index` is then the name of the whole.
    """

    index: Path
    rows: int
    embedding_dim: int
    model: ModelInfo
    seconds: float
    skipped: tuple[SkippedImage, ...]
    passed_over: int
    zero_blocks: int
    labels: int
    embedded: int
    renamed: int = 0
    relabelled: int = 0
    dropped: int = 0
    continued: int = 0
    excluded: int = 0
    engine: str = ""
    precision: str = ""
    times: StageTimes = StageTimes()
    vectors: str = ""
    bytes: int = 0
    parts: int = 0

    @property
    def images_per_second(self) -> float:
        """Rows made now by wall time, decoding included."""
        return self.embedded / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Hit(Report):
    """One row that looks like the query.

    Attributes:
        branches: cosines by letter, with `explain` only.
        score: what the order is by, where hits were ordered anew; only of one query comparable.
    """

    rank: int
    similarity: float
    path: str
    label: str | None
    row: int
    branches: dict[str, float] | None = None
    score: float | None = None


@dataclass(frozen=True)
class QueryHits(Report):
    """The answer to one query, best first."""

    query: str
    hits: tuple[Hit, ...]
    label: str | None = None
    query_path: str | None = None

    @property
    def name(self) -> str:
        """What to call the query where there is little room: a file by its name, else all of it."""
        if self.query == self.query_path:
            return Path(self.query).name
        return "stdin" if self.query == "-" else self.query


@dataclass(frozen=True)
class SearchReport(Report):
    """The answers to all queries, and the queries that could not be read."""

    results: tuple[QueryHits, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class ApproximateReport(Report):
    """What `index_approximately` made, or found.

    Attributes:
        file: None where none is worth it, of fewer than `fewest_rows`.
        new: it was made now.
        faiss: what faiss made it of.
        nprobe, candidates: cells that a query looks at, and rows proposed for ten hits.
        recall: of the ten nearest rows, found in the mean over `sample` rows that asked.
        queries_per_second: one query after the other; `exact_per_second` by looking at every row.
        bytes: of the file.
    """

    index: Path
    file: Path | None
    rows: int
    new: bool = False
    faiss: str = ""
    nprobe: int = 0
    candidates: int = 0
    recall: float = 0.0
    sample: int = 0
    queries_per_second: float = 0.0
    exact_per_second: float = 0.0
    bytes: int = 0
    seconds: float = 0.0
    fewest_rows: int = 0


@dataclass(frozen=True)
class CopyReport(Report):
    """How many pictures of hits were copied to a folder, and those that could not be, and why."""

    folder: Path
    copied: int
    missing: tuple[SkippedImage, ...] = ()


@dataclass(frozen=True)
class VectorStep(Report):
    """Retrieval quality once a step is added to those before it; figures as in `RecallReport`.

    Attributes:
        step: as an option.
        row_bytes: of a row of `dim` columns.
        compute: pixels that a picture's forward passes see; 1 for the plain one.
    """

    step: str
    dim: int
    row_bytes: int
    compute: float
    recall: dict[int, float]
    map_at_r: float | None


@dataclass(frozen=True)
class VectorsReport(Report):
    """What flip, scales, whitening, a cut and float16 give, one on top of the other."""

    what: str
    queries: int
    gallery: int
    labels: int
    steps: tuple[VectorStep, ...]
    without_partner: int = 0
    skipped: tuple[SkippedImage, ...] = ()


@dataclass(frozen=True)
class RecallReport(Report):
    """Retrieval quality.

    Attributes:
        recall: by K, the share of queries with one of their label among the K most similar rows;
            a query without partner stays in the denominator, as in the reference.
        map_at_r: mean over the queries WITH a partner of 1/R sum_{i<=R} P(i) rel(i) (Musgrave et
            al. 2020); None where no query has one.
        without_partner: queries whose label no other row has; `lonely_labels` are those labels.
    """

    recall: dict[int, float]
    map_at_r: float | None
    queries: int
    gallery: int
    labels: int
    without_partner: int
    lonely_labels: tuple[str, ...] = ()
    what: str = ""
    skipped: tuple[SkippedImage, ...] = ()
