"""Job: what each of flip, scales, whitening, a cut and float16 gives, on the user's own labels.

Every picture is decoded once and embedded in all its views; each step is scored on the same rows,
added to the steps before it. Whitening and a cut are learned on what is searched, without labels,
as an index learns them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import (
    RECALL_RANKS,
    CGDConfig,
    Dataset,
    EmbedConfig,
    EmbedPrecision,
    RowType,
    VectorConfig,
)
from cgdcli.datasets.folders import read_class_folders
from cgdcli.datasets.reading import read_evaluation_data
from cgdcli.datasets.table import ImageTable
from cgdcli.engines import Engine, Rows
from cgdcli.engines.choosing import make_engine
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.engines.vectors import AtSize, VectorEngine, average_views, checked_engine
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.evaluation import (
    EmbeddedTable,
    check_one_thing,
    check_ranks,
    embed_part,
    evaluate_table,
    join_parts,
)
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.index.whitening import Projection, check_enough, learn_projection
from cgdcli.networks import Model, Network, known_network
from cgdcli.querying import model_of_index
from cgdcli.remote import shown
from cgdcli.reports import VectorsReport, VectorStep
from cgdcli.streaming import OnProgress


class StepsEngine(VectorEngine):
    """Rows (B, S D): of S steps, each of some of the views, one after the other."""

    def __init__(
        self,
        engines: Sequence[Engine],
        views: VectorConfig,
        config: CGDConfig,
        steps: Sequence[VectorConfig],
    ) -> None:
        super().__init__(engines, views, config)
        self.steps = steps

    def embed_sizes(self, pixels: Sequence[NDArray[np.uint8]]) -> Rows:
        """See there."""
        found = dict(zip(self.sizes, self.views(pixels), strict=True))
        own, blocks = self.config.transform.image_size, len(self.config.descriptors)
        rows = []
        for step in self.steps:
            chosen = [row for size in step.sizes(own) for row in found[size][: 1 + step.flip]]
            rows.append(average_views(chosen, blocks))
        return np.concatenate(rows, axis=1)


@dataclass(frozen=True)
class Judging:
    """What is embedded, by what, in which steps.

    Attributes:
        make: the network's engine for a size in pixels.
        dim: columns that it gives.
        projection: the one of an index; None: it is learned.
    """

    table: ImageTable
    what: str
    vectors: VectorConfig
    config: CGDConfig
    make: Callable[[int], Engine]
    dim: int
    exact_decode: bool
    projection: Projection | None = None


def evaluate_vectors(
    data: Path | str | None = None,
    *,
    vectors: VectorConfig | None = None,
    model: Model = None,
    index: EmbeddingIndex | Path | str | None = None,
    query: Path | str | None = None,
    gallery: Path | str | None = None,
    ranks: Sequence[int] = RECALL_RANKS,
    config: EmbedConfig | None = None,
    dataset: Dataset = Dataset.auto,
    crop_box: bool = False,
    on_progress: OnProgress | None = None,
) -> VectorsReport:
    """Measure plain rows, and what each step of `vectors` adds to those before it.

    The labelled pictures of an `index` are embedded again, as they were, in the steps that it
    records, and go through its frozen projection: unless pictures have changed the last step gives
    what `evaluation.evaluate_index` gives. Other arguments as of `evaluation.evaluate`.

    Args:
        vectors: the steps; None beside an index.

    Raises:
        ConfigError: there is no step, or not exactly one thing is given.
        DatasetError: no labels, none readable, or too few pictures for a projection.
        MismatchError: the index's model is gone.
    """
    check_ranks(ranks)
    check_one_thing(data, index, query, gallery, model)
    config = config or EmbedConfig()
    if index is not None:
        judging = _of_index(open_index(index), config)
    else:
        if data is not None:
            table, what = read_evaluation_data(Path(data), dataset, crop_box)
        else:
            table, what = _pair(Path(str(query)), Path(str(gallery))), f"{query} in {gallery}"
        judging = _of_table(table, what, known_network(model), vectors or VectorConfig(), config)
    if not str(judging.vectors):
        raise ConfigError(
            "there is no step to measure: the vectors are as the network gives them",
            hint="name some, such as --flip or --whiten; cgd evaluate alone measures plain ones",
        )
    return _report(judging, ranks, replace(config, exact_decode=judging.exact_decode), on_progress)


def _of_table(
    table: ImageTable, what: str, network: Network, vectors: VectorConfig, config: EmbedConfig
) -> Judging:
    """By PyTorch, as `evaluation.evaluate` does: one engine for every size."""
    engine = TorchEngine(network.model, config.device)
    return Judging(
        table,
        what,
        vectors,
        network.config,
        lambda _: engine,
        network.embedding_dim,
        config.exact_decode,
    )


def _of_index(index: EmbeddingIndex, config: EmbedConfig) -> Judging:
    network = model_of_index(index, None)
    assert index.header is not None
    precision = EmbedPrecision(index.header.precision)

    def make(size: int) -> Engine:
        if precision is EmbedPrecision.int8 and size != network.config.transform.image_size:
            raise ConfigError(
                f"`{shown(index.path)}` is int8, calibrated on pictures of "
                f"{network.config.transform.image_size} pixels, and --scales has them of {size}",
                hint="leave --scales out, or make the index in another --precision",
            )
        return make_engine(
            AtSize(network, size),
            precision=precision,
            device=config.device,
            quantized=lambda: QuantizedGraph(index.graph()),
        )

    return Judging(
        _labelled(index),
        shown(index.path),
        index.vectors,
        network.config,
        make,
        network.embedding_dim,
        index.header.exact_decode,
        index.projection,
    )


def _pair(query: Path, gallery: Path) -> ImageTable:
    """Queries in another folder's gallery, nothing left out."""
    asked, searched = read_class_folders(query), read_class_folders(gallery)
    is_query = (*[True] * len(asked), *[False] * len(searched))
    return ImageTable(
        asked.paths + searched.paths,
        asked.labels + searched.labels,
        is_query=is_query,
        is_gallery=tuple(not asks for asks in is_query),
    )


