"""Rows of queries: taken together, weighted by branch, compared branch by branch.

A row of an index with blocks is n unit blocks over sqrt(n): its cosine with another is the mean of
the blocks' cosines as long as the blocks stay unit, so they are made unit again, each by itself.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import SearchConfig
from cgdcli.errors import ConfigError, MismatchError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.remote import shown
from cgdcli.retrieval.queries import Query

Row = NDArray[np.float32]
Blocks = list[tuple[str, int, int]]


def blocks_of(index: EmbeddingIndex, config: SearchConfig) -> Blocks | None:
    """(letter, first column, end column) of each branch; None where columns belong to none.

    Raises:
        MismatchError: `config` wants branches, and there are none, or others.
    """
    header = index.header
    blocks = None if header is None or header.projection is not None else header.blocks
    option = "--explain" if config.explain else "--branch" if config.branches else None
    if blocks is None and option is not None:
        if header is not None and header.projection is not None:
            raise MismatchError(
                f"the rows of `{shown(index.path)}` went through a projection ({index.vectors}): "
                "its columns belong to no descriptor",
                hint=f"leave out {option}, or embed again without --whiten and --dim",
            )
        raise MismatchError(
            f"`{shown(index.path)}` does not record which columns belong to which descriptor",
            hint=f"leave out {option}, or embed again with a CGD model",
        )
    letters = [letter for letter, _, _ in blocks or ()]
    unknown = [letter for letter, _ in config.branches if letter not in letters]
    if unknown:
        raise MismatchError(
            f"--branch names `{unknown[0]}`; the branches of `{shown(index.path)}` are "
            f"{', '.join(letters)}",
            hint="name those: --branch " + ",".join(f"{letter}=1" for letter in letters),
        )
    return blocks


def branch_similarities(query: Row, row: Row, blocks: Blocks) -> dict[str, float]:
    """The cosine of each block of columns; 0 for a block that is all zero."""
    result = {}
    for letter, start, stop in blocks:
        a = query[start:stop].astype(np.float64)
        b = row[start:stop].astype(np.float64)
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        result[letter] = float(np.clip(a @ b / lengths, -1, 1)) if lengths else 0.0
    return result


def reweighted(row: Row, blocks: Blocks, weights: Sequence[tuple[str, float]]) -> Row:
    """A query whose products with rows are sum(w cos) / sum(w) of their branches' cosines.

    Args:
        row: (D,), of unit blocks over sqrt(n).
        weights: letter and weight; a letter that is not there weighs nothing.
    """
    largest = max(weight for _, weight in weights)  # by it: a sum or its inverse may overflow
    of_letter = {letter: weight / largest for letter, weight in weights}
    scale = math.sqrt(len(blocks)) / sum(of_letter.values())
    result = np.zeros(len(row))
    for letter, start, stop in blocks:
        block = row[start:stop].astype(np.float64)
        result[start:stop] = of_letter.get(letter, 0.0) * scale * _unit(block)
    return result.astype(np.float32)


def combined(
    asking: Sequence[Query],
    added: Sequence[Query],
    taken: Sequence[Query],
    config: SearchConfig,
    blocks: Blocks | None,
) -> list[Query]:
    """The queries to ask with: their mean where that is wanted, with what is added and taken.

    Raises:
        ConfigError: nothing is left of one.
    """
    if config.mean and len(asking) > 1:
        asking = [_sum(asking, [1.0] * len(asking), blocks, "mean of ")]
    if not added and not taken:
        return list(asking)
    weights = [1.0, *[config.weight] * len(added), *[-config.weight] * len(taken)]
    return [_sum([query, *added, *taken], weights, blocks) for query in asking]


def _sum(
    queries: Sequence[Query], weights: Sequence[float], blocks: Blocks | None, word: str = ""
) -> Query:
    signs = ["+" if weight > 0 else "-" for weight in weights]
    shares = "" if word else f" {abs(weights[-1]):g} x"
    rest = [f" {s}{shares} {q.name}" for s, q in zip(signs, queries, strict=True)][1:]
    name = f"{word}{queries[0].name}{''.join(rest)}"
    total = np.zeros(len(queries[0].row))
    for query, weight in zip(queries, weights, strict=True):
        total += weight * query.row.astype(np.float64)
    for _, start, stop in blocks or [("", 0, len(total))]:
        total[start:stop] = _unit(total[start:stop])
    row = _unit(total)
    if not row.any():
        raise ConfigError(
            f"nothing is left of the query `{name}`: its pictures cancel each other",
            hint="choose another --weight, or other pictures",
        )
    labels = {query.label for query, weight in zip(queries, weights, strict=True) if weight > 0}
    return dataclasses.replace(
        queries[0],
        name=name,
        row=row.astype(np.float32),
        label=labels.pop() if len(labels) == 1 else None,
        path=None,  # no one picture is the query
        own_rows=frozenset().union(*(query.own_rows for query in queries)),
    )


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(values)
    return np.asarray(values / length if length > 1e-9 else np.zeros_like(values))
