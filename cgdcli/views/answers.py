"""Answers for programs: JSON, JSON lines, CSV and bare paths."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cgdcli.reports import QueryHits
from cgdcli.views.formatting import json_text

_ASKED_FOR = {"branches", "score"}


def answer_dict(result: QueryHits) -> dict[str, Any]:
    """Plain values; `branches` and `score` stand only where they were asked for."""
    hits = [
        {
            key: value
            for key, value in hit.to_dict().items()
            if key not in _ASKED_FOR or value is not None
        }
        for hit in result.hits
    ]
    return {"query": result.query, "label": result.label, "hits": hits}


def json_lines(results: Iterable[QueryHits]) -> Iterator[str]:
    """One JSON object a query, as in `--json`, each on a line of its own."""
    return (json_text(answer_dict(result)) + "\n" for result in results)


def csv_lines(results: Sequence[QueryHits]) -> Iterator[str]:
    """RFC 4180: a header line, then a line for each hit; columns for a score and for each branch
    where they were asked for.

    Lines end in CR LF, which also makes the writer quote a name with either of them in it: read
    back, every name is what it was. A label that is not known is empty.
    """
    letters = next((list(h.branches) for r in results for h in r.hits if h.branches), [])
    scores = ["score"] if any(h.score is not None for r in results for h in r.hits) else []
    yield _csv_line(["query", "rank", "similarity", "row", "label", "path", *scores, *letters])
    for result in results:
        for hit in result.hits:
            more = [hit.score for _ in scores] + [(hit.branches or {})[name] for name in letters]
            label = "" if hit.label is None else hit.label
            yield _csv_line(
                [result.query, hit.rank, hit.similarity, hit.row, label, hit.path, *more]
            )


def path_lines(results: Iterable[QueryHits], *, end: str = "\n") -> Iterator[str]:
    """The hits' paths alone, each followed by `end`."""
    return (hit.path + end for result in results for hit in result.hits)


def _csv_line(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
