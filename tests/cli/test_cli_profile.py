"""`cgd profile`: what a network costs, by the reference's figures and PyTorch's own counter."""

import json
import re

import pytest
import torch
from cli_toys import check_failure, draw_classes

from cgdcli import CGD, CGDConfig, ProfileConfig, Transform, profile_model
from cgdcli.reports import MachinePeaks

QUICK = ("--repeats", "1", "--json")
PEAKS = MachinePeaks("cpu", 2, 100.0, 10.0, "by definition")  # to measure them takes seconds
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
    counts = report["counts"]
    assert counts["parameters"] == 26_858_658
    assert all(type(counts[key]) is int for key in ("parameters", "macs", "flops"))
    assert counts["flops"] == 2 * counts["macs"]
    assert counts["backbone_macs"] / 1e9 == pytest.approx(backbone, abs=0.01)
    assert counts["macs"] == sum(stage["macs"] for stage in counts["stages"])
    assert counts["parameters"] == sum(stage["parameters"] for stage in counts["stages"])
    assert counts["embedding_parameters"] + counts["classifier_parameters"] == 26_858_658
    assert counts["classifier_parameters"] == 2 * 2048 + 2048 * 98 + 98
    latency = report["latency"][0]
    assert latency["median_seconds"] > 0 and latency["peak_memory_bytes"] > 1e8


def test_a_checkpoint_and_a_run(cgd, in_toy):
    for given in (in_toy.model, in_toy.run):
        report = costs(cgd("profile", given, *QUICK))
        assert report["config"]["transform"]["image_size"] == 32
        assert report["config"]["classes"] == 4
        assert report["embedding_dim"] == 512


def test_why_thop_prints_more_is_said(cgd):
    """Whoever read 10.64 G in the reference's README finds it again, with the reason."""
    out = cgd("profile", *REFERENCE, "--repeats", "1").out
    line = next(line for line in out.splitlines() if "thop" in line)
    assert "10.64 G (2020)" in line and "10.68 G (newest)" in line and "BatchNorm" in line
    assert "10.60 G" in out


def test_what_is_not_counted_is_listed(cgd, in_toy):
    out = cgd("profile", in_toy.model, "--repeats", "1").out
    line = next(line for line in out.splitlines() if line.startswith("not counted: "))
    for operation in ("BatchNorm2d x20", "ReLU x17", "MaxPool2d x1", "residual addition x8",
                      "pooling SPoC (mean) x1", "L2 normalization x3"):  # fmt: skip
        assert operation in line


@pytest.mark.parametrize(("depth", "rows"), [("1", 8), ("2", 18), ("3", 60)])
def test_depth(cgd, in_toy, depth, rows):
    out = cgd("profile", in_toy.model, "--repeats", "1", "--depth", depth).out
    table = out[: out.index("parameters: ")].splitlines()
    shown = [line for line in table[3:] if line.strip()]
    assert len(shown) >= rows and shown[-1].split()[0] == "all"
    names = {line.split()[0] for line in shown}
    assert ("layer1.0" in names) is (depth == "2")
    assert ("layer1.0.conv1" in names) is (depth == "3")


def test_batch_sizes_side_by_side(cgd, in_toy):
    report = costs(cgd("profile", in_toy.model, *QUICK, "--batch-size", "1,4"))
    assert [x["batch_size"] for x in report["latency"]] == [1, 4]


def test_compare(cgd, monkeypatch):
    monkeypatch.setattr("cgdcli.profiling.machine.machine_peaks", lambda config: PEAKS)
    arguments = ("profile", "--image-size", "32", "--compare", "layer3,standard,layer4:SMG")
    report = json.loads(cgd(*arguments, *QUICK).out)
    profiles = report["profiles"]
    assert list(profiles) == ["layer3", "standard", "layer4:SMG"]
    assert profiles["layer4:SMG"]["embedding_dim"] == 513
    assert profiles["layer3"]["counts"]["macs"] > profiles["layer4:SMG"]["counts"]["macs"]
    two = (*arguments[:-1], "layer3,layer4:SMG")
    out = cgd(*two, "--repeats", "1", "--roofline").out
    for word in ("layer4:SMG", "MACs", "p95", "branch M", "overhead"):
        assert word in out


