"""What a file is and what is odd about it, as tables of at most eighty columns."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.reports.inspection import Anomaly, InspectReport, KeyEntry, KeyGroup
from cgdcli.views.formatting import bytes_text
from cgdcli.words import counted

# A kind of anomaly is shown with so many of its entries; --verbose shows all.
SHOWN = 3


def inspect_table(report: InspectReport, *, whole: bool = False) -> RenderableType:
    """Facts by name, parts of the network, notes, anomalies; long lists short, or `whole`."""
    parts: list[RenderableType] = [Text(f"{report.path}: {report.kind}")]
    parts.append(_facts_table(report.facts, 10**9 if whole else 12))
    if report.groups:
        parts.append(_groups_table(report.groups))
    parts += [Text(f"note: {note}") for note in report.notes]
    parts.append(_anomalies(report.anomalies, whole))
    return Group(*parts)


def keys_table(keys: Iterable[KeyEntry]) -> RenderableType:
    """Every entry: name, type, shape, values, bytes, and of a foreign file what becomes of it."""
    keys = list(keys)
    foreign = any(key.status is not None for key in keys)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("type", overflow="fold")
    for title in ("shape", "values", "bytes"):
        table.add_column(title, justify="right", no_wrap=title != "shape", overflow="fold")
    if foreign:
        table.add_column("becomes", overflow="fold")
    for key in keys:
        shape = "-" if key.shape is None else "x".join(map(str, key.shape)) or "scalar"
        cells = [key.name, key.dtype or "-", shape, str(key.elements), str(key.bytes)]
        if foreign:
            cells.append(_becomes(key))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _becomes(key: KeyEntry) -> str:
    if key.status == "kept":
        return "kept"
    if key.status == "renamed":
        return str(key.becomes)
    return f"{key.status}: {key.why}"


def _facts_table(facts: Mapping[str, Any], longest: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("fact", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in _worth_showing(facts).items():
        for key, text in _fact(name, value, longest):
            table.add_row(key, Text(text))
    return table


def _worth_showing(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The network first, and nothing twice: what stands in its line, or equals its neighbour."""
    network = {"config": facts["config"]} if facts.get("config") else {}
    twice = {"backbone", "branches", "classes"} if network else set()
    if "rows" not in facts:
        twice |= {"embedding_dim"} if network else set()
    if facts.get("described_rows") == facts.get("rows"):
        twice.add("described_rows")
    return network | {
        name: value for name, value in facts.items() if name not in twice and name != "config"
    }


def _fact(name: str, value: Any, longest: int) -> list[tuple[str, str]]:
    """The lines of one fact; those that people read most have words of their own."""
    if name == "config" and value:
        return [("network", _network(value)), ("input", _transform(value["transform"]))]
    worded = _WORDED.get(name)
    if worded is not None and value is not None:
        title, words = worded
        return [(title, words(value) or "none")]
    if name == "skipped":
        return [("skipped", _count_or_entries(value, longest))]
    text = _short_dict(value, longest) if isinstance(value, Mapping) else _plain(value, longest)
    return [(name.replace("_", " "), text)]


def _training(values: Mapping[str, Any]) -> str:
    judged = values.get("evaluation") or {}
    words = _short_dict({k: v for k, v in values.items() if k != "evaluation"}, SHOWN)
    recall = [f"R@{rank} {share:.4f}" for rank, share in judged.get("recall", {}).items()]
    if judged.get("map_at_r") is not None:
        recall.append(f"mAP@R {judged['map_at_r']:.4f}")
    return "; ".join(part for part in (words, " ".join(recall)) if part != "-" and part)


def _states(pictures: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in pictures.items()
        if count or name == "there"
    )


# Facts by name: the word shown, and how the value reads.
_WORDED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "bytes": ("bytes", lambda count: f"{count} ({bytes_text(count)})"),
    "blocks": ("blocks", lambda blocks: ", ".join(f"{c} {a}:{b}" for c, a, b in blocks)),
    "pictures": ("pictures", _states),
    "training": ("training", _training),
    "dropped_on_conversion": (
        "left out",
        lambda reasons: "; ".join(f"{count} {why}" for why, count in reasons.items()),
    ),
}


