"""A conversion, planned or done: a table of every entry, and its counts in plain words."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports import (
    ConversionPlan,
    ConversionReport,
    DataBaseReport,
    ExportReport,
    PlannedEntry,
)
from cgdcli.words import counted

_MISSING = "missing"
_GROUPS = 3


def plan_table(plan: ConversionPlan) -> RenderableType:
    """Every entry of the source, then what is missing: status, names, shape, rule or reason."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("entry", "becomes", "why", "shape"):
        table.add_column(title, overflow="fold")
    for entry in plan.entries:
        table.add_row(*(Text(cell) for cell in _cells(entry)))
    for name, shape in plan.missing.items():
        table.add_row("-", Text(f"{_MISSING}: {name}"), "the file does not have it", Text(shape))
    return table


def conversion_lines(report: ConversionReport) -> list[str]:
    """What was read, what became of it, and what was written."""
    return [
        *plan_lines(report),
        f"wrote {report.target}: {counted(report.written_entries, 'entry', 'entries')}, read back "
        "and equal",
        f"network {_network(report.config or {})}",
    ]


def plan_lines(plan: ConversionPlan) -> list[str]:
    """The counts of a plan, why they are what they are, and what stands in its way."""
    lines = [f"read {plan.source}: {plan.source_entries} entries, {plan.format}"]
    if plan.wrapper:
        lines.append(f"unwrapped: {plan.wrapper}")
    example = next(iter(plan.renamed.items()), None)
    lines += [
        f"kept      {len(plan.kept):4d}",
        f"renamed   {len(plan.renamed):4d}"
        + (f"  ({example[0]} -> {example[1]} ...)" if example else ""),
        f"dropped   {len(plan.dropped):4d}",
        *_reasons(plan),
    ]
    for status, meaning in (("unknown", "cannot be placed"), ("clash", "do not fit their place")):
        if plan.counts[status]:
            lines.append(f"{status:10}{plan.counts[status]:4d}  ({meaning})")
    if plan.missing:
        first = ", ".join(list(plan.missing)[:2])
        tolerated = "" if plan.problems else "; the classifier, only for training, may lack"
        lines.append(f"missing   {len(plan.missing):4d}  ({first} ...{tolerated})")
    if plan.filled:
        lines.append(f"added     {len(plan.filled):4d}  (num_batches_tracked, 0; unused)")
    if plan.upcast:
        lines.append(f"brought to float32: {plan.upcast} entries (half or double precision)")
    lines += [f"one tensor under several names: {', '.join(g)}" for g in plan.shared[:_GROUPS]]
    if len(plan.shared) > _GROUPS:
        lines.append(f"and {len(plan.shared) - _GROUPS} more such groups (all: --json)")
    return [*lines, *count_lines(plan), *(f"problem: {words}" for words in plan.problems)]


def count_lines(plan: ConversionPlan) -> list[str]:
    """Why the file has as many entries as it has, and which networks have a few more or fewer."""
    if plan.config is None:
        return []
    placed = [e for e in plan.entries if e.status in ("kept", "renamed", "clash")]
    parts = Counter(str(entry.name).split(".")[0] for entry in placed)
    named = {
        "backbone": f"of the backbone {plan.config['backbone']}",
        "branches": f"of the branches {plan.config['descriptors']}",
        "classifier": "of the classifier",
    }
    words = ", ".join(f"{parts[part]} {name}" for part, name in named.items() if parts[part])
    line = f"why {plan.source_entries}: {len(placed)} are the network's ({words})"
    line += "".join(
        f"; {times} {_not_weights(reason, times, plan)}"
        for reason, times in Counter(plan.dropped.values()).items()
    )
    unknown = plan.counts["unknown"]
    line += f"; {unknown} cannot be placed" if unknown else ""
    return [line, *(() if plan.problems else _neighbours(plan))]


def entry_lines(plan: ConversionPlan) -> Iterator[str]:
    """One line an entry, tab-separated, for pipes: status, source name, ours, rule or reason."""
    for entry in plan.entries:
        yield "\t".join((entry.status, entry.source, entry.name or "-", entry.rule or "-"))
    for name, shape in plan.missing.items():
        yield "\t".join((_MISSING, "-", name, shape))


