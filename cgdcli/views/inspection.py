"""What a file is and what is odd about it, as tables of at most eighty columns."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgdcli.config import VectorConfig
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
    """Every entry: name, type, shape, values, bytes; below the name what becomes of it here."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("type")
    for title in ("shape", "values", "bytes"):
        table.add_column(title, justify="right", overflow="fold")
    for key in keys:
        shape = "-" if key.shape is None else "x".join(map(str, key.shape)) or "scalar"
        name = "\n".join(part for part in (key.name, _becomes(key)) if part)
        cells = (name, key.dtype or "-", shape, str(key.elements), str(key.bytes))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _becomes(key: KeyEntry) -> str:
    """Nothing in a file of ours."""
    words = {"kept": "  kept", "renamed": f"  -> {key.becomes}", None: ""}
    return words.get(key.status, f"  {key.status}: {key.why}")


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
    rows = facts.get("rows")
    twice |= {n for n in ("described_rows", "labelled_rows") if facts.get(n) == rows}
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


def _parts(parts: Mapping[str, Mapping[str, Any]] | int) -> str:
    """Those of a data base by name, of an index how many they are."""
    if isinstance(parts, int):
        return str(parts)
    return "\n".join(
        f"{name}: {counted(part['rows'], 'row')} of length {part['length']:g}, "
        f"{counted(part['labels'], 'label')}, {part['pictures_there']} pictures there"
        for name, part in parts.items()
    )


def _states(pictures: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in pictures.items()
        if count or name == "there"
    )


# Facts by name: the word shown, and how the value reads.
def _projection(facts: Mapping[str, Any]) -> str:
    kind = "PCA-whitened" if facts["whitened"] else "PCA"
    return (
        f"{kind}, {facts['from']} to {facts['to']} columns, learned on "
        f"{counted(facts['learned_on'], 'row')}"
    )


_WORDED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "bytes": ("bytes", lambda count: f"{count} ({bytes_text(count)})"),
    "blocks": ("blocks", lambda blocks: ", ".join(f"{c} {a}:{b}" for c, a, b in blocks)),
    "vectors": ("vectors", lambda said: str(VectorConfig.from_dict(said)) or "as they come"),
    "projection": ("projection", _projection),
    "pictures": ("pictures", _states),
    "training": ("training", _training),
    "parts": ("parts", _parts),
    "dropped_on_conversion": (
        "left out",
        lambda reasons: "; ".join(f"{count} {why}" for why, count in reasons.items()),
    ),
}


def _network(config: Mapping[str, Any]) -> str:
    dimension = config["embedding_dim"]
    heads = f", heads {' '.join(config['heads'])}" if config.get("heads") else ""
    p = "p learned" if config.get("learned_p") else f"p {config['gem_p']:g}"
    return (
        f"{config['backbone']}, stride {config['stride']}, descriptors {config['descriptors']}, "
        f"{f'embedding_dim {dimension}' if dimension else 'pooled'}, "
        f"{counted(config['classes'], 'class', 'classes')}, {p}{heads}"
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
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for kind, found in by_kind.items():
        table.add_row(kind, Text("\n".join(_of_one_kind(found, len(found) if whole else SHOWN))))
    count = sum(map(len, by_kind.values()))
    return Group(Text(f"anomalies: {counted(count, 'finding')}"), table)


def _of_one_kind(found: list[Anomaly], longest: int) -> list[str]:
    if len(found) == 1:
        return [_words(found[0])]
    lines = [f"{len(found)} entries"]
    if len({anomaly.detail for anomaly in found}) == 1:
        lines = [f"{len(found)} entries: {found[0].detail}"]
        lines += [anomaly.entry for anomaly in found[:longest]]
    else:
        lines += [_words(anomaly) for anomaly in found[:longest]]
    if len(found) > longest:
        lines.append(f"and {len(found) - longest} more (--verbose or --json lists all)")
    return lines


def _words(anomaly: Anomaly) -> str:
    if anomaly.entry in anomaly.detail:
        return anomaly.detail
    return f"{anomaly.entry}: {anomaly.detail}"
