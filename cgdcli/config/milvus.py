"""How an index in Milvus is reached and sent."""

from dataclasses import dataclass

from cgdcli.config.checks import check_range

MEBIBYTE = 2**20


@dataclass(frozen=True)
class MilvusConfig:
    """Patience and sizes. No call waits longer than these say.

    Attributes:
        connect_seconds: for a server to answer at all.
        request_seconds: for one answer. The client tries again until then while the server is away,
            so that one which restarts in time goes unnoticed.
        load_seconds: for a collection to be loaded or written out, asked for again and again.
        batch_bytes: sent at a time; a kill costs one batch.
        candidates: at least so many rows are taken from the graph and scored again exactly.
        sampled: rows that are compared, and asked with, after sending.
    """

    connect_seconds: float = 8.0
    request_seconds: float = 30.0
    load_seconds: float = 3_600.0
    batch_bytes: int = 4 * MEBIBYTE
    candidates: int = 64
    sampled: int = 32

    def __post_init__(self) -> None:
        check_range("--timeout", self.request_seconds, 0.1, 86_400)
