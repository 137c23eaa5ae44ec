"""How an index is searched."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from cgdcli.config.checks import check_choice, check_range
from cgdcli.errors import ConfigError

MEBIBYTE = 2**20


class Rerank(StrEnum):
    """What orders the first hits anew."""

    none = "none"
    k_reciprocal = "k-reciprocal"
    aqe = "aqe"
    dba = "dba"


class ApproximateKind(StrEnum):
    """How rows are kept short in an approximate index."""

    auto = "auto"
    rabitq = "rabitq"
    sq8 = "sq8"


@dataclass(frozen=True)
class ApproximateConfig:
    """How an approximate index is made.

    Attributes:
        kind: `rabitq` is a bit a column, `sq8` a byte; `auto`: the first if it reaches `recall`,
            and nothing where there are so few rows that exact search is as good.
        recall: of the 10 nearest rows so many must be found, in the mean over `sample` rows that
            ask; the least work that does is chosen.
        max_memory: bytes that the short rows may take while it is made; sq8 is not tried beyond it.
    """

    kind: ApproximateKind = ApproximateKind.auto
    recall: float = 0.99
    sample: int = 200
    max_memory: int = 4_096 * MEBIBYTE

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", check_choice("type", self.kind, ApproximateKind))
        check_range("--recall", self.recall, 0.1, 1)
        check_range("sample", self.sample, 10, 100_000)
        check_range("--max-memory", self.max_memory / MEBIBYTE, 8, 2**20)


@dataclass(frozen=True)
class ScanConfig:
    """How much memory and how many threads looking at every row may take.

    Attributes:
        max_memory: bytes that buffers and scores may take together; not counted are the map of the
            rows (pages that the system takes back when it wants them), the queries and the answer.
            Beyond the default nothing becomes faster.
        threads: that compare rows with queries, be it one by one, in a matrix product or in
            an approximate index; one thread more reads ahead. 0 for as many as there are cores
            for this process.
    """

    max_memory: int = 128 * MEBIBYTE
    threads: int = 0

    def __post_init__(self) -> None:
        check_range("--max-memory", self.max_memory / MEBIBYTE, 8, 2**20)
        check_range("--threads", self.threads, 0, 1_024)


@dataclass(frozen=True)
class RerankConfig:
    """How the first hits are ordered anew; see `index.rerank` for the formulas.

    Attributes:
        top: so many hits are looked at; those behind them are not returned.
        neighbours: of `aqe` and `dba`, what is averaged beside the query or the row.
        alpha: of `aqe`, the power of a similarity that is a hit's weight; 0: the plain average.
        k1, k2, share: of `k-reciprocal`, the paper's k1, k2 and lambda.
    """

    method: Rerank = Rerank.none
    top: int = 100
    neighbours: int = 10
    alpha: float = 0.0
    k1: int = 20
    k2: int = 6
    share: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", check_choice("rerank", self.method, Rerank))
        check_range("--rerank-top", self.top, 2, 2_000)  # k-reciprocal holds several top x top
        check_range("neighbours", self.neighbours, 1, 1_000)
        check_range("alpha", self.alpha, 0, 100)
        check_range("k1", self.k1, 1, 1_000)
        check_range("k2", self.k2, 1, 1_000)
        check_range("share", self.share, 0, 1)

    def __bool__(self) -> bool:
        return self.method is not Rerank.none


@dataclass(frozen=True)
class SearchConfig:
    """What is asked of an index.

    Attributes:
        k: hits of each query; all rows where there are fewer.
        exclude_self: leave out the query's own picture, by its place, else by its content.
        explain: give each hit the cosine of every branch.
        mean: ask once, with the mean of all queries, instead of with each.
        weight: of the pictures that are added to each query or taken from it; its own is 1.
        min_similarity: leave out hits below it.
        where: leave out rows of which this is not true; see `index.where`.
        branches: (letter, weight) of the branches that count; empty: all alike.
        exact: look at every row also where there is an approximate index.
    """

    k: int = 10
    exclude_self: bool = False
    explain: bool = False
    mean: bool = False
    weight: float = 0.5
    min_similarity: float | None = None
    where: str | None = None
    branches: tuple[tuple[str, float], ...] = ()
    exact: bool = False
    rerank: RerankConfig = field(default_factory=RerankConfig)
    scan: ScanConfig = field(default_factory=ScanConfig)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"{self.k} hits are wanted; at least 1", hint="try k=10")
        check_range("--weight", self.weight, 0.001, 1_000)
        if self.min_similarity is not None:
            check_range("--min-similarity", self.min_similarity, -1, 1)
        if self.rerank and self.k > self.rerank.top:
            raise ConfigError(
                f"{self.k} hits are wanted, and --rerank orders the first {self.rerank.top} anew",
                hint=f"--rerank-top {self.k}, or fewer hits",
            )


@dataclass(frozen=True)
class ServeConfig:
    """How a page to search with is served.

    Attributes:
        host: the address to listen at; of the loopback, unless others are to search, too.
        names: that requests may call this machine by, besides its own name and its addresses.
        port: 0 for one that is free.
        most_hits: of one answer.
        upload: bytes of a picture that is asked with.
        rate: searches a second of one client, in the mean; a burst may have four times as many.
        waiting: searches that wait at a time; one more is told to come again.
        together: pictures embedded in one pass.
    """

    host: str = "127.0.0.1"
    port: int = 8_000
    most_hits: int = 1_000
    upload: int = 20 * MEBIBYTE
    rate: float = 50.0
    waiting: int = 256
    together: int = 16
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_range("--port", self.port, 0, 65_535)
        check_range("--max-hits", self.most_hits, 1, 100_000)
        check_range("--max-upload", self.upload / MEBIBYTE, 0.001, 2_000)
        check_range("--rate", self.rate, 0.01, 1e6)
        check_range("waiting", self.waiting, 1, 100_000)
        check_range("together", self.together, 1, 1_024)


def branch_weights(text: str) -> tuple[tuple[str, float], ...]:
    """`S=1,G=2` as (letter, weight).

    Raises:
        ConfigError: not such a list, a letter twice, a weight below 0, or none above it.
    """
    hint = "such as --branch S=1,G=2; a branch that is not named does not count"
    pairs = []
    for part in filter(None, text.replace(" ", "").split(",")):
        letter, _, number = part.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not letter or not 0 <= weight < math.inf:
            raise ConfigError(
                f"`{part}` of --branch {text!r} is not LETTER=WEIGHT, a weight of 0 or more",
                hint=hint,
            )
        pairs.append((letter, weight))
    if len({letter for letter, _ in pairs}) < len(pairs):
        raise ConfigError(f"--branch {text!r} names a branch twice", hint=hint)
    if not any(weight for _, weight in pairs):
        raise ConfigError(f"--branch {text!r} gives no branch a weight above 0", hint=hint)
    return tuple(pairs)
