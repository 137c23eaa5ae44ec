"""timm's networks as trunks (the extra `timm`), under timm's own parameter names."""

import difflib
import importlib.util
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from cgdcli.config import StrideMode, Transform
from cgdcli.config.backbones import TIMM
from cgdcli.errors import ConfigError
from cgdcli.model.backbones import Trunk, no_such_size, remove_stride

# Ways to ask for a size, the first that a network knows: positions resized as it runs, built for
# that size, or any size at all.
_SIZED: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"img_size": 0}, {})


_FIRST_STAGE = 4


class TimmTrunk(Trunk):
    """A network of timm up to what its `forward_features` gives, as a map.

    Tokens become a map row by row, without class and register tokens. What the map does not
    depend on (pooling, norms after it, classifier) is no part of the trunk.
    """

    runs_in_stages = False

    def __init__(self, name: str, stride: StrideMode, image_size: int) -> None:
        super().__init__()
        facts = _facts(name, image_size)
        network = _create(name, facts.options)
        for unused in facts.unused:
            parent, _, child = unused.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
        if stride is not StrideMode.standard:
            _remove_stride(name, network, stride)
        self.channels = facts.channels
        self.prefix_tokens = facts.prefix_tokens
        # The network's own tables of modules and parameters are this module's: one set of tensors
        # under the network's names, whichever of the two is asked.
        self._modules, self._parameters = network._modules, network._parameters
        self._buffers = network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        object.__setattr__(self, "_network", network)
        self._order = {name: n for n, (name, _) in enumerate(self.named_modules())}
        self._ends = _stage_ends(network, self._order)
        self.stage_names = tuple(stage for _, stage in self._ends)

    def forward(self, images: Tensor) -> Tensor:
        features = cast(Any, self)._network.forward_features(images)
        return _as_map(features, self.prefix_tokens, self.channels)

    def train(self, mode: bool = True) -> "TimmTrunk":
        super().train(mode)
        cast(Any, self)._network.training = mode
        return self

    def stage_of(self, module: str) -> str:
        place = self._order.get(module, 0)  # a parameter of the network itself: the first
        return next((stage for end, stage in self._ends if place <= end), self.stage_names[-1])


def _stage_ends(network: nn.Module, order: Mapping[str, int]) -> list[tuple[int, str]]:
    """Where each stage ends in the order of the modules: at the last of those that timm names
    (`feature_info`) as having a map of its size. A larger map than a quarter is the stem's."""
    ends: dict[int, int] = {}
    for info in getattr(network, "feature_info", None) or []:
        name = info["module"]
        inside = [n for module, n in order.items() if f"{module}.".startswith(f"{name}.")]
        if inside:
            ends[info["reduction"]] = max(inside)
    if not ends:
        return [(len(order), "trunk")]
    first = 0 if len(ends) > 1 and min(ends) < _FIRST_STAGE else 1
    stages = enumerate(sorted(ends.values()), start=first)
    return [(end, f"stage{number}" if number else "stem") for number, end in stages]


@dataclass(frozen=True)
class _Facts:
    """What a network of timm is, for pictures of one size.

    Attributes:
        options: how it is created for that size.
        unused: the largest modules that its map does not depend on.
        prefix_tokens: before those of the patches.
    """

    options: dict[str, Any]
    unused: tuple[str, ...]
    channels: int
    prefix_tokens: int


def timm_transform(name: str) -> Transform:
    """Size, mean and std that the published weights were evaluated with."""
    _require(name)
    import timm

    config: Any = timm.models.get_pretrained_cfg(name.removeprefix(TIMM))
    if config is None:  # a network without published weights
        return Transform()
    return Transform(int(config.input_size[-1]), tuple(config.mean), tuple(config.std))


def timm_names(name: str) -> set[str]:
    """Names of the whole network's `state_dict`, its classifier's among them."""
    _require(name)
    return set(_meta_entries(name, {"num_classes": None}))


def timm_call(name: str, image_size: int) -> str:
    """How timm makes the network that takes a trunk's entries, for people."""
    facts = _facts(name, image_size)
    options = ", ".join(f"{key}={value!r}" for key, value in facts.options.items())
    call = (
        f"timm.create_model({name.removeprefix(TIMM)!r}, num_classes=0{options and ', '}{options})"
    )
    idle = ", ".join(facts.unused)
    return f"{call}, by strict=False: its map does not need {idle}" if idle else call


def meta_timm_trunk(name: str, image_size: int) -> TimmTrunk:
    """Names and shapes of a trunk; draws no random numbers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return TimmTrunk(name, StrideMode.standard, image_size)


def timm_pretrained(name: str, image_size: int) -> dict[str, Tensor]:
    """timm's default weights of a network for pictures of that size, whole: from its cache, else
    downloaded; positions are resized by timm."""
    # With its classifier: without it timm lets entries be missing or left over.
    options = _facts(name, image_size).options | {"num_classes": None, "pretrained": True}
    return dict(_create(name, options).state_dict())


def timm_converted(name: str, image_size: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole file of timm's as it loads it: older names renamed, positions resized.

    Raises:
        RuntimeError: an entry is missing, left over or misshapen; other errors by older names.
    """
    import timm

    config: Any = timm.models.get_pretrained_cfg(name.removeprefix(TIMM))
    heads = getattr(config, "classifier", None) or ()
    heads = (heads,) if isinstance(heads, str) else heads
    classifier = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    facts = _facts(name, image_size)
    # What the map does not depend on, a trunk of ours does not have.
    tensors = {
        entry: torch.zeros(like.shape)
        for entry, like in _meta_entries(name, facts.options).items()
        if entry.startswith(tuple(f"{module}." for module in facts.unused))
    } | tensors
    # That the classes agree (none here, none there) is what makes timm strict.
    overlay = {
        "state_dict": {n: t for n, t in tensors.items() if n not in classifier},
        "num_classes": 0,
        "label_offset": 0,
    }
    created = facts.options | {"pretrained": True, "pretrained_cfg_overlay": overlay}
    return dict(_create(name, created).state_dict())


