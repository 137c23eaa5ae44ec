"""The options of `cgd search` that say what is asked."""

from typing import Annotated

from cgdcli.cli.options import option
from cgdcli.config import Rerank

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
ThreadsOption = Annotated[int, option("--threads", help="0: as many as there are cores.")]
