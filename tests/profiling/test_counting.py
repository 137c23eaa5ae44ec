"""Counts against formulas worked by hand, PyTorch's own counter, torchvision's and published
figures, and thop itself."""

from dataclasses import replace
from math import ceil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cgdcli.config import (
    DESCRIPTOR_NAMES,
    RESNETS,
    CGDConfig,
    Head,
    StrideMode,
    Transform,
)
from cgdcli.model.backbones import STAGES, backbone_transform, imagenet_weights
from cgdcli.model.cgd import CGD, meta_model
from cgdcli.model.torchvision_trunks import torchvision_network
from cgdcli.profiling.counting import _block, count_network, group_layers

# Of each network: blocks by stage, bottlenecks or not, groups, width of a group (He et al. 2016,
# Xie et al. 2017, Zagoruyko & Komodakis 2016).
ARCHITECTURES = {
    "resnet18": ((2, 2, 2, 2), False, 1, 64),
    "resnet34": ((3, 4, 6, 3), False, 1, 64),
    "resnet50": ((3, 4, 6, 3), True, 1, 64),
    "resnet101": ((3, 4, 23, 3), True, 1, 64),
    "resnet152": ((3, 8, 36, 3), True, 1, 64),
    "resnext50_32x4d": ((3, 4, 6, 3), True, 32, 4),
    "resnext101_32x8d": ((3, 4, 23, 3), True, 32, 8),
    "resnext101_64x4d": ((3, 4, 23, 3), True, 64, 4),
    "wide_resnet50_2": ((3, 4, 6, 3), True, 1, 128),
    "wide_resnet101_2": ((3, 4, 23, 3), True, 1, 128),
}


