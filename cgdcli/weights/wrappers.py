"""What stands around a network's tensors in a file: dicts, prefixes, counters of other tools.

Tables first. Nothing here knows of networks; `foreign.py` names what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cgdcli.errors import CheckpointError

# Averaged weights are what their owner evaluated with, so they are preferred, and that is said.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "shadow")
CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
)
# A trunk and its embedder, saved side by side (pytorch-metric-learning).
PAIR = ("trunk", "embedder")
_COMPILED = "_orig_mod."
# What wrappers put before every name.
PREFIXES = {
    "module.": "DataParallel, DDP or AveragedModel",
    _COMPILED: "torch.compile",
    "ema_model.": "ema_pytorch",
    "model.": "a module that holds the network",
    "net.": "a module that holds the network",
    "network.": "a module that holds the network",
    "extractor.": "a module that holds the network",
}
PROFILER_ENTRIES = ("total_ops", "total_params")
PROFILER_REASON = "counter of the profiler thop, not a weight"
_COUNTERS = {
    "n_averaged": "counter of AveragedModel, not a weight",
    "initted": "flag of ema_pytorch, not a weight",
    "step": "counter of ema_pytorch, not a weight",
}
# By what a name begins with, at the outermost level of a training module.
_BESIDE_THE_NETWORK = {
    "online_model.": "not averaged; the averaged weights (ema_model) are taken",
    "criterion.": "of the loss, not of the network",
    "loss.": "of the loss, not of the network",
    "loss_fn.": "of the loss, not of the network",
    "loss_func.": "of the loss, not of the network",
    "miner.": "of the miner, not of the network",
    "metric.": "of a metric, not of the network",
    "metrics.": "of a metric, not of the network",
}
# A wrapper in a wrapper in ... : deeper than this a file is a puzzle, or contains itself.
_DEEPEST = 8


@dataclass(frozen=True)
class Unwrapped:
    """The dict that holds the tensors.

    Attributes:
        entries: by the file's names.
        beside: what stood beside it at any level, by key.
        steps: the way to it, in words.
        assumed: a choice between two sets of weights, in words.
    """

    entries: dict[str, Any]
    beside: dict[str, Any]
    steps: tuple[str, ...]
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Bare:
    """Names without wrappers' prefixes, by full name; and what is left out, with the reason."""

    names: dict[str, str]
    dropped: dict[str, str]
    prefix: str


def unwrap(path: str, content: Any, take: str | None = None) -> Unwrapped:
    """Follow `state_dict` and the like down to the dict that holds tensors.

    Args:
        take: the key to follow where several hold weights; None for the averaged ones.

    Raises:
        CheckpointError: there is none, `take` is not there, or it is nested without end.
    """
    steps: list[str] = []
    assumed: list[str] = []
    beside: dict[str, Any] = {}
    taken = take is None
    while isinstance(content, Mapping):
        pair = {key: content[key] for key in PAIR if isinstance(content.get(key), Mapping)}
        if len(pair) == 2 and take not in PAIR:
            others = {str(key): value for key, value in content.items() if key not in PAIR}
            beside |= others
            content = join_pair(pair["trunk"], pair["embedder"])
            steps.append("`trunk` and `embedder`" + _beside(others))
            break
        # A state_dict's values are tensors, so a dict among them means a wrapper, even where
        # tensors (`best_acc1` in PyTorch's ImageNet example) stand beside it.
        choices = [
            key
            for key in (*AVERAGED, *CONTAINERS)
            if isinstance(content.get(key), Mapping) and _has_tensors(content[key])
        ]
        if take is not None and isinstance(content.get(take), Mapping):
            choices, taken = [take], True
        if not choices:
            break
        if len(steps) == _DEEPEST:
            raise CheckpointError(
                f"`{path}` nests {' > '.join(map(str, choices[:1] * 3))} ... more than "
                f"{_DEEPEST} deep, or contains itself",
                hint="save the state_dict alone: torch.save(model.state_dict(), 'plain.pth')",
            )
        key = choices[0]
        if len(choices) > 1:
            what = "averaged weights" if key in AVERAGED else "weights under"
            assumed.append(f"the {what} `{key}` (others: --take {choices[1]})")
        others = {str(k): value for k, value in content.items() if k != key}
        beside |= others
        steps.append(f"inside `{key}`" + _beside(others))
        content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise _no_tensors(path, content)
    if not taken:
        raise CheckpointError(
            f"`{path}` has no dict of weights called `{take}`",
            hint=f"in it are {', '.join([*beside, *steps]) or 'tensors only'}; leave out --take",
        )
    entries = {str(name): value for name, value in content.items()}
    return Unwrapped(entries, beside, tuple(steps), tuple(assumed))


def _beside(others: Mapping[str, Any]) -> str:
    return f" (beside it {', '.join(others)})" if others else ""


def _has_tensors(content: Mapping[Any, Any], depth: int = 0) -> bool:
    """Whether there is a tensor in a dict or in the dicts in it; of one in itself, True: `unwrap`
    tells what is wrong with it."""
    if depth > _DEEPEST:
        return True
    return any(isinstance(value, Tensor) for value in content.values()) or any(
        _has_tensors(value, depth + 1) for value in content.values() if isinstance(value, Mapping)
    )


def join_pair(trunk: Mapping[str, Any], embedder: Mapping[str, Any]) -> dict[str, Any]:
    """One dict of a trunk and an embedder, each without its own wrapper's prefixes."""
    joined: dict[str, Any] = {}
    for role, content in zip(PAIR, (trunk, embedder), strict=True):
        entries = {str(name): value for name, value in content.items()}
        bare = strip_prefixes(entries)
        joined |= {f"{role}.{short}": entries[name] for name, short in bare.names.items()}
        joined |= {f"{role}.{name}": entries[name] for name in bare.dropped}
    return joined


def strip_prefixes(entries: Mapping[str, Any]) -> Bare:
    """Remove prefixes that stand before every name, in any order, and what is no weight."""
    dropped: dict[str, str] = {}
    for name, value in entries.items():
        reason = _drop_reason(name, value)
        if reason:
            dropped[name] = reason
    names = {name: name for name in entries if name not in dropped}
    stripped = ""
    while names:
        prefix = next((p for p in PREFIXES if all(s.startswith(p) for s in names.values())), "")
        if not prefix:
            break
        stripped += prefix
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
        # What a wrapper keeps for itself shows once the wrapper outside of it is gone.
        for name, short in list(names.items()):
            reason = _drop_reason(short, entries[name])
            if reason:
                dropped[name] = reason
                del names[name]
    # `torch.compile` of a part of the network puts its word before that part's names alone.
    names = {name: short.replace(f".{_COMPILED}", ".") for name, short in names.items()}
    return Bare(names, dropped, stripped)


def _drop_reason(name: str, value: Any) -> str | None:
    if name.rsplit(".", 1)[-1] in PROFILER_ENTRIES:
        return PROFILER_REASON
    if not isinstance(value, Tensor):
        return "not a tensor"
    if name in _COUNTERS:
        return _COUNTERS[name]
    return next((r for p, r in _BESIDE_THE_NETWORK.items() if name.startswith(p)), None)


def _no_tensors(path: str, content: Any) -> CheckpointError:
    found = "an empty dict" if content == {} else f"a {type(content).__name__}"
    return CheckpointError(
        f"`{path}` holds no named tensors but {'nothing' if content is None else found}",
        hint="a state_dict is wanted, or a dict with one under `state_dict` or `model`",
    )
