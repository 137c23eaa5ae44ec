"""What a conversion would do, entry by entry; nothing is written."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cgdcli.config import CGDConfig, ConvertConfig, Strict
from cgdcli.conversion.network import read_network
from cgdcli.errors import CGDError, CheckpointError
from cgdcli.files import OnBytes
from cgdcli.model.cgd import meta_model
from cgdcli.reports import ConversionPlan, PlannedEntry
from cgdcli.weights.checkpoint import shared_groups
from cgdcli.weights.foreign import Entry, ForeignWeights, examine_foreign
from cgdcli.weights.header import read_header
from cgdcli.weights.wrappers import PROFILER_REASON

_CLASSIFIER = (
    *(f"classifier.batch_norm.{n}" for n in ("weight", "bias", "running_mean", "running_var")),
    "classifier.linear.weight",
    "classifier.linear.bias",
)
_COUNTER = "classifier.batch_norm.num_batches_tracked"
_TOLERATED = "of the classifier, only for training; --strict inference does without"


@dataclass(frozen=True)
class Prepared:
    """A plan together with the tensors it speaks of, by our names and, as `sources`, by the file's;
    `error` is what would refuse it."""

    plan: ConversionPlan
    tensors: dict[str, Tensor]
    sources: dict[str, Tensor]
    config: CGDConfig | None
    error: CGDError | None


def plan_conversion(
    source: Path | str,
    config: ConvertConfig | None = None,
    *,
    embedder: Path | str | None = None,
) -> ConversionPlan:
    """What `convert_weights` would do with a file. A file that it would refuse has `problems`.

    Raises:
        CheckpointError: the file cannot be read at all, or is of no known format.
    """
    return prepare(Path(source), config, embedder).plan


def prepare(
    source: Path,
    said: ConvertConfig | None = None,
    embedder: Path | str | None = None,
    on_progress: OnBytes | None = None,
) -> Prepared:
    """Read a foreign file and compare it with the network that it is taken for."""
    said = said or ConvertConfig()
    _refuse_own(source)
    second = Path(embedder) if embedder is not None else find_embedder(source)
    weights = examine_foreign(source, take=said.take, embedder=second, on_progress=on_progress)
    weights, missing = _settle_classifier(weights, said.strict)
    config: CGDConfig | None = None
    assumed: tuple[str, ...] = weights.assumed
    error: CGDError | None = None
    wanted: dict[str, Tensor] = {}
    network: dict[str, int] = {}
    try:
        config, assumed = read_network(weights, said)
        wanted = meta_model(config).state_dict()
        network = _entries_by_part(wanted, weights)
    except CGDError as failure:
        error = failure
    entries = tuple(_planned(entry, weights, wanted) for entry in weights.entries)
    if wanted:
        missing = {
            n: _shape(t.shape) for n, t in wanted.items() if n not in weights.tensors
        } | missing
    plan = ConversionPlan(
        source=source,
        format=weights.format.name,
        wrapper=weights.wrapper,
        strict=said.strict.value,
        source_entries=weights.source_entries,
        entries=entries,
        missing=missing,
        network=network,
        filled=weights.filled,
        shared=_shared(weights),
        upcast=sum(
            t.is_floating_point() and t.dtype is not torch.float32 for t in weights.tensors.values()
        ),
        config=config.to_dict() if config else None,
        assumed=assumed,
        problems=(),
    )
    # What names an entry tells more than what could not be read off the others.
    named = _refusal(plan) if weights.unknown else None
    error = _misfit(weights) or named or error or _refusal(plan)
    unclear = (error.what,) if error is not None and config is None else ()
    problems = (*(f"misfit {words}" for words in weights.facts.misfits), *_problems(plan))
    plan = replace(plan, problems=problems + (unclear if not weights.facts.misfits else ()))
    return Prepared(plan, weights.tensors, weights.sources, config, error)


def find_embedder(source: Path) -> Path | None:
    """The embedder beside a trunk, by pytorch-metric-learning's file names: trunk_best12.pth."""
    if "trunk" not in source.name:
        return None
    beside = source.with_name(source.name.replace("trunk", "embedder"))
    return beside if beside.is_file() else None


def _refuse_own(source: Path) -> None:
    if source.suffix == ".safetensors" and read_header(source).metadata is not None:
        raise CheckpointError(
            f"`{source}` is a cgd checkpoint already",
            hint=f"use it as it is: cgd embed IMAGES -o feats.npy --model '{source}'; for other "
            "tools: --to reference, torchvision or timm",
        )


