"""A weights file, opened for looking: ours without torch, a foreign one as it would convert."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgdcli.config import CGDConfig, ConvertConfig, Strict
from cgdcli.errors import CGDError, MismatchError
from cgdcli.inspection.tensors import StoredTensor, mapped_tensors, torch_tensor
from cgdcli.reports.inspection import Anomaly, KeyEntry, KeyGroup, Refusal
from cgdcli.weights.header import Header, file_fingerprint, read_header

if TYPE_CHECKING:
    from cgdcli.conversion.plan import Prepared

_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")  # of a ResNet; else `backbone`
GROUPS = (*_STAGES, "backbone", "branches", "exponents", "classifier")
PROFILER, OTHER = "profiler", "other"
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class OpenedWeights:
    """A weights file whose tensors are mapped, not read.

    Attributes:
        kind: in words.
        config: of the network; of a foreign file as its conversion would assume it; None where it
            cannot be told.
        fingerprint: of the embeddings it makes; of a foreign file, of its conversion; None where it
            does not convert.
        entries: every entry of the file, in its order.
        tensors: those entries that are tensors, by the file's names.
        shared: groups of names that are one tensor.
        findings: what is odd already by names and shapes.
    """

    path: Path
    kind: str
    config: CGDConfig | None
    fingerprint: str | None
    facts: dict[str, Any]
    notes: tuple[str, ...]
    entries: tuple[KeyEntry, ...]
    tensors: tuple[StoredTensor, ...]
    shared: tuple[tuple[str, ...], ...] = ()
    findings: tuple[Anomaly, ...] = ()
    refusal: Refusal | None = None

    def ours(self) -> dict[str, StoredTensor]:
        """The network's tensors, by our names."""
        names = {entry.name: entry.becomes for entry in self.entries}
        return {ours: t for t in self.tensors if (ours := names[t.name]) is not None}


def open_weights(path: Path) -> OpenedWeights:
    """Open one of our checkpoints, or a foreign file as `convert-weights` would take it.

    Raises:
        CheckpointError: it cannot be read, or is of no format known.
    """
    if path.suffix == ".safetensors":
        header = read_header(path)
        if header.metadata is not None:
            return _open_own(header)
    return _open_foreign(path)


def key_groups(entries: Iterable[KeyEntry]) -> tuple[KeyGroup, ...]:
    """The parts of a network that have entries, in the order of the picture's way through it."""
    by_name: dict[str, list[KeyEntry]] = {}
    for entry in entries:
        by_name.setdefault(entry.group, []).append(entry)
    return tuple(
        KeyGroup(
            name,
            len(by_name[name]),
            sum(e.elements for e in by_name[name] if _is_parameter(e)),
            sum(e.bytes for e in by_name[name]),
            dict(Counter(e.dtype or "no tensor" for e in by_name[name])),
        )
        for name in (*GROUPS, PROFILER, OTHER)
        if name in by_name
    )


def group_of(name: str | None) -> str:
    """The part of the network that an entry of ours belongs to."""
    first, _, rest = (name or "").partition(".")
    stage = rest.partition(".")[0]
    if first == "backbone":
        return stage if stage in _STAGES else "stem" if stage in ("conv1", "bn1") else first
    return first if first in ("branches", "exponents", "classifier") else OTHER


