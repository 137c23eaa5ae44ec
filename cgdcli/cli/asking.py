"""The options of `cgd search` that say what is asked, and what they refuse."""

from typing import TYPE_CHECKING, Annotated

import typer

from cgdcli.cli.options import option, was_given
from cgdcli.config import Rerank, RerankConfig, ScanConfig, SearchConfig
from cgdcli.config.search import MEBIBYTE
from cgdcli.errors import ConfigError

if TYPE_CHECKING:
    from cgdcli.index.store import EmbeddingIndex

QUERY_HELP = (
    "Pictures; row:N; a picture at an address (https://, s3:// ...); - for one on stdin, clipboard "
    "for the one copied last."
)

WhereOption = Annotated[
    str | None,
    option(
        metavar="EXPRESSION",
        help="""Only rows of which this is true: 'label == "007"', 'path like "front/%"'; """
        "fields label, path, row, size; in, not in, is null, and, or, not.",
    ),
]
MinSimilarityOption = Annotated[
    float | None, option("--min-similarity", help="Leave out hits below this similarity.")
]
BranchOption = Annotated[
    str | None,
    option(
        "--branch",
        metavar="WEIGHTS",
        help="Weigh the branches, S=1,G=2, without embedding again; what is not named counts not.",
    ),
]
PlusOption = Annotated[
    list[str] | None,
    option("--plus", metavar="PICTURE", help="Add this picture to each query, by --weight."),
]
MinusOption = Annotated[
    list[str] | None,
    option("--minus", metavar="PICTURE", help="Take this picture from each query, by --weight."),
]
WeightOption = Annotated[
    float, option("--weight", help="Of --plus and --minus; a query's own is 1.")
]
MeanOption = Annotated[
    bool, option("--mean", help="Ask once, with the mean of the queries, instead of with each.")
]
RerankOption = Annotated[
    Rerank,
    option(
        "--rerank",
        help="Order the first hits anew; `cgd evaluate --rerank` shows whether it helps.",
    ),
]
RerankTopOption = Annotated[int, option("--rerank-top", help="So many hits are ordered anew.")]
MaxMemoryOption = Annotated[
    int,
    option(
        "--max-memory",
        metavar="MB",
        help="What buffers and scores may take; the map of the rows is not counted.",
    ),
]
ThreadsOption = Annotated[
    int,
    option(
        "--threads",
        help="That compare rows with queries (not those that embed a picture); 0: as many as there "
        "are cores.",
    ),
]
ExactOption = Annotated[
    bool,
    option("--exact", help="Look at every row also where `cgd index` has made a quicker way."),
]
MAX_MEMORY = ScanConfig.max_memory // MEBIBYTE


def scan_config(max_memory: int, threads: int) -> ScanConfig:
    """Of megabytes and threads."""
    return ScanConfig(max_memory * MEBIBYTE, threads)


def rerank_config(context: typer.Context, method: Rerank, top: int) -> RerankConfig:
    """What orders the first hits anew.

    Raises:
        ConfigError: `top` without a method.
    """
    if method is Rerank.none and was_given(context, "rerank_top"):
        raise ConfigError(
            "--rerank-top says how many hits --rerank orders anew; there is no --rerank",
            hint="leave it out, or add --rerank k-reciprocal",
        )
    return RerankConfig(method, top)


def meaning_lines(index: "EmbeddingIndex", similarity: float) -> list[str]:
    """What a similarity means on this index, where that was counted."""
    from cgdcli.index.calibration import calibration_of

    calibration = calibration_of(index)
    meaning = None if calibration is None else calibration.at(similarity)
    if meaning is None or meaning.precision is None:
        return []
    return [
        f"note: {similarity:g}: {100 * meaning.precision:.0f} % of the pairs of this index at or "
        f"above it share a class, {100 * (meaning.recall or 0):.0f} % of all that do"
    ]


def check_asking(
    context: typer.Context, config: SearchConfig, queries: int, operands: int
) -> SearchConfig:
    """Refuse what would do nothing.

    Args:
        operands: pictures of --plus and --minus.
    """
    if was_given(context, "weight") and not operands:
        raise ConfigError(
            "--weight is of the pictures of --plus and --minus; there are none",
            hint="leave it out, or add --plus PICTURE",
        )
    if config.mean and queries < 2:
        raise ConfigError(
            "--mean is of several queries; there is one", hint="leave it out, or name more"
        )
    return config
