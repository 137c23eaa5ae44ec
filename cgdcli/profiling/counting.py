"""Exact counts of a network, layer by layer, on the meta device: shapes only, no arithmetic.

One multiply-accumulate (MAC) is two floating-point operations (FLOPs). Counted are convolutions
and linear layers; everything else is listed by kind and number, never dropped in silence.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from cgdcli.config import DESCRIPTOR_NAMES, CGDConfig
from cgdcli.model.backbones import STAGES
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.reports import Counts, LayerProfile, StageProfile

_BYTES = 4  # float32


def count_network(config: CGDConfig) -> Counts:
    """Parameters, MACs, FLOPs, activations and bytes of a network for one picture."""
    model = meta_model(config).eval()
    layers, others = _layers(model)
    stages = _stages(layers, others)
    total = _parameters(model)
    classifier = _parameters(model.classifier) if model.classifier else 0
    macs = sum(layer.macs for layer in layers)
    uncounted: Counter[str] = Counter()
    for stage in stages:
        uncounted.update(stage.uncounted)
    return Counts(
        parameters=total,
        embedding_parameters=total - classifier,
        classifier_parameters=classifier,
        weight_bytes=sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        macs=macs,
        flops=2 * macs,
        backbone_macs=sum(stage.macs for stage in stages if stage.name in STAGES),
        activations=sum(layer.activations for layer in layers),
        stages=stages,
        layers=tuple(layers),
        uncounted=dict(uncounted),
        thop=thop_figures(model, layers),
    )


def group_layers(layers: tuple[LayerProfile, ...], depth: int) -> list[LayerProfile]:
    """Layers taken together: depth 1 by stage, 2 by residual block, 3 each by itself."""
    if depth >= 3:
        return list(layers)
    groups: dict[str, list[LayerProfile]] = {}
    for layer in layers:
        parts = layer.name.split(".")
        block = ".".join(parts[:3]) if parts[1].startswith("layer") else layer.name
        groups.setdefault(layer.stage if depth == 1 else block, []).append(layer)
    return [_together(name, members) for name, members in groups.items()]


def thop_figures(model: CGD, layers: list[LayerProfile]) -> dict[str, int]:
    """What generations of thop print as "MACs" of this network, by the rule of each.

    Worked out from thop 0.1.1's source and the figures that older wheels print for the reference:
    besides convolutions and linear layers it counts BatchNorm, and early ones the additions of
    linear layers. (Those before April 2020 add in float32: their print is off by up to 1e-7.)
    """
    macs = sum(layer.macs for layer in layers)
    norm = sum(prod(x.output_shape) for x in layers if x.kind.startswith("BatchNorm"))
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    additions = sum((m.in_features - 1 + (m.bias is not None)) * m.out_features for m in linear)
    return {
        "before 2020: + 4 per BatchNorm value + additions of linear layers": macs
        + 4 * norm
        + additions,
        "January 2020: + 2 per BatchNorm value + additions of linear layers": macs
        + 2 * norm
        + additions,
        "April 2020 to 0.0.4: + 2 per BatchNorm value": macs + 2 * norm,
        "0.0.5 to 0.1.1 (newest): + 4 per BatchNorm value": macs + 4 * norm,
    }


def _layers(model: CGD) -> tuple[list[LayerProfile], dict[str, Counter[str]]]:
    """Every leaf that runs, in order, and by stage what runs besides modules."""
    config = model.config
    size = config.transform.image_size
    x = torch.empty(1, 3, size, size, device="meta")
    layers: list[LayerProfile] = []
    others: dict[str, Counter[str]] = {}
    with torch.inference_mode():
        for name in STAGES:
            with _watch(model, name, layers):
                x = model.backbone.run_stage(name, x)
            blocks = len(getattr(model.backbone, name)) if name != "stem" else 0
            others[name] = Counter({"residual addition": blocks} if blocks else {})
        for i, letter in enumerate(config.descriptors):
            stage = f"branch {letter}"
            kind = f"pooling {DESCRIPTOR_NAMES[letter]}"
            shape = (int(x.shape[1]),)
            moved = x[0].numel() + shape[0]
            own = int(letter in model.exponents)
            layers.append(
                LayerProfile(
                    f"{stage}.pool", stage, kind, own, own * _BYTES, 0, 0, moved, shape, False
                )
            )
            if model.branches:
                layers.append(_layer(f"branches.{i}", stage, model.branches[i], shape))
            before = config.head(i) == "whitening"
            others[stage] = Counter({"L2 normalization": 2 if before else 1})
        others["concatenation"] = Counter({"L2 normalization": 1})
        if model.classifier is not None:
            for part in ("batch_norm", "linear"):
                module = getattr(model.classifier, part)
                layers.append(
                    _layer(f"classifier.{part}", "classifier", module, (int(x.shape[1]),))
                )
    return layers, others


def _layer(
    name: str, stage: str, module: nn.Module, inputs: tuple[int, ...], output: Tensor | None = None
) -> LayerProfile:
    """One leaf by its input's shape, and its output where it ran; a head's is known without."""
    shape = inputs if output is None else tuple(int(n) for n in output.shape[1:])
    if isinstance(module, nn.Linear):
        shape = (module.out_features,)
        macs = module.in_features * module.out_features
    elif isinstance(module, nn.Conv2d):
        assert output is not None
        macs = convolution_macs(module, output)
    else:
        macs = 0
    counted = isinstance(module, (nn.Conv2d, nn.Linear))
    parameters = _parameters(module)
    return LayerProfile(
        name,
        stage,
        type(module).__name__,
        parameters,
        parameters * _BYTES,
        macs,
        prod(shape) if counted else 0,
        prod(inputs) + prod(shape),
        shape,
        counted,
    )


def convolution_macs(module: nn.Conv2d, output: Tensor) -> int:
    """Each output value takes one MAC per weight of its filter: C_in / groups x kernel area."""
    kernel = prod(module.kernel_size)
    return output[0].numel() * (module.in_channels // module.groups) * kernel


@contextmanager
def _watch(model: CGD, stage: str, layers: list[LayerProfile]) -> Iterator[None]:
    """Hooks on the trunk's leaves that append what runs."""

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shape = tuple(int(n) for n in inputs[0].shape[1:])
            layers.append(_layer(f"backbone.{name}", stage, module, shape, output))

        return hook

    handles = [
        leaf.register_forward_hook(hook_of(name))
        for name, leaf in model.backbone.named_modules()
        if not list(leaf.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stages(
    layers: list[LayerProfile], others: dict[str, Counter[str]]
) -> tuple[StageProfile, ...]:
    stages = []
    for name in dict.fromkeys([layer.stage for layer in layers]):
        members = [layer for layer in layers if layer.stage == name]
        together = _together(name, members)
        uncounted = Counter(layer.kind for layer in members if not layer.counted)
        uncounted.update(others.get(name, Counter()))
        stages.append(
            StageProfile(
                name,
                together.parameters,
                together.weight_bytes,
                together.macs,
                together.activations,
                together.output_shape,
                dict(uncounted),
            )
        )
    last = others["concatenation"]
    return (*stages, StageProfile("concatenation", 0, 0, 0, 0, _width(stages), dict(last)))


def _width(stages: list[StageProfile]) -> tuple[int, ...]:
    return (sum(s.output_shape[0] for s in stages if s.name.startswith("branch ")),)


def _together(name: str, members: list[LayerProfile]) -> LayerProfile:
    return LayerProfile(
        name,
        members[0].stage,
        members[0].kind if len(members) == 1 else "",
        sum(layer.parameters for layer in members),
        sum(layer.weight_bytes for layer in members),
        sum(layer.macs for layer in members),
        sum(layer.activations for layer in members),
        sum(layer.moved_values for layer in members),
        members[-1].output_shape,
        any(layer.counted for layer in members),
    )


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