def _settle_classifier(
    weights: ForeignWeights, strict: Strict
) -> tuple[ForeignWeights, dict[str, str]]:
    """A classifier that is missing, whole or in part: dropped for inference, else reported."""
    present = [name for name in _CLASSIFIER if name in weights.tensors]
    expected = present or weights.format.has_classifier
    if not expected or len(present) == len(_CLASSIFIER):
        return weights, {}
    if strict is Strict.inference:
        gone = "of an incomplete classifier; --strict inference does without"
        tensors = {n: t for n, t in weights.tensors.items() if not n.startswith("classifier.")}
        entries = tuple(
            Entry(e.source, "dropped", None, gone) if e.name and e.name not in tensors else e
            for e in weights.entries
        )
        filled = tuple(name for name in weights.filled if name in tensors)
        lacking = [name for name in (*_CLASSIFIER, _COUNTER) if name not in weights.tensors]
        weights = replace(weights, tensors=tensors, entries=entries, filled=filled)
        return weights, dict.fromkeys(lacking, _TOLERATED)
    lacking = [name for name in (*_CLASSIFIER, _COUNTER) if name not in weights.tensors]
    return weights, dict.fromkeys(lacking, "of the classifier")


def _entries_by_part(wanted: Mapping[str, Tensor], weights: ForeignWeights) -> dict[str, int]:
    """How many entries a whole network of this kind has, as current PyTorch counts."""
    parts = Counter(name.partition(".")[0] for name in wanted)
    if weights.format.has_classifier:
        parts["classifier"] = len(_CLASSIFIER) + 1
    return {part: parts[part] for part in ("backbone", "branches", "classifier")}


def _planned(entry: Entry, weights: ForeignWeights, wanted: Mapping[str, Tensor]) -> PlannedEntry:
    tensor = weights.sources.get(entry.source)
    status, rule = entry.status, entry.rule
    # Of an incomplete classifier what is there has its place; what is missing is told apart.
    judged = entry.name is not None and (
        entry.name in wanted or not entry.name.startswith("classifier.")
    )
    if entry.name is not None and wanted and judged:
        assert tensor is not None
        clash = _clash(tensor, wanted.get(entry.name))
        if clash:
            status, rule = ("clash" if entry.name in wanted else "unknown"), clash
    return PlannedEntry(
        entry.source,
        status,
        entry.name,
        rule,
        None if tensor is None else tuple(tensor.shape),
        None if tensor is None else str(tensor.dtype).removeprefix("torch."),
    )


def _clash(tensor: Tensor, place: Tensor | None) -> str:
    if place is None:
        return "the network has no such entry"
    if tensor.shape != place.shape:
        return f"is {_shape(tensor.shape)}, not {_shape(place.shape)}"
    if tensor.is_floating_point() != place.is_floating_point():
        return f"is {tensor.dtype}, not {place.dtype}"
    return ""


def _shared(weights: ForeignWeights) -> tuple[tuple[str, ...], ...]:
    """Groups of entries that are one tensor; a profiler's counters may share what they like."""
    counters = {entry.source for entry in weights.entries if entry.rule == PROFILER_REASON}
    others = {name: t for name, t in weights.sources.items() if name not in counters}
    return tuple(tuple(group) for group in shared_groups(others))


def _problems(plan: ConversionPlan) -> tuple[str, ...]:
    """Why a plan cannot be carried out, an entry each; what is there before what is not."""
    return (
        *(
            f"{entry.status} {entry.source}: {entry.rule}"
            for entry in plan.entries
            if entry.status in ("unknown", "clash")
        ),
        *(f"missing {name} {shape}" for name, shape in plan.missing.items() if shape != _TOLERATED),
    )


def _misfit(weights: ForeignWeights) -> CheckpointError | None:
    if not weights.facts.misfits:
        return None
    return CheckpointError(
        f"`{weights.path}` is a network of {weights.format.name} that ours cannot be: "
        f"{'; '.join(weights.facts.misfits)}",
        hint="its trunk alone can be had: save the trunk's state_dict under torchvision's names",
    )


def _refusal(plan: ConversionPlan) -> CheckpointError | None:
    problems = _problems(plan)
    if not problems:
        return None
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    only_classifier = all(name.startswith("classifier.") for name in plan.missing) and not any(
        entry.status in ("unknown", "clash") for entry in plan.entries
    )
    hint = (
        "the classifier is only for training; to do without it: --strict inference"
        if only_classifier
        else f"see every entry: cgd convert-weights --plan '{plan.source}'; nothing is dropped "
        "or made up unasked"
    )
    return CheckpointError(
        f"`{plan.source}` ({plan.format}) does not fit the network: "
        f"{'; '.join(problems[:5])}{more}",
        hint=hint,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