def test_compare_variants_of_a_checkpoint(cgd, in_toy):
    report = json.loads(cgd("profile", in_toy.model, "--compare", "layer3,layer4", *QUICK).out)
    assert {p["config"]["transform"]["image_size"] for p in report["profiles"].values()} == {32}


def test_roofline(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--repeats", "2", "--roofline")
    for word in ("GFLOP/s", "GB/s", "FLOPs/byte", "limited by", "this machine's peaks"):
        assert word in ran.out


def test_images_in_words(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--repeats", "1", "--images", "imgs")
    assert "pictures/s: your 9 pictures take " in ran.out and "18.4 kB" in ran.out
    assert "decoding" in ran.out and "the transform" in ran.out and "the network" in ran.out


def test_a_page_is_written_once(cgd, in_toy, tmp_path):
    page = tmp_path / "cost.html"
    ran = cgd("profile", in_toy.model, "--repeats", "1", "--html", page)
    assert ran.code == 0 and f"page: {page}" in ran.err
    before = page.read_bytes()
    refused = cgd("profile", in_toy.model, "--repeats", "1", "--html", page)
    check_failure(refused, 1, page)
    assert page.read_bytes() == before
    assert cgd("profile", in_toy.model, "--repeats", "1", "--html", page, "--force").code == 0


def test_counts_of_two_runs_are_equal(cgd, in_toy):
    first, second = (costs(cgd("profile", in_toy.model, *QUICK)) for _ in range(2))
    assert first["counts"] == second["counts"]


def test_the_table_names_macs_and_flops(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--repeats", "1", "--batch-size", "2")
    assert ran.code == 0
    for word in ("MACs", "FLOPs", "layer4", "branch S", "classifier", "median", "p95", "peak"):
        assert word in ran.out
    assert re.search(r"^ +2 +[0-9.]+ ms", ran.out, re.MULTILINE)


def test_printed_flops_are_twice_the_printed_macs(cgd, in_toy):
    """9.437 M MACs beside 0.02 G FLOPs is the same figure twice, once rounded away."""
    out = cgd("profile", in_toy.model, "--repeats", "1").out
    scale = {"M": 1e6, "G": 1e9}
    for stage in ("stem", "layer1", "layer4", "branch S", "classifier", "all"):
        row = next(line for line in out.splitlines() if line.strip().startswith(stage))
        figures = re.findall(r"([0-9.]+) ([MG])", row.replace(",", ""))
        macs, flops = (float(number) * scale[unit] for number, unit in figures)
        assert flops == pytest.approx(2 * macs, rel=0.01), row


def test_pooled(cgd):
    report = costs(cgd("profile", "--embedding-dim", "0", "--image-size", "32", *QUICK))
    assert report["embedding_dim"] == 1024 and report["counts"]["classifier_parameters"] == 0


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
        (("--batch-size", "1,x"), 2, "1,x"),
        (("--batch-size", "0"), 2, "0"),
        (("--batch-size", ""), 2, "''"),
        (("--compare", "layer5"), 2, "layer5"),
        (("--compare", "layer3,SX"), 2, "'X'"),
        (("--compare", "SG:layer3"), 2, "SG:layer3"),
        (("--images", "nowhere"), 1, "nowhere"),
        (("--pictures", "5"), 2, "--pictures"),
        (("--force",), 2, "--force"),
        (("--compare", "layer3", "--depth", "2"), 2, "--depth"),
        (("--compare", "layer3", "--images", "imgs"), 2, "--images"),
        (("--html", "nowhere/p.html"), 1, "nowhere"),
    ],
    ids=str,
)
def test_what_cannot_be_profiled(cgd, in_toy, arguments, code, word):
    check_failure(cgd("profile", *arguments), code, word)


def test_a_checkpoint_beside_a_description(cgd, in_toy):
    ran = cgd("profile", in_toy.model, "--embedding-dim", "256")
    check_failure(ran, 2, "--embedding-dim", in_toy.model)


def test_a_live_model_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("cgdcli.profiling.machine.machine_peaks", lambda config: PEAKS)
    model = CGD(CGDConfig(classes=5, transform=Transform(image_size=32))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    draw_classes(tmp_path, "red", 2)
    profile_model(model, ProfileConfig(repeats=2, roofline=True, images=str(tmp_path)))
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
