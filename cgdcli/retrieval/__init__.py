"""Job: show me the ones like this. Imports no torch: see `querying`."""

from collections.abc import Sequence
from pathlib import Path

from cgdcli.config import Device, SearchConfig
from cgdcli.errors import DatasetError
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.networks import Model
from cgdcli.reports import QueryHits, SearchReport
from cgdcli.retrieval.hits import Searched, hits_of
from cgdcli.retrieval.places import display_path
from cgdcli.retrieval.queries import read_queries
from cgdcli.retrieval.vectors import blocks_of, combined

__all__ = ["display_path", "search_images"]

Names = Sequence[Path | str] | Path | str


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
    config = config or SearchConfig()
    if root is not None and not root.is_dir():
        raise DatasetError(
            f"--root `{root}` is not a folder; the folder that holds the pictures is wanted",
            hint="leave it out to look where they were",
        )
    stored = open_index(index, root)
    blocks = blocks_of(stored, config)
    among = None if config.where is None else stored.among(config.where)
    asked, added, taken = (_names(given) for given in (queries, plus, minus))
    if not asked:
        raise DatasetError("there is no query", hint="give a picture, or row:N")
    found, skipped = read_queries([*asked, *added, *taken], stored, model, device)
    unread = [picture for picture in skipped if picture.path in (*added, *taken)]
    if unread:
        raise DatasetError(
            f"a picture of --plus or --minus cannot be read: {unread[0].reason}",
            hint="give another, or leave it out",
        )
    asking = [found[name] for name in asked if name in found]
    if not asking:
        raise DatasetError(f"no query can be read: {skipped[0].reason}", hint="give a picture")
    asking = combined(asking, [found[n] for n in added], [found[n] for n in taken], config, blocks)
    searched = Searched(stored, config, blocks, among)
    return SearchReport(
        tuple(
            QueryHits(query.name, hits, query.label, query.path)
            for query, hits in zip(asking, hits_of(asking, searched), strict=True)
        ),
        tuple(skipped),
    )


def _names(given: Names) -> list[str]:
    return [str(name) for name in ([given] if isinstance(given, (str, Path)) else given)]