def place_of(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """To sort our names by: part of the network, then numbers as numbers."""
    words = [
        (0, int(word)) if word.isdigit() else (1, word) for word in re.split(r"(\d+)", name) if word
    ]
    return (*GROUPS, PROFILER, OTHER).index(group_of(name)), words


def assumption_notes(verb: str, assumed: Sequence[str]) -> tuple[str, ...]:
    """What no file said, as one note."""
    return (f"{verb} {'; '.join(map(str, assumed))}",) if assumed else ()


def _is_parameter(entry: KeyEntry) -> bool:
    return entry.group != PROFILER and entry.name.rpartition(".")[2] not in _BUFFERS


def _open_own(header: Header) -> OpenedWeights:
    saved = header.metadata or {}
    tensors = mapped_tensors(header)
    facts: dict[str, Any] = {}
    config, found, refusal = None, None, None
    findings: list[Anomaly] = []
    try:
        config = header.config()
    except CGDError as error:
        refusal = Refusal.of(error)
    if config is not None:
        found = file_fingerprint(header)
        facts |= {"config": config.to_dict(), "fingerprint": found}
        facts |= _learned_p((tensor.name, tensor) for tensor in tensors)
        if found != saved.get("fingerprint"):
            changed = _changed(header.path, found, saved.get("fingerprint"))
            findings.append(Anomaly("changed since written", header.path.name, changed.what))
            refusal = Refusal.of(changed)
    facts |= {
        "entries": len(tensors),
        "bytes": header.path.stat().st_size,
        "classes": len(saved.get("classes") or ()) or (config.classes if config else 0),
        "origin": saved.get("origin", {}),
        "training": saved.get("training", {}),
    }
    tensors.sort(key=lambda tensor: place_of(tensor.name))  # safetensors' own order is by type
    entries = tuple(
        KeyEntry(t.name, group_of(t.name), t.dtype, t.shape, t.elements, t.bytes, becomes=t.name)
        for t in tensors
    )
    notes = assumption_notes("assumed", saved.get("assumed", ()))
    return OpenedWeights(
        header.path,
        "checkpoint",
        config,
        found,
        facts,
        notes,
        entries,
        tuple(tensors),
        (),
        tuple(findings),
        refusal,
    )


def _learned_p(named: Iterable[tuple[str, StoredTensor]]) -> dict[str, Any]:
    """The learned exponents by letter, as one fact; nothing where there is none."""
    values = {
        name.removeprefix("exponents."): float(block.reshape(-1)[0])
        for name, tensor in named
        if group_of(name) == "exponents"
        for block in tensor.blocks()
    }
    return {"learned_p": values} if values else {}


def _changed(path: Path, found: str, said: object) -> MismatchError:
    return MismatchError(
        f"`{path}` was changed after it was written: its tensors have the fingerprint "
        f"{found[:12]}, its header says {str(said)[:12]}",
        hint="take the original file, or convert it again",
    )


def _open_foreign(path: Path) -> OpenedWeights:
    """The one place that knows how foreign files are read and planned."""
    from cgdcli.conversion.convert import as_checkpoint
    from cgdcli.conversion.plan import prepare
    from cgdcli.weights.wrappers import PROFILER_REASON

    prepared = prepare(path)
    plan, config, error, found = prepared.plan, prepared.config, prepared.error, None
    try:
        found = as_checkpoint(_without_classifier(path, prepared)).fingerprint()
    except CGDError as refused:
        error = error or refused
    tensors = {name: torch_tensor(name, tensor) for name, tensor in prepared.sources.items()}
    aliases = {name for group in plan.shared for name in group[1:]}
    held = sum(tensor.bytes for name, tensor in tensors.items() if name not in aliases)
    entries = tuple(
        _foreign_entry(
            tensors.get(e.source), e.source, e.status, e.name, e.rule, e.rule == PROFILER_REASON
        )
        for e in plan.entries
    )
    facts: dict[str, Any] = {
        "entries": plan.source_entries,
        "tensors": len(plan.kept) + len(plan.renamed),
        "dropped_on_conversion": dict(Counter(plan.dropped.values())),
        "wrapper": plan.wrapper or "none",
        "bytes": max(path.stat().st_size, held),  # a file of shards is more than its index
    }
    if config is not None:
        facts |= {
            "backbone": config.backbone,
            "branches": len({e.becomes for e in entries if e.group == "branches"}),
            "embedding_dim": config.embedding_dim,
            "classes": config.classes,
            "config": config.to_dict(),
            "fingerprint": found,
        }
        facts |= _learned_p((e.becomes or "", tensors[e.name]) for e in entries if e.becomes)
    notes = [f"to use it: cgd convert-weights '{path}'"]
    if error is not None:
        notes = [f"convert-weights would refuse it: {error.what}", f"to go on: {error.hint}"]
    if plan.format.startswith("torchvision"):
        notes.append(f"or as it is, by its pooled descriptors: --model '{path}'")
    notes += assumption_notes("a conversion would assume", plan.assumed)
    return OpenedWeights(
        path,
        f"weights of {plan.format}",
        config,
        found,
        facts,
        tuple(notes),
        entries,
        tuple(tensors.values()),
        plan.shared,
        (*_misfits(entries, plan.missing), *_shared_places(entries, plan.shared)),
    )


def _without_classifier(path: Path, prepared: "Prepared") -> "Prepared":
    """What fingerprints are of: a file that lacks nothing but its classifier has one."""
    from cgdcli.conversion.plan import prepare

    if prepared.error is None:
        return prepared
    return prepare(path, ConvertConfig(strict=Strict.inference))


def _foreign_entry(
    tensor: StoredTensor | None,
    name: str,
    status: str,
    ours: str | None,
    why: str,
    of_profiler: bool,
) -> KeyEntry:
    group = PROFILER if of_profiler else group_of(ours)
    becomes = ours if status in ("kept", "renamed", "clash") else None
    if tensor is None:
        return KeyEntry(name, group, None, None, 0, 0, status, becomes, why)
    return KeyEntry(
        name,
        group,
        tensor.dtype,
        tensor.shape,
        tensor.elements,
        tensor.bytes,
        status,
        becomes,
        why if status != "kept" else "",
    )


def _shared_places(
    entries: Iterable[KeyEntry], shared: Iterable[Sequence[str]]
) -> Iterator[Anomaly]:
    """One tensor at several places of our network; a second name for one place is no fault."""
    placed = {entry.name for entry in entries if entry.becomes is not None}
    for group in shared:
        first, *others = [name for name in group if name in placed] or [""]
        for name in others:
            yield Anomaly("shared storage", name, f"the same memory as {first}")


def _misfits(entries: Iterable[KeyEntry], missing: Mapping[str, str]) -> tuple[Anomaly, ...]:
    entries = list(entries)
    return (
        *(Anomaly("unknown entry", e.name, e.why) for e in entries if e.status == "unknown"),
        *(Anomaly("clash", e.name, e.why) for e in entries if e.status == "clash"),
        *(
            Anomaly("missing entry", name, f"the network wants it, {shape}")
            for name, shape in missing.items()
        ),
    )
