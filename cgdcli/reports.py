"""Everything that is shown: the results of the jobs as frozen dataclasses, plain values only.

`to_dict` gives what `--json` prints. Similarities are cosines, recall values fractions of 1,
durations seconds, sizes bytes.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Report:
    """Base of the results; `to_dict` is their JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, keys as text."""
        plain = _plain(dataclasses.asdict(self))  # type: ignore[call-overload]
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


@dataclass(frozen=True)
class SkippedImage(Report):
    """A picture that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ModelInfo(Report):
    """Which model it is: where it came from and what identifies it.

    Attributes:
        source: the file, or the backbone's name, that was loaded.
        assumed: what the source did not say and was taken by convention, in words.
    """

    source: str
    fingerprint: str
    config: dict[str, Any]
    assumed: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbedReport(Report):
    """What `embed_images` made."""

    index: Path
    rows: int
    embedding_dim: int
    model: ModelInfo
    seconds: float
    skipped: tuple[SkippedImage, ...]
    passed_over: int
    zero_blocks: int
    labels: int

    @property
    def images_per_second(self) -> float:
        """Rows by wall time, decoding included."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Hit(Report):
    """One row that looks like the query. `branches` are cosines by letter, with `explain` only."""

    rank: int
    similarity: float
    path: str
    label: str | None
    row: int
    branches: dict[str, float] | None = None


@dataclass(frozen=True)
class QueryHits(Report):
    """The answer to one query, best first."""

    query: str
    hits: tuple[Hit, ...]
    label: str | None = None
    query_path: str | None = None


@dataclass(frozen=True)
class SearchReport(Report):
    """The answers to all queries, and the queries that could not be read."""

    results: tuple[QueryHits, ...]
    skipped: tuple[SkippedImage, ...]


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


@dataclass(frozen=True)
class StartReport(Report):
    """A training run as it is about to begin."""

    run: Path
    classes: int
    images: int
    steps_per_epoch: int
    epochs: int
    first_epoch: int
    batch_size: int
    device: str
    judged_on: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StepReport(Report):
    """One optimizer step; `left_seconds` is the expected rest of the run, evaluation included."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    left_seconds: float | None


@dataclass(frozen=True)
class EpochReport(Report):
    """One epoch: mean losses over its steps, and the evaluation after it (epoch 0: before any)."""

    epoch: int
    epochs: int
    learning_rate: float
    loss: float | None
    class_loss: float | None
    triplet_loss: float | None
    active_triplets: float | None
    accuracy: float | None
    images_per_second: float | None
    train_seconds: float
    evaluation: RecallReport | None
    is_best: bool


@dataclass(frozen=True)
class TrainReport(Report):
    """A finished run. `test` was measured once, at the end, with the checkpoint `model`."""

    run: Path
    model: Path
    best_epoch: int | None
    epochs: int
    seconds: float
    judged_on: str
    evaluation: RecallReport | None
    test: RecallReport | None
    skipped: tuple[SkippedImage, ...] = ()


@dataclass(frozen=True)
class StageProfile(Report):
    """One stage of the network at batch size 1."""

    name: str
    parameters: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class ProfileReport(Report):
    """What a network costs.

    Attributes:
        parameters: of the whole model; `embedding_parameters` + `classifier_parameters`.
        macs: multiply-accumulates of convolutions and linear layers for one picture, whole model.
        flops: 2 x macs.
        uncounted: kinds of operation that are not in `macs`, with how often they run.
        latency_seconds: median of one forward pass at `batch_size`; p95 beside it.
        peak_memory_bytes: what `peak_memory_of` names.
    """

    config: dict[str, Any]
    parameters: int
    embedding_parameters: int
    classifier_parameters: int
    weight_bytes: int
    macs: int
    flops: int
    backbone_macs: int
    stages: tuple[StageProfile, ...]
    uncounted: dict[str, int]
    batch_size: int
    device: str
    threads: int
    repeats: int
    latency_seconds: float
    latency_p95_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    peak_memory_of: str
    embedding_dim: int


@dataclass(frozen=True)
class ConversionReport(Report):
    """What became of every entry of a foreign file: kept + renamed + dropped = source_entries.

    `filled` are counters (`num_batches_tracked`) that old files lack and that start at 0; `upcast`
    counts the entries that were stored in half or double precision and are float32 now.
    """

    source: Path
    target: Path
    source_entries: int
    kept: tuple[str, ...]
    renamed: dict[str, str]
    dropped: dict[str, str]
    filled: tuple[str, ...]
    upcast: int
    wrapper: str
    format: str
    config: dict[str, Any]
    assumed: tuple[str, ...]
    fingerprint: str

    @property
    def written_entries(self) -> int:
        """Entries of the new file."""
        return len(self.kept) + len(self.renamed) + len(self.filled)


@dataclass(frozen=True)
class InspectReport(Report):
    """What a file is: `kind` in words, then named facts in the order to show them."""

    path: Path
    kind: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