def _labelled(index: EmbeddingIndex) -> ImageTable:
    """The pictures of an index that have a label, where they are now."""
    found = [
        (index.file(row), label) for row, label in enumerate(index.labels()) if label is not None
    ]
    if not found:
        raise DatasetError(
            f"no row of `{shown(index.path)}` has a label, so nothing says which hits are right",
            hint="embed a folder of class folders, or give --labels FILE.csv when embedding",
        )
    return ImageTable(
        tuple(file for file, _ in found if file is not None), tuple(label for _, label in found)
    )


def _report(
    judging: Judging, ranks: Sequence[int], config: EmbedConfig, on_progress: OnProgress | None
) -> VectorsReport:
    vectors, table = judging.vectors, judging.table
    dim = vectors.stored_dim(judging.dim)
    if vectors.projects and judging.projection is None:
        check_enough(len(table.gallery), dim)
    views = _view_steps(vectors)
    engine = _engine(judging, views)
    embedded = join_parts([embed_part(engine, table, config, range(len(table)), on_progress)])
    steps = []
    for name, step, rows in _steps(judging, views, embedded):
        scored = evaluate_table(engine, table, config, ranks, embedded=replace(embedded, rows=rows))
        row_bytes = rows.shape[1] * rows.dtype.itemsize
        compute = step.compute(judging.config.transform.image_size)
        figures = (row_bytes, compute, scored.recall, scored.map_at_r)
        steps.append(VectorStep(name, rows.shape[1], *figures))
    return VectorsReport(
        judging.what,
        scored.queries,
        scored.gallery,
        scored.labels,
        tuple(steps),
        scored.without_partner,
        embedded.skipped,
    )


def _view_steps(vectors: VectorConfig) -> list[VectorConfig]:
    """Plain, then with the mirror image, then at all scales; those there are."""
    found = [VectorConfig(), VectorConfig(vectors.flip), VectorConfig(vectors.flip, vectors.scales)]
    return list(dict.fromkeys(found))


def _engine(judging: Judging, steps: Sequence[VectorConfig]) -> StepsEngine:
    """At its own size, too, whatever the scales: plain rows are what all is compared with."""
    scales = {scale for step in steps for scale in step.scales}
    views = VectorConfig(steps[-1].flip, tuple(scales))
    own = judging.config.transform.image_size
    engines = [checked_engine(judging.make, size, own) for size in views.sizes(own)]
    return StepsEngine(engines, views, judging.config, steps)


def _steps(
    judging: Judging, views: Sequence[VectorConfig], embedded: EmbeddedTable
) -> Iterator[tuple[str, VectorConfig, Rows]]:
    """Name, views and rows of each step, on top of the one before."""
    vectors = judging.vectors
    for place, step in enumerate(views):
        rows = embedded.rows[:, place * judging.dim : (place + 1) * judging.dim]
        added = str(step) if place < 2 else str(replace(step, flip=False))
        yield added or "as the network gives them", step, rows
    rows = np.ascontiguousarray(rows)
    for name, projection in _projections(judging, embedded, rows):
        projected = projection.apply(rows)
        yield name, step, projected
    if vectors.projects:
        rows = projected
    if vectors.dtype is not RowType.float32:
        yield f"--dtype {vectors.dtype}", step, rows.astype(vectors.dtype.value)


def _projections(
    judging: Judging, embedded: EmbeddedTable, rows: Rows
) -> Iterator[tuple[str, Projection]]:
    """Whitening and the cut, one after the other where there are rows enough for the first."""
    vectors, table = judging.vectors, judging.table
    if not vectors.projects:
        return
    said = str(VectorConfig(whiten=vectors.whiten, dim=vectors.dim))
    if judging.projection is not None:
        yield said, judging.projection
        return
    kept = np.flatnonzero(np.isin(embedded.places, table.gallery))
    dim = vectors.stored_dim(judging.dim)
    if vectors.whiten and vectors.dim is not None and len(kept) > judging.dim:
        yield "--whiten", learn_projection(rows, judging.dim, whiten=True, kept=kept)
        said = f"--dim {vectors.dim}"
    yield said, learn_projection(rows, dim, whiten=vectors.whiten, kept=kept)