def _meta_entries(name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return dict(_create(name, options).state_dict())


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = {k: v for k, v in ({"num_classes": 0} | options).items() if v is not None}
        return timm.create_model(name.removeprefix(TIMM), **known)


def _require(name: str) -> None:
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            f"the backbone {name} needs the package timm, which is not installed",
            hint="pip install 'cgdcli[timm]'",
        )
    import timm

    network, _, weights = name.removeprefix(TIMM).partition(".")
    if not timm.is_model(network):
        known = timm.list_models()
        near = difflib.get_close_matches(network, known, 3) or [n for n in known if network in n]
        raise ConfigError(
            f"timm {timm.__version__} has no network {network!r}",
            hint=_did_you_mean(near) or "see timm.list_models()",
        )
    published = timm.list_models(f"{network}.*", pretrained=True)
    if weights and f"{network}.{weights}" not in published:
        raise ConfigError(
            f"timm {timm.__version__} has no weights {weights!r} of {network}",
            hint=_did_you_mean(published) or f"it publishes none of it: {TIMM}{network}",
        )


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(f'{TIMM}{n}' for n in names[:3])}?" if names else ""


@cache
def _facts(name: str, image_size: int) -> _Facts:
    """By a run on the meta device, where nothing is computed.

    Raises:
        ConfigError: timm has no such network, it takes no such pictures, or it has no map.
    """
    _require(name)
    # Whatever modes the caller is in: what the map depends on shows in its gradients.
    with torch.inference_mode(False), torch.enable_grad(), torch.device("meta"):
        with torch.random.fork_rng(devices=[]):
            network, options = _sized(name, image_size)
        features = _features(name, network.eval(), image_size)
        prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
        channels = int(network.num_features)
        feature_map = _checked_map(name, features, prefix, channels)
        return _Facts(options, _unused(network, feature_map), channels, prefix)


def _sized(name: str, image_size: int) -> tuple[Any, dict[str, Any]]:
    """The network, created in the first of the ways to ask for a size that it knows."""
    for tried in _SIZED[:-1]:
        options = {key: value or image_size for key, value in tried.items()}
        try:
            return _create(name, options), options
        except TypeError:  # an option that it does not know
            continue
    return _create(name, _SIZED[-1]), _SIZED[-1]


def _features(name: str, network: Any, image_size: int) -> Any:
    try:
        return network.forward_features(torch.empty(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        fitting = _fitting_size(network, image_size) or timm_transform(name).image_size
        raise no_such_size(name, image_size, fitting, _first_line(error)) from error


def _checked_map(name: str, features: Any, prefix: int, channels: int) -> Tensor:
    try:
        feature_map = _as_map(features, prefix, channels)
    except (ValueError, AttributeError) as error:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ConfigError(
            f"{name} has no map: what it gives for a picture is {shape}, where (1, {channels}, "
            "H, W), (1, H, W, C) or a square of tokens is wanted",
            hint="choose another network",
        ) from error
    return feature_map


def _as_map(features: Tensor, prefix: int, channels: int) -> Tensor:
    """(B, C, H, W), (B, H, W, C) or tokens (B, prefix + N N, C) to (B, C, H, W).

    Raises:
        ValueError: it is none of them.
    """
    if features.ndim == 4 and features.shape[1] == channels:
        return features
    if features.ndim == 4 and features.shape[3] == channels:
        return features.permute(0, 3, 1, 2)
    side = math.isqrt(int(features.shape[1]) - prefix)
    if features.ndim != 3 or side * side != features.shape[1] - prefix:
        raise ValueError(f"no map: {tuple(features.shape)}")
    tokens = features[:, prefix:]
    return tokens.transpose(1, 2).reshape(-1, channels, side, side)


def _unused(network: nn.Module, feature_map: Tensor) -> tuple[str, ...]:
    """The largest modules none of whose parameters the map depends on."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(feature_map.sum(), parameters, allow_unused=True)
    used = [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
    idle = [name for name in names if name not in set(used)]
    found: list[str] = []
    for module, _ in network.named_modules():
        inside = f"{module}."
        if (
            module
            and any(name.startswith(inside) for name in idle)
            and not any(name.startswith(inside) for name in used)
            and not any(inside.startswith(f"{other}.") for other in found)
        ):
            found.append(module)
    return tuple(found)


def _remove_stride(name: str, network: nn.Module, stride: StrideMode) -> None:
    """Only where convolutions alone stride: a `d` variant pools in its shortcut, and others have
    no such stage."""
    from timm.models.resnet import ResNet

    why = "which has no such stage"
    if isinstance(network, ResNet):
        block = cast(nn.Sequential, network.get_submodule(stride.value))[0]
        leaves = [m for m in block.modules() if not list(m.children())]
        others = [m for m in leaves if not isinstance(m, nn.Conv2d)]
        if all(getattr(m, "stride", 1) in (1, (1, 1)) for m in others):
            remove_stride(network.get_submodule(stride.value))
            return
        why = "which pools there"
    raise ConfigError(
        f"the stride of {stride} cannot be removed from {name}, {why}",
        hint="keep its strides: --stride standard",
    )


def _fitting_size(network: Any, image_size: int) -> int:
    """The nearest multiple of its patches; 0 where it has none, or where that is no remedy."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    step = patch[0] if isinstance(patch, tuple) else patch
    if not isinstance(step, int) or not image_size % step:
        return 0
    return max(1, round(image_size / step)) * step


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
