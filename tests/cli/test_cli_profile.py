"""`cgd profile`: what a network costs, by the reference's figures and PyTorch's own counter."""

import json
import re

import pytest
import torch
from cli_toys import check_failure
from torch.utils.flop_counter import FlopCounterMode

from cgdcli import CGD, CGDConfig, ProfileConfig, Transform, profile_model
from cgdcli.config import Backbone, StrideMode

QUICK = ("--repeats", "1", "--json")
REFERENCE = ("--backbone", "resnet50", "--embedding-dim", "1536", "--classes", "98")


def costs(ran):
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return json.loads(ran.out)


@pytest.mark.parametrize(
    ("stride", "backbone"), [("layer3", 10.60), ("layer4", 6.21), ("standard", 4.09)]
)
def test_the_reference_network(cgd, stride, backbone):
    report = costs(cgd("profile", *REFERENCE, "--stride", stride, *QUICK))
    assert report["parameters"] == 26_858_658
    assert all(type(report[key]) is int for key in ("parameters", "macs", "flops"))
    assert report["flops"] == 2 * report["macs"]
    assert report["backbone_macs"] / 1e9 == pytest.approx(backbone, abs=0.01)
    assert report["macs"] == sum(stage["macs"] for stage in report["stages"])
    assert report["parameters"] == sum(stage["parameters"] for stage in report["stages"])
    assert report["embedding_parameters"] + report["classifier_parameters"] == report["parameters"]
    assert report["classifier_parameters"] == 2 * 2048 + 2048 * 98 + 98
    assert report["latency_seconds"] > 0 and report["peak_memory_bytes"] > 1e8


def test_a_checkpoint_and_a_run(cgd, in_toy):
    for given in (in_toy.model, in_toy.run):
        report = costs(cgd("profile", given, *QUICK))
        assert report["config"]["transform"]["image_size"] == 32
        assert report["config"]["classes"] == 4
        assert report["embedding_dim"] == 512


def test_the_table_names_macs_and_flops(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--repeats", "1", "--batch-size", "2")
    assert ran.code == 0
    for word in ("MACs", "FLOPs", "layer4", "branch S", "classifier", "median", "batch 2", "peak"):
        assert word in ran.out


def test_printed_flops_are_twice_the_printed_macs(cgd, in_toy):
    """9.437 M MACs beside 0.02 G FLOPs is the same figure twice, once rounded away."""
    out = cgd("profile", in_toy.model, "--repeats", "1").out
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
    for stage in ("stem", "layer1", "layer4", "branch S", "classifier", "all"):
        row = next(line for line in out.splitlines() if line.strip().startswith(stage))
        figures = re.findall(r"([0-9.]+) ([kMG]?)", row.replace(",", ""))[-2:]
        macs, flops = (float(number) * scale[unit] for number, unit in figures)
        assert flops == pytest.approx(2 * macs, rel=0.01), row


def test_pooled(cgd):
    report = costs(cgd("profile", "--embedding-dim", "0", "--image-size", "32", *QUICK))
    assert report["embedding_dim"] == 1024 and report["classifier_parameters"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("gone.safetensors",), 1, "gone.safetensors"),
        (("--descriptors", "SX"), 2, "'X'"),
        (("--descriptors", "SS"), 2, "'SS'"),
        (("--descriptors", ""), 2, "''"),
        (("--embedding-dim", "513"), 2, "513"),
        (("--image-size", "31"), 2, "31"),
        (("feats.npy",), 1, "feats.npy"),
        (("old.pth",), 1, "old.pth"),
    ],
    ids=str,
)
def test_what_cannot_be_profiled(cgd, in_toy, arguments, code, word):
    check_failure(cgd("profile", *arguments), code, word)


def test_a_checkpoint_beside_a_description(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--embedding-dim", "256")
    check_failure(ran, 2, "--embedding-dim", in_toy.model)


CONFIGS = [
    CGDConfig(transform=Transform(image_size=32)),
    CGDConfig(
        Backbone.resnet50, StrideMode.standard, "SMG", 384, 7, transform=Transform(image_size=64)
    ),
    CGDConfig(
        Backbone.resnext50_32x4d,
        StrideMode.layer4,
        "RCW",
        None,
        3,
        transform=Transform(image_size=48),
    ),
    CGDConfig(
        Backbone.wide_resnet50_2, StrideMode.layer3, "G", 64, 0, transform=Transform(image_size=40)
    ),
]


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.backbone}-{c.descriptors}-{c.stride}"
)
def test_macs_are_half_of_what_pytorch_counts(config):
    model = CGD(config).eval()
    size = config.transform.image_size
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 3, size, size))
    report = profile_model(model, ProfileConfig(repeats=1, warmup=0))
    assert report.macs * 2 == report.flops == counter.get_total_flops()
    assert report.parameters == sum(p.numel() for p in model.parameters())


def test_a_live_model_is_left_as_it_was():
    model = CGD(CGDConfig(classes=5, transform=Transform(image_size=32))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    profile_model(model, ProfileConfig(repeats=2))
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [name for name, _ in model.named_modules()] == modules
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_profiling_draws_nothing_from_the_callers_random_numbers():
    """Profiled in the middle of a seeded run, the run must go on as it would have."""
    model = CGD(CGDConfig(transform=Transform(image_size=32)))
    state = torch.get_rng_state()
    profile_model(model, ProfileConfig(repeats=1, warmup=0))
    assert torch.equal(torch.get_rng_state(), state)