def export_lines(report: ExportReport) -> list[str]:
    """What was written under another tool's names, and what to know of it."""
    lines = [
        f"wrote {report.target}: {counted(len(report.renamed), 'entry', 'entries')} under the "
        f"names of {report.to}, read back and equal"
    ]
    for reason, times in Counter(report.left_out.values()).items():
        first = next(name for name, why in report.left_out.items() if why == reason)
        lines.append(f"left out  {times:4d}  ({reason}: {first} ...)")
    return [*lines, *(f"note: {note}" for note in report.notes)]


def data_base_lines(report: DataBaseReport) -> list[str]:
    """What an old data base became."""
    lines = [
        f"read {report.source}: a data base of the reference with {', '.join(report.parts)}; "
        f"taken: {report.part}",
        f"wrote {report.target}: {counted(report.rows, 'row')} of {report.embedding_dim}, "
        f"{counted(report.labels, 'label')} (numbers, as in the file)",
        f"pictures still where the file says: {report.there} of {report.rows}"
        + ("" if report.there == report.rows else "; if they moved, search with --root DIR"),
    ]
    if report.normalized:
        lines.append(
            "rows brought to unit length (the reference's were longer before 2 March 2020)"
        )
    if report.descriptors:
        lines.append(f"columns are those of {report.descriptors}, block by block")
    if report.proved_on:
        pictures = counted(report.proved_on, "picture")
        lines.append(
            f"model {report.model.source}: embeds {pictures} as they are stored (within 1e-5 in "
            "cosine)"
        )
    elif not report.model.fingerprint:
        lines.append("no model recorded: search with --model, or by row:N; or --model here")
    return lines


def _cells(entry: PlannedEntry) -> tuple[str, str, str, str]:
    becomes = {
        "kept": "kept",
        "renamed": f"renamed: {entry.name}",
        "dropped": "dropped",
        "unknown": "unknown",
        "clash": f"shape clash: {entry.name}",
    }[entry.status]
    shape = "-" if entry.shape is None else "x".join(map(str, entry.shape)) or "scalar"
    return entry.source, becomes, entry.rule if entry.status != "kept" else "", shape


def _reasons(plan: ConversionPlan) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in plan.dropped.items():
        reasons.setdefault(reason, []).append(name)
    return [f"  {len(names):4d} {why}: {names[0]} ..." for why, names in reasons.items()]


def _not_weights(reason: str, times: int, plan: ConversionPlan) -> str:
    if "thop" not in reason:
        return f"dropped ({reason})"
    modules = len({name.rpartition(".")[0] for name, why in plan.dropped.items() if why == reason})
    return (
        f"are counters that the profiler thop left (total_ops and total_params on {modules} "
        "modules: the model was profiled, then saved) and no weights"
    )


def _neighbours(plan: ConversionPlan) -> list[str]:
    """Counts that a user may have seen elsewhere, for a network one descriptor more or less."""
    if plan.config is None or not plan.network.get("branches"):
        return []
    count = len(plan.config["descriptors"])
    each = plan.network["branches"] // count
    whole = sum(plan.network.values())
    one, *more = (f"{whole + (n - count) * each} with {n}" for n in (1, 2, 3))
    bare = whole - plan.network["classifier"]
    without = f" (this one without its classifier: {bare})" if bare < whole else ""
    lacking = " and PyTorch before 0.4.1 saved no num_batches_tracked" if plan.filled else ""
    return [
        f"such a network has {one} descriptor, {', '.join(more)}{without}{lacking}; code that "
        "counts otherwise builds another network"
    ]


def _network(config: dict[str, Any]) -> str:
    return (
        f"{config['backbone']}, stride {config['stride']}, descriptors {config['descriptors']}, "
        f"embedding_dim {config['embedding_dim'] or 'none (pooled)'}, "
        f"{config['classes']} classes, image size {config['transform']['image_size']}"
        + (f", heads {', '.join(config['heads'])}" if config.get("heads") else "")
    )
