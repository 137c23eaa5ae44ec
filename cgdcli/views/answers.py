"""Answers for programs: JSON, JSON lines, CSV and bare paths."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cgdcli.reports import QueryHits
from cgdcli.views.formatting import json_text


def answer_dict(result: QueryHits) -> dict[str, Any]:
    """Plain values; `branches` stands only where it was asked for."""
    hits = [
        {key: value for key, value in hit.to_dict().items() if key != "branches" or value}
        for hit in result.hits
    ]
    return {"query": result.query, "label": result.label, "hits": hits}


def json_lines(results: Iterable[QueryHits]) -> Iterator[str]:
    """One JSON object a query, as in `--json`, each on a line of its own."""
    return (json_text(answer_dict(result)) + "\n" for result in results)


def csv_lines(results: Sequence[QueryHits]) -> Iterator[str]:
    """RFC 4180: a header line, then a line for each hit; a column for each branch asked for.

    Lines end in CR LF, which also makes the writer quote a name with either of them in it: read
    back, every name is what it was. A label that is not known is empty.
    """
    letters = next((list(h.branches) for r in results for h in r.hits if h.branches), [])
    yield _csv_line(["query", "rank", "similarity", "row", "label", "path", *letters])
    for result in results:
        for hit in result.hits:
            branches = [(hit.branches or {})[letter] for letter in letters]
            label = "" if hit.label is None else hit.label
            yield _csv_line(
                [result.query, hit.rank, hit.similarity, hit.row, label, hit.path, *branches]
            )


def path_lines(results: Iterable[QueryHits], *, end: str = "\n") -> Iterator[str]:
    """The hits' paths alone, each followed by `end`."""
    return (hit.path + end for result in results for hit in result.hits)


def _csv_line(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
