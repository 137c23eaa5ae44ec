"""Foreign weights files: read without running code, unwrap, rename; every entry accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgdcli.errors import CheckpointError
from cgdcli.files import OnBytes
from cgdcli.weights.architecture import Architecture
from cgdcli.weights.architecture import read_architecture as architecture_of
from cgdcli.weights.formats import Facts, Format, first_match
from cgdcli.weights.formats.cnnimageretrieval import CNNIMAGERETRIEVAL
from cgdcli.weights.formats.deep_image_retrieval import (
    DEEP_IMAGE_RETRIEVAL,
    DEEP_IMAGE_RETRIEVAL_WITHOUT_FC,
)
from cgdcli.weights.formats.oml import OML
from cgdcli.weights.formats.own import OWN
from cgdcli.weights.formats.pml import PML
from cgdcli.weights.formats.reference import REFERENCE
from cgdcli.weights.formats.timm import TIMM
from cgdcli.weights.formats.torchvision import TORCHVISION
from cgdcli.weights.formats.torchvision_others import TORCHVISION_OTHERS
from cgdcli.weights.reading import read_content
from cgdcli.weights.wrappers import Unwrapped, join_pair, strip_prefixes, unwrap

# The first that recognises the names is taken: those with names of their own before the plain.
FORMATS = (
    OWN,
    CNNIMAGERETRIEVAL,
    DEEP_IMAGE_RETRIEVAL_WITHOUT_FC,
    DEEP_IMAGE_RETRIEVAL,
    PML,
    OML,
    TORCHVISION_OTHERS,
    REFERENCE,
    TIMM,
    TORCHVISION,
)
_TIMMS = "to begin from one of timm's: cgd train DATA --backbone timm:NAME --backbone-weights FILE"


@dataclass(frozen=True)
class Entry:
    """What becomes of one entry of the file.

    Attributes:
        source: its name there, whole.
        name: ours; None if it is dropped or unknown.
        rule: by which it is renamed, or why it is dropped or cannot be placed.
        status: kept, renamed, dropped or unknown.
    """

    source: str
    status: str
    name: str | None
    rule: str


@dataclass(frozen=True)
class ForeignWeights:
    """A foreign file under our names.

    Attributes:
        tensors: by our names.
        entries: one for every entry of the file, in its order.
        sources: every tensor of the file by its name there, also those that are dropped.
        filled: our names of counters that the file lacks and that start at 0.
        wrapper: what stood around the entries, in words; empty for a bare state_dict.
        assumed: choices made while unwrapping, in words.
        facts: what the source says beyond shapes.
    """

    path: Path
    format: Format
    tensors: dict[str, Tensor]
    entries: tuple[Entry, ...]
    sources: dict[str, Tensor] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    wrapper: str = ""
    assumed: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)

    def _with(self, status: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == status]

    @property
    def kept(self) -> tuple[str, ...]:
        """Source names that are ours already."""
        return tuple(entry.source for entry in self._with("kept"))

    @property
    def renamed(self) -> dict[str, str]:
        """Source name to ours, where they differ."""
        return {entry.source: str(entry.name) for entry in self._with("renamed")}

    @property
    def dropped(self) -> dict[str, str]:
        """Source name to the reason."""
        return {entry.source: entry.rule for entry in self._with("dropped")}

    @property
    def unknown(self) -> dict[str, str]:
        """Source name to why it cannot be placed; empty in a file that can be used."""
        return {entry.source: entry.rule for entry in self._with("unknown")}

    @property
    def source_entries(self) -> int:
        """Entries of the file."""
        return len(self.entries)


def read_foreign(path: Path) -> ForeignWeights:
    """Read a weights file of any known format; nothing in it is executed.

    Raises:
        CheckpointError: unreadable, a pickle with code in it, of no known format, or with an
            entry that its format does not know.
    """
    weights = examine_foreign(path)
    for name, why in weights.unknown.items():
        raise CheckpointError(
            f"`{path}` looks like {weights.format.name}, but its entry `{name}` is unknown: {why}",
            hint=_TIMMS
            if weights.format is TIMM
            else "nothing is dropped unasked; see every entry: "
            f"cgd convert-weights --plan '{path}'",
        )
    return weights


def examine_foreign(
    path: Path,
    *,
    take: str | None = None,
    embedder: Path | None = None,
    on_progress: OnBytes | None = None,
) -> ForeignWeights:
    """As `read_foreign`, but entries that cannot be placed are listed, not raised.

    Args:
        take: which of several dicts of weights in the file; None for the averaged ones.
        embedder: a second file, of the part that follows the trunk in `path`.
    """
    unwrapped = unwrap(str(path), read_content(path, on_progress), take)
    if embedder is not None:
        unwrapped = _paired(unwrapped, embedder)
    bare = strip_prefixes(unwrapped.entries)
    form = _recognise(path, set(bare.names.values()), unwrapped.beside)
    sources = {short: unwrapped.entries[name] for name, short in bare.names.items()}
    tensors: dict[str, Tensor] = {}
    entries: list[Entry] = []
    for name in unwrapped.entries:
        entry = (
            Entry(name, "dropped", None, bare.dropped[name])
            if name in bare.dropped
            else _place(name, bare.names[name], form, tensors)
        )
        if entry.name is not None:
            tensors[entry.name] = unwrapped.entries[name]
        entries.append(entry)
    filled = _fill_counters(tensors)
    steps = [*unwrapped.steps, *([f"prefix `{bare.prefix}` removed"] if bare.prefix else [])]
    return ForeignWeights(
        path,
        form,
        tensors,
        tuple(entries),
        {name: value for name, value in unwrapped.entries.items() if isinstance(value, Tensor)},
        filled,
        ", ".join(steps),
        unwrapped.assumed,
        form.read_facts(sources, unwrapped.beside),
    )


def read_architecture(weights: ForeignWeights) -> Architecture:
    """What the tensors say; see `architecture.read_architecture`."""
    return architecture_of(weights.tensors, f"`{weights.path}`")


def _paired(trunk: Unwrapped, embedder: Path) -> Unwrapped:
    second = unwrap(str(embedder), read_content(embedder))
    return Unwrapped(
        join_pair(trunk.entries, second.entries),
        second.beside | trunk.beside,
        (*trunk.steps, f"with the embedder of `{embedder}`", *second.steps),
        trunk.assumed + second.assumed,
    )


def _recognise(path: Path, names: set[str], beside: Mapping[str, Any]) -> Format:
    form = next((f for f in FORMATS if f.recognises(names, beside)), None)
    if form is None:
        shown = ", ".join(sorted(names)[:4]) or "no tensor at all"
        raise CheckpointError(
            f"`{path}` holds the weights of no network known here; its entries begin {shown}",
            hint=f"known are {', '.join(form.name for form in FORMATS)}; {_TIMMS}",
        )
    return form


def _place(name: str, short: str, form: Format, placed: Mapping[str, Tensor]) -> Entry:
    dropped = first_match(form.dropped, short)
    if dropped:
        return Entry(name, "dropped", None, dropped.why)
    refused = first_match(form.refused, short)
    if refused:
        return Entry(name, "unknown", None, f"{refused.why}")
    renamed = form.rename(short)
    if renamed is None:
        return Entry(name, "unknown", None, "no rule of this format knows it")
    ours, rule = renamed
    if ours in placed:
        return Entry(name, "unknown", None, f"it would be {ours}, as another entry is")
    return Entry(name, "kept" if ours == name else "renamed", ours, str(rule))


def _fill_counters(tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Add the `num_batches_tracked` that files from before torch 0.4.1 lack; nothing reads them."""
    filled = [
        name.replace("running_var", "num_batches_tracked")
        for name in tensors
        if name.endswith(".running_var")
        and name.replace("running_var", "num_batches_tracked") not in tensors
    ]
    for name in filled:
        tensors[name] = torch.tensor(0)
    return tuple(filled)
