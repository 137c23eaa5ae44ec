"""Exact counts of a network, layer by layer, on the meta device: shapes only, no arithmetic.

One multiply-accumulate (MAC) is two floating-point operations (FLOPs). Counted are convolutions,
linear layers and the products of attention; everything else is listed by kind and number, never
dropped in silence.
"""

import re
from collections import Counter
from math import prod

import torch
from torch import nn

from cgdcli.config import DESCRIPTOR_NAMES, RESNETS, CGDConfig
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.profiling.watching import BYTES, IDLE, Watch, layer_of, parameters_of
from cgdcli.reports import Counts, LayerProfile, StageProfile

# How networks number their blocks.
_NUMBERED = re.compile(r"\d+|encoder_layer_\d+|denselayer\d+")


def count_network(config: CGDConfig) -> Counts:
    """Parameters, MACs, FLOPs, activations and bytes of a network for one picture."""
    model = meta_model(config).eval()
    layers, others = _layers(model)
    stages = _stages(layers, others)
    total = parameters_of(model)
    classifier = parameters_of(model.classifier) if model.classifier else 0
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
        backbone_macs=sum(s.macs for s in stages if s.name in model.backbone.stage_names),
        activations=sum(layer.activations for layer in layers),
        stages=stages,
        layers=tuple(layers),
        uncounted=dict(uncounted),
        thop=thop_figures(model, layers) if config.backbone in RESNETS else {},
    )


def group_layers(layers: tuple[LayerProfile, ...], depth: int) -> list[LayerProfile]:
    """Layers taken together: depth 1 by stage, 2 by residual block, 3 each by itself."""
    if depth >= 3:
        return list(layers)
    groups: dict[str, list[LayerProfile]] = {}
    for layer in layers:
        name = layer.stage if depth == 1 else _block(layer.name)
        groups.setdefault(name, []).append(layer)
    return [_together(name, members) for name, members in groups.items()]


def _block(name: str) -> str:
    """The block that a layer is in: its name up to its first number and those that follow at once.

    `backbone.layer1.0.conv1` is in `backbone.layer1.0`, `backbone.features.1.2.block.0` in
    `backbone.features.1.2`; without a number it is `backbone.inception3a` or the like.
    """
    words = name.split(".")
    places = [place for place, word in enumerate(words) if _NUMBERED.fullmatch(word)]
    if not places:
        return ".".join(words[:2])
    last = places[0]
    while last + 1 < len(words) and words[last + 1].isdigit():
        last += 1
    return ".".join(words[: last + 1])


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
    watch = Watch(model.backbone)
    x = watch.run(torch.empty(1, 3, size, size, device="meta"))
    layers, others = watch.layers, watch.others
    with torch.inference_mode():
        for i, letter in enumerate(config.descriptors):
            stage = f"branch {letter}"
            kind = f"pooling {DESCRIPTOR_NAMES[letter]}"
            shape = (int(x.shape[1]),)
            moved = x[0].numel() + shape[0]
            own = int(letter in model.exponents)
            layers.append(
                LayerProfile(
                    f"{stage}.pool", stage, kind, own, own * BYTES, 0, 0, moved, shape, False
                )
            )
            if model.branches:
                layers.append(layer_of(f"branches.{i}", stage, model.branches[i], shape))
            before = config.head(i) == "whitening"
            others[stage] = Counter({"L2 normalization": 2 if before else 1})
        others["concatenation"] = Counter({"L2 normalization": 1})
        if model.classifier is not None:
            for part in ("batch_norm", "linear"):
                module = getattr(model.classifier, part)
                layers.append(
                    layer_of(f"classifier.{part}", "classifier", module, (int(x.shape[1]),))
                )
    return layers, others


def _stages(
    layers: list[LayerProfile], others: dict[str, Counter[str]]
) -> tuple[StageProfile, ...]:
    stages = []
    for name in dict.fromkeys([layer.stage for layer in layers]):
        members = [layer for layer in layers if layer.stage == name]
        together = _together(name, members)
        uncounted = Counter(x.kind for x in members if not (x.counted or x.kind in IDLE))
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