def by_hand(name, stride, size):
    """MACs and parameters of every stage, from the papers' tables.

    A convolution of k x k from c_in to c_out in g groups on s x s outputs takes
    s^2 k^2 (c_in / g) c_out MACs and k^2 (c_in / g) c_out weights; a BatchNorm two a channel.
    """
    blocks, bottleneck, groups, width = ARCHITECTURES[name]
    side = ceil(size / 2)
    macs, weights = {"stem": side**2 * 49 * 3 * 64}, {"stem": 49 * 3 * 64 + 2 * 64}
    side, channels = ceil(side / 2), 64
    for number in range(4):
        stage = f"layer{number + 1}"
        planes = 64 * 2**number
        inner = planes * width // 64 * groups if bottleneck else planes
        out = 4 * planes if bottleneck else planes
        macs[stage] = weights[stage] = 0
        for block in range(blocks[number]):
            halved = block == 0 and number > 0 and stride != stage
            after = ceil(side / 2) if halved else side
            convolutions = (
                [
                    (1, channels, inner, 1, side),
                    (3, inner, inner, groups, after),
                    (1, inner, out, 1, after),
                ]
                if bottleneck
                else [(3, channels, planes, 1, after), (3, planes, planes, 1, after)]
            )
            if block == 0 and (channels != out or number > 0):
                convolutions.append((1, channels, out, 1, after))
            for kernel, c_in, c_out, g, s in convolutions:
                filters = kernel**2 * (c_in // g) * c_out
                macs[stage] += s**2 * filters
                weights[stage] += filters + 2 * c_out
            channels, side = out, after
    return macs, weights


def small(name, stride=StrideMode.layer3, letters="SG", dim=None, classes=0, size=64):
    dim = 8 * len(letters) if dim is None else dim
    transform = Transform(image_size=size)
    return CGDConfig(name, stride, letters, dim or None, classes, transform=transform)


@pytest.mark.parametrize("size", [224, 97])
@pytest.mark.parametrize("stride", list(StrideMode))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_backbone_by_hand(name, stride, size):
    stages = {s.name: s for s in count_network(small(name, stride, size=size)).stages}
    macs, weights = by_hand(name, stride, size)
    assert {n: stages[n].macs for n in STAGES} == macs
    assert {n: stages[n].parameters for n in STAGES} == weights


def test_the_table_above_has_every_backbone():
    assert set(ARCHITECTURES) == set(RESNETS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_as_torchvision_publishes(name):
    """Its `_ops` are billions of MACs at 224 px, its `num_params` include the classifier fc."""
    meta = imagenet_weights(name).meta
    counts = count_network(small(name, StrideMode.standard, dim=0, size=224))
    channels = counts.stages[5].output_shape[0]
    fc = channels * 1000
    assert (counts.backbone_macs + fc) / 1e9 == pytest.approx(meta["_ops"], abs=1e-3)
    assert counts.parameters + fc + 1000 == meta["num_params"]


@pytest.mark.parametrize("letters", [*DESCRIPTOR_NAMES, "SMG", "GS", "SMGRCW"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_every_descriptor_by_hand(name, letters):
    """A branch is a matrix of C x D/n, without bias; pooling has no multiply-accumulate counted
    and is listed instead."""
    channels = 2048 if name == "resnet50" else 512
    counts = count_network(small(name, letters=letters, classes=7))
    for letter in letters:
        branch = next(s for s in counts.stages if s.name == f"branch {letter}")
        assert branch.macs == branch.parameters == channels * 8
        assert branch.weight_bytes == 4 * branch.parameters and branch.activations == 8
        assert branch.output_shape == (8,)
        assert branch.uncounted == {
            f"pooling {DESCRIPTOR_NAMES[letter]}": 1,
            "L2 normalization": 1,
        }
    classifier = next(s for s in counts.stages if s.name == "classifier")
    assert classifier.macs == channels * 7
    assert classifier.parameters == 2 * channels + channels * 7 + 7
    assert counts.stages[-1].name == "concatenation"
    assert counts.stages[-1].output_shape == (8 * len(letters),)
    assert counts.uncounted["L2 normalization"] == len(letters) + 1


@pytest.mark.parametrize("letters", [*DESCRIPTOR_NAMES, "SG"])
def test_pooled_descriptors_have_branches_without_weights(letters):
    counts = count_network(small("resnet18", letters=letters, dim=0))
    branches = [s for s in counts.stages if s.name.startswith("branch")]
    assert [(s.macs, s.parameters, s.output_shape) for s in branches] == [
        (0, 0, (512,)) for _ in letters
    ]


def test_heads_of_other_networks():
    base = small("resnet18", letters="SG", dim=16)
    for head, normalized in ((Head.affine, 1), (Head.whitening, 2)):
        counts = count_network(replace(base, heads=(head, head)))
        branch = next(s for s in counts.stages if s.name == "branch S")
        assert branch.parameters == 512 * 8 + 8 and branch.macs == 512 * 8
        assert branch.uncounted["L2 normalization"] == normalized


@pytest.mark.parametrize(
    "config",
    [
        *(small(name, letters="SMGRCW", classes=5, size=40) for name in ARCHITECTURES),
        *(small("resnet50", stride, "GM", classes=3, size=70) for stride in StrideMode),
        small("resnet18", letters="RCW", dim=0),
    ],
    ids=lambda c: f"{c.backbone}-{c.descriptors}-{c.stride}",
)
def test_flops_are_what_pytorch_counts(config):
    model = meta_model(config).eval().to_empty(device="cpu")  # what the numbers are is no matter
    size = config.transform.image_size
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 3, size, size))
    counts = count_network(config)
    assert counts.flops == 2 * counts.macs == counter.get_total_flops()
    assert counts.parameters == sum(p.numel() for p in model.parameters())
    state = model.state_dict().values()
    assert counts.weight_bytes == sum(t.numel() * t.element_size() for t in state)


# What has arithmetic of its own, and, in the slow test, the other ways of being built. (All 80 were
# compared once; within a family they differ in widths and depths alone.)
FAMILY_MEMBERS = (
    *("efficientnet_b0", "convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t", "googlenet"),
)
OTHER_WAYS = (
    *("vgg11_bn", "squeezenet1_1", "inception_v3", "mobilenet_v3_small", "regnet_y_400mf"),
    *("shufflenet_v2_x0_5", "densenet121", "maxvit_t"),
)


def check_counts(name):
    """By PyTorch's own counter on the same trunk, and by what torchvision publishes: billions of
    MACs and parameters of the whole network, its classifier included."""
    transform = backbone_transform(name)
    config = CGDConfig(name, StrideMode.standard, "S", None, transform=transform)
    counts = count_network(config)
    size, trunk = transform.image_size, meta_model(config).backbone.eval()
    with torch.device("meta"):
        network = torchvision_network(name, size).eval()
        images = torch.empty(1, 3, size, size)
    own, whole = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with torch.no_grad():
        with own:
            trunk(images)
        with whole:
            network(images)
    assert counts.flops == 2 * counts.backbone_macs == own.get_total_flops()
    assert counts.parameters == sum(p.numel() for p in trunk.parameters())
    assert counts.parameters == sum(stage.parameters for stage in counts.stages)
    head = (whole.get_total_flops() - own.get_total_flops()) / 2
    published = imagenet_weights(name).meta["_ops"]
    assert (counts.macs + head) / 1e9 == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize("name", FAMILY_MEMBERS)
def test_other_families_as_pytorch_counts_and_torchvision_publishes(name):
    check_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_WAYS)
def test_other_ways_of_being_built_as_pytorch_counts_and_torchvision_publishes(name):
    check_counts(name)


def test_attention_and_lone_parameters_are_counted():
    config = CGDConfig("vit_b_32", StrideMode.standard, "S", None)
    layers = {layer.name: layer for layer in count_network(config).layers}
    attention = layers["backbone.encoder.layers.encoder_layer_0.self_attention"]
    tokens, width = 50, 768
    # Three projections and one back, then two products of tokens with tokens.
    assert attention.macs == 4 * tokens * width**2 + 2 * tokens**2 * width
    assert attention.parameters == 4 * width * (width + 1) and attention.counted
    lone = layers["backbone.class_token"]
    assert (lone.kind, lone.parameters, lone.macs) == ("parameters", width, 0)
    assert "parameters" not in count_network(config).uncounted


@pytest.mark.parametrize("name", ["edgenext_xx_small", "xcit_nano_12_p16_224"])
def test_modules_that_are_asked_for_positions_of_a_size_are_counted(name):
    """What they are given is no map."""
    pytest.importorskip("timm")
    config = CGDConfig(f"timm:{name}", StrideMode.standard, "S", None, transform=Transform(64))
    counts = count_network(config)
    trunk = meta_model(config).backbone
    assert sum(x.parameters for x in counts.layers) == sum(p.numel() for p in trunk.parameters())


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("backbone.conv1", "backbone.conv1"),
        ("backbone.layer1.0.conv1", "backbone.layer1.0"),
        ("backbone.features.3.1.block.2.fc1", "backbone.features.3.1"),
        ("backbone.stages.1.blocks.0.conv_dw", "backbone.stages.1"),
        (
            "backbone.encoder.layers.encoder_layer_3.mlp.0",
            "backbone.encoder.layers.encoder_layer_3",
        ),
        (
            "backbone.features.denseblock1.denselayer2.conv1",
            "backbone.features.denseblock1.denselayer2",
        ),
        ("backbone.inception3a.branch2.0.conv", "backbone.inception3a.branch2.0"),
        ("backbone.Mixed_5b.branch1x1.conv", "backbone.Mixed_5b"),
        ("branches.0", "branches.0"),
        ("classifier.linear", "classifier.linear"),
    ],
)
def test_the_block_that_a_layer_is_in(name, block):
    assert _block(name) == block


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "published"),
    [("resnet50", 98, 26.86, 10.64), ("resnext50_32x4d", 98, 26.33, 10.84)],
)
def test_the_references_published_figures(name, classes, parameters, published):
    """Its README: 26.86M parameters and 10.64G FLOPs; what thop called so then."""
    counts = count_network(small(name, letters="SG", dim=1536, classes=classes, size=224))
    assert round(counts.parameters / 1e6, 2) == parameters
    then = counts.thop["April 2020 to 0.0.4: + 2 per BatchNorm value"]
    before = counts.thop["January 2020: + 2 per BatchNorm value + additions of linear layers"]
    assert round(then / 1e9, 2) == round(before / 1e9, 2) == published
    norms = sum(1 for layer in counts.layers if layer.kind.startswith("BatchNorm"))
    assert counts.uncounted["BatchNorm2d"] + counts.uncounted["BatchNorm1d"] == norms
    if name == "resnet50":
        assert round(counts.backbone_macs / 1e9, 2) == 10.60


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_the_newest_thop_prints_what_is_said_of_it(name):
    thop = pytest.importorskip("thop")
    config = small(name, letters="SG", dim=16, classes=5)
    macs, parameters = thop.profile(
        CGD(config).eval(), inputs=(torch.zeros(1, 3, 64, 64),), verbose=False
    )
    counts = count_network(config)
    assert macs == counts.thop["0.0.5 to 0.1.1 (newest): + 4 per BatchNorm value"]
    assert parameters == counts.parameters


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_depth_adds_up(depth):
    counts = count_network(small("resnet50", letters="SMG", classes=4))
    rows = group_layers(counts.layers, depth)
    # Single layers may stand there several times: one ReLU runs thrice in a block.
    assert depth == 3 or len({row.name for row in rows}) == len(rows)
    for attribute in ("parameters", "macs", "activations"):
        assert sum(getattr(row, attribute) for row in rows) == getattr(counts, attribute)
    assert len(rows) == {1: 9, 2: 28, 3: len(counts.layers)}[depth]


def test_nothing_that_runs_is_left_out():
    """Every leaf of the network is counted or listed, as often as it runs."""
    config = small("resnet50", letters="SG", classes=4)
    counts = count_network(config)
    ran = {}
    model = CGD(config).eval()
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda m, i, o: ran.__setitem__(type(m).__name__, ran.get(type(m).__name__, 0) + 1)
            )
    model(torch.zeros(1, 3, 64, 64))
    counted = {"Conv2d", "Linear"}
    assert {k: n for k, n in ran.items() if k not in counted} == {
        k: n for k, n in counts.uncounted.items() if k in ran
    }
    assert sum(layer.counted for layer in counts.layers) == sum(ran[k] for k in counted)
    others = set(counts.uncounted) - set(ran)
    assert others == {
        "residual addition",
        "L2 normalization",
        "pooling SPoC (mean)",
        "pooling GeM (generalized mean)",
    }
    assert counts.uncounted["residual addition"] == 16


def test_counts_are_the_same_in_every_run():
    config = small("resnet34", letters="MRW")
    assert count_network(config) == count_network(config)
