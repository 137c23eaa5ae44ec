"""Job: whether ordering the first hits anew helps on an index's own labels, paired."""

from collections.abc import Sequence
from pathlib import Path

from cgdcli.config import RECALL_RANKS, RerankConfig
from cgdcli.datasets.columns import PictureColumns
from cgdcli.errors import ConfigError
from cgdcli.evaluation.of_index import judge_labelled, labelled_rows
from cgdcli.evaluation.scoring import check_ranks
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.judging.differences import paired_differences
from cgdcli.remote import shown
from cgdcli.reports import RerankReport


def judge_reranking(
    index: EmbeddingIndex | Path | str,
    config: RerankConfig,
    ranks: Sequence[int] = RECALL_RANKS,
    *,
    table: Path | str | None = None,
    ignore_same: str | None = None,
) -> RerankReport:
    """Measure the labelled rows of an index with their hits as they are, and ordered anew.

    Both are judged by the same queries in the same gallery. mAP@R looks at R hits: those behind the
    first `config.top` stay as they are.

    Args:
        table, ignore_same: as of `evaluation.evaluate`.

    Raises:
        ConfigError: no method is named.
        DatasetError: no row has a label, or the table does not fit.
    """
    check_ranks(ranks)
    if not config:
        raise ConfigError("no way to order hits anew is named", hint="--rerank k-reciprocal")
    columns = None if table is None else PictureColumns.read(Path(table))
    labelled = labelled_rows(open_index(index), columns=columns, ignore_same=ignore_same)
    plain = judge_labelled(labelled, ranks)
    anew = judge_labelled(labelled, ranks, config)
    return RerankReport(
        shown(labelled.index.path),
        str(config.method),
        config.top,
        queries=len(plain.labels),
        gallery=plain.scores.gallery,
        classes=len(set(plain.labels.tolist())),
        differences=paired_differences(plain.scores, anew.scores, plain.labels),
        ignore_same=ignore_same or "",
    )
