"""How two files differ, as tables of at most eighty columns."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports.inspection import (
    Comparison,
    EntryDifference,
    IndexComparison,
    OriginComparison,
    WeightsComparison,
)
from cgdcli.words import counted

# So many names stand in a line; --verbose shows all.
SHOWN = 5


def comparison_view(report: Comparison, *, whole: bool = False) -> RenderableType:
    """The answer first, then what differs; long lists short, or `whole`."""
    longest = 10**9 if whole else SHOWN
    if isinstance(report, WeightsComparison):
        return _weights(report, longest)
    if isinstance(report, IndexComparison):
        return _indexes(report, longest)
    return _origin(report)


def _weights(report: WeightsComparison, longest: int) -> RenderableType:
    lines = [
        f"A {report.a}: {report.kinds[0]}",
        f"B {report.b}: {report.kinds[1]}",
        _same_embeddings(report),
        *_differences("config", report.config),
        *_names("only in A", report.only_in_a, longest),
        *_names("only in B", report.only_in_b, longest),
        *_pairs("shape", {k: tuple(map(_shape, v)) for k, v in report.shapes.items()}, longest),
        *_types(report, longest),
    ]
    parts: list[RenderableType] = [Text("\n".join([*lines, ""]))]
    parts.append(_differences_table((*report.groups, report.total), "part"))
    if report.entries:
        parts += [Text(), _differences_table(report.entries, "entry")]
    return Group(*parts, Text(), *_notes(report.notes))


def _notes(notes: Iterable[str]) -> list[RenderableType]:
    return [Text(f"note: {note}") for note in notes]


def _same_embeddings(report: WeightsComparison) -> str:
    a, b = (p[:12] if p else "none" for p in report.fingerprints)
    if report.same_embeddings is None:
        return f"same embeddings: not known, for want of a fingerprint (A {a}, B {b})"
    if report.same_embeddings:
        return f"same embeddings: yes, both have the fingerprint {a}"
    return f"same embeddings: no, the fingerprints are {a} and {b}"


def _types(report: WeightsComparison, longest: int) -> list[str]:
    """By pair of types: a file in half precision differs in every entry, and that is one fact."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for name, pair in report.dtypes.items():
        by_pair.setdefault(pair, []).append(name)
    return [
        f"type ({len(names)}): {a} in A, {b} in B: {_shown(names, longest)}"
        for (a, b), names in by_pair.items()
    ]


def _indexes(report: IndexComparison, longest: int) -> RenderableType:
    rows, dims = report.rows, report.dims
    lines = [
        f"A {report.a}: index, {counted(rows[0], 'row')} of {dims[0]}",
        f"B {report.b}: index, {counted(rows[1], 'row')} of {dims[1]}",
        f"in both: {report.common}, by {report.matched_by}; {report.bit_equal} equal to the bit",
        *_names("only in A", report.only_in_a, longest),
        *_names("only in B", report.only_in_b, longest),
        *_names("another picture under the same name", report.changed, longest),
    ]
    if report.cosine_mean is not None and report.cosine_min is not None:
        lines.append(
            f"cosine of common rows: mean {report.cosine_mean:.6f}, least {report.cosine_min:.6f}"
        )
    lines += [
        f"  {row.cosine:.6f} {row.picture} (rows {row.rows[0]} and {row.rows[1]}"
        f"{', changed' if row.changed else ''})"
        for row in report.farthest
    ]
    lines += _differences("header", report.header)
    return Group(Text("\n".join(lines)), *_notes(report.notes))


def _origin(report: OriginComparison) -> RenderableType:
    ours, recorded = (print_of[:12] for print_of in report.fingerprints)
    answer = (
        f"yes: {report.index} was made by {report.weights} (fingerprint {ours})"
        if report.belongs
        else f"no: {report.index} was made by a model of fingerprint {recorded}, {report.weights} "
        f"has {ours}"
    )
    return Group(
        Text(
            "\n".join(
                [answer, *_differences("config", report.config, ("these weights", "the index"))]
            )
        ),
        *_notes(report.notes),
    )


def _differences_table(differences: Iterable[EntryDifference], title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, overflow="fold")
    differences = list(differences)
    broken = any(difference.not_finite for difference in differences)
    columns = ("bit-equal", "max diff", "mean diff", "cosine", *(["NaN/Inf"] if broken else []))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for difference in differences:
        cells = [
            _bit_equal(difference, title),
            _figure(difference.max_difference, ".3g"),
            _figure(difference.mean_difference, ".3g"),
            _figure(difference.cosine, ".6f"),
            str(difference.not_finite),
        ]
        table.add_row(Text(difference.name), *cells[: len(columns)])
    return table


def _bit_equal(difference: EntryDifference, title: str) -> str:
    if title == "entry":
        return "yes" if difference.bit_equal else "no"
    return f"{difference.bit_equal}/{difference.entries}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _differences(
    what: str, found: Mapping[str, tuple[Any, Any]], where: tuple[str, str] = ("A", "B")
) -> list[str]:
    return [
        f"{what} {name}: {_value(a)} in {where[0]}, {_value(b)} in {where[1]}"
        for name, (a, b) in found.items()
    ]


def _pairs(what: str, found: Mapping[str, tuple[Any, ...]], longest: int) -> list[str]:
    lines = [f"{what} of {name}: {a} in A, {b} in B" for name, (a, b) in found.items()]
    more = [f"and {len(lines) - longest} more of another {what}"] if len(lines) > longest else []
    return lines[:longest] + more


def _names(what: str, names: tuple[str, ...], longest: int) -> list[str]:
    return [f"{what} ({len(names)}): {_shown(names, longest)}"] if names else []


def _shown(names: tuple[str, ...] | list[str], longest: int) -> str:
    more = f" and {len(names) - longest} more" if len(names) > longest else ""
    return ", ".join(names[:longest]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return "none" if value is None else str(value)