def _network(config: Mapping[str, Any]) -> str:
    dimension = config["embedding_dim"]
    heads = f", heads {' '.join(config['heads'])}" if config.get("heads") else ""
    return (
        f"{config['backbone']}, stride {config['stride']}, descriptors {config['descriptors']}, "
        f"{f'embedding_dim {dimension}' if dimension else 'pooled'}, "
        f"{counted(config['classes'], 'class', 'classes')}, p {config['gem_p']:g}{heads}"
    )


def _transform(transform: Mapping[str, Any]) -> str:
    mean, std = (" ".join(f"{v:g}" for v in transform[k]) for k in ("mean", "std"))
    return f"{transform['image_size']} px, mean {mean}, std {std}"


def _short_dict(values: Mapping[str, Any], longest: int) -> str:
    parts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{key}: ({_short_dict(value, longest)})")
        elif value not in (None, "", [], ()):
            parts.append(f"{key}: {_plain(value, longest)}")
    return "; ".join(parts) or "-"


def _plain(value: Any, longest: int) -> str:
    if value in (None, "", [], ()):
        return "-"
    if isinstance(value, (list, tuple)):
        if len(value) > longest:
            return f"{len(value)} entries"
        return ", ".join(str(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _count_or_entries(entries: list[dict[str, str]], longest: int) -> str:
    if len(entries) > longest:
        return f"{len(entries)} entries; cgd inspect --skipped lists them"
    return "; ".join(f"{entry['path']}: {entry['reason']}" for entry in entries) or "-"


def _groups_table(groups: Iterable[KeyGroup]) -> Table:
    groups = list(groups)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    for title in ("entries", "parameters", "bytes"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("types")
    types: Counter[str] = Counter()
    for group in groups:
        types.update(group.dtypes)
        table.add_row(
            Text(group.name), *_numbers(group.entries, group.parameters, group.bytes),
            Text(_types(group.dtypes)),
        )  # fmt: skip
    table.add_section()
    total = [sum(getattr(g, name) for g in groups) for name in ("entries", "parameters", "bytes")]
    table.add_row("all", *_numbers(*total), Text(_types(types)))
    return table


def _numbers(entries: int, parameters: int, size: int) -> tuple[str, str, str]:
    return str(entries), f"{parameters:,}".replace(",", " "), bytes_text(size)


def _types(types: Mapping[str, int]) -> str:
    ordered = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in ordered)


def _anomalies(anomalies: Iterable[Anomaly], whole: bool) -> RenderableType:
    by_kind: dict[str, list[Anomaly]] = {}
    for anomaly in anomalies:
        by_kind.setdefault(anomaly.kind, []).append(anomaly)
    if not by_kind:
        return Text("anomalies: none")
    lines = [f"anomalies: {counted(sum(map(len, by_kind.values())), 'finding')}"]
    for kind, found in by_kind.items():
        lines += _of_one_kind(kind, found, len(found) if whole else SHOWN)
    return Text("\n".join(lines))


def _of_one_kind(kind: str, found: list[Anomaly], longest: int) -> list[str]:
    if len(found) == 1:
        return [f"  {kind}: {_words(found[0])}"]
    rest = f"and {len(found) - longest} more (--verbose or --json lists all)"
    if len({anomaly.detail for anomaly in found}) == 1:
        names = [anomaly.entry for anomaly in found[:longest]]
        names += [rest] if len(found) > longest else []
        return [
            f"  {kind}: {len(found)} entries, each {found[0].detail}",
            *(f"    {name}" for name in names),
        ]
    lines = [f"    {_words(anomaly)}" for anomaly in found[:longest]]
    lines += [f"    {rest}"] if len(found) > longest else []
    return [f"  {kind}: {len(found)} entries", *lines]


def _words(anomaly: Anomaly) -> str:
    if anomaly.entry in anomaly.detail:
        return anomaly.detail
    return f"{anomaly.entry} {anomaly.detail}"
