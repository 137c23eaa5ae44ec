"""Job: show me the ones like this. Imports no torch: see `querying`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cgdcli.config import Device, SearchConfig
from cgdcli.errors import DatasetError
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.networks import Model
from cgdcli.reports import QueryHits, SearchReport, SkippedImage
from cgdcli.retrieval.hits import Searched, hits_of
from cgdcli.retrieval.places import display_path
from cgdcli.retrieval.queries import Query, QueryReader
from cgdcli.retrieval.vectors import blocks_of, combined

__all__ = ["display_path", "search_each", "search_images"]

Names = Sequence[Path | str] | Path | str

# Where answers are wanted as they come, so many queries are asked at a time: to embed them takes
# several times as long as another pass over a million rows.
TOGETHER = 256


def search_images(
    queries: Names,
    index: EmbeddingIndex | Path | str,
    config: SearchConfig | None = None,
    *,
    plus: Names = (),
    minus: Names = (),
    model: Model = None,
    root: Path | None = None,
    device: Device = Device.auto,
) -> SearchReport:
    """Find the rows of an index that look most like each query, best first.

    Args:
        queries: picture files, or what `retrieval.queries` knows besides: `row:N`, `-`, an address.
        plus, minus: pictures that are added to every query, and taken from it, by `config.weight`.
        model: to embed the queries; None for the one that made the index.
        root: where to look for the index's pictures first.

    Raises:
        DatasetError: a query is missing or a folder, or no query can be read.
        MismatchError: the model is not the index's, or branches are wanted of an index whose
            columns have none.
    """
    answers = list(
        search_each(
            queries,
            index,
            config,
            plus=plus,
            minus=minus,
            model=model,
            root=root,
            device=device,
            together=None,
        )
    )
    return SearchReport(
        tuple(answer for answer in answers if isinstance(answer, QueryHits)),
        tuple(answer for answer in answers if isinstance(answer, SkippedImage)),
    )


def search_each(
    queries: Names,
    index: EmbeddingIndex | Path | str,
    config: SearchConfig | None = None,
    *,
    plus: Names = (),
    minus: Names = (),
    model: Model = None,
    root: Path | None = None,
    device: Device = Device.auto,
    together: int | None = TOGETHER,
) -> Iterator[QueryHits | SkippedImage]:
    """The same, `together` queries at a time (None: all), for more than one cares to wait for.

    A query that cannot be read gives a `SkippedImage`; what is missing is said before any answer.
    """
    config = config or SearchConfig()
    stored = open_index(index, root)
    blocks = blocks_of(stored, config)
    among = None if config.where is None else stored.among(config.where)
    asked, added, taken = (_names(given) for given in (queries, plus, minus))
    if not asked:
        raise DatasetError("there is no query", hint="give a picture, or row:N")
    reader = QueryReader([*asked, *added, *taken], stored, model, device)
    operands = _operands(reader, [*added, *taken])
    plus_minus = [operands[name] for name in added], [operands[name] for name in taken]
    plain = not (added or taken or config.mean)
    searched = Searched(stored, config, blocks, among, plain, 1 if config.mean else len(asked))
    size = len(asked) if config.mean or together is None else together
    unread, why = 0, ""
    for first in range(0, len(asked), size):
        names = asked[first : first + size]
        found, skipped = reader.read(names)
        asking = [found[name] for name in names if name in found]
        unread += len(names) - len(asking)
        why = why or (skipped[0].reason if skipped else "")
        if unread == len(asked):
            raise DatasetError(f"no query can be read: {why}", hint="give a picture")
        yield from skipped
        if asking:
            asking = combined(asking, *plus_minus, config, blocks)
            for query, hits in zip(asking, hits_of(asking, searched), strict=True):
                yield QueryHits(query.name, hits, query.label, query.path)


def _operands(reader: QueryReader, names: list[str]) -> dict[str, Query]:
    found, skipped = reader.read(names)
    if skipped:
        raise DatasetError(
            f"a picture of --plus or --minus cannot be read: {skipped[0].reason}",
            hint="give another, or leave it out",
        )
    return found


def _names(given: Names) -> list[str]:
    return [str(name) for name in ([given] if isinstance(given, (str, Path)) else given)]
