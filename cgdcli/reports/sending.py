"""What sending an index to Milvus gives."""

from dataclasses import dataclass
from pathlib import Path

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class SentReport(Report):
    """An index that is in Milvus, whole.

    Attributes:
        rows, embedding_dim: of the index.
        sent: rows that went now; 0 where the same index was there already.
        continued: rows that a run which was stopped had sent.
        replaced: whether another generation was there before.
        index_type: of the vectors there.
        recall: share of the 10 nearest rows (by exact search, here) that Milvus offers, of
            `sampled` rows asked with; None where nothing was sent.
    """

    index: Path
    address: str
    rows: int
    embedding_dim: int
    sent: int
    continued: int
    replaced: bool
    index_type: str
    recall: float | None
    sampled: int
    seconds: float
