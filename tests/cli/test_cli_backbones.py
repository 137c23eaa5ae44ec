"""Backbones that are no ResNets through every command, in this process."""

import json

import pytest
from cli_toys import TINY, check_failure, draw, draw_classes

from cgdcli.weights.checkpoint import load_checkpoint

FEW = (*TINY, "--epochs", "1", "--batch-size", "8", "--per-class", "2", "--embedding-dim", "16")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red green blue", 4)
    draw(tmp_path / "query.png", "red", 50)
    return tmp_path


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "timm:test_vit"])
def test_from_training_to_search(cgd, data, name):
    ran = cgd("train", "data", "--backbone", name, *FEW)
    assert ran.code == 0, ran.err
    (run,) = (data / "runs").iterdir()
    assert ":" not in run.name and name.replace(":", "-") in run.name
    assert load_checkpoint(run / "last.safetensors")[0].config.backbone == name
    assert cgd("embed", "data", "-o", "feats.npy").code == 0
    ran = cgd("search", "query.png", "--index", "feats.npy", "--json")
    assert ran.code == 0 and json.loads(ran.out)
    assert "stage1" in cgd("profile", run, "--repeats", "1").out
    ran = cgd("inspect", run)
    assert ran.code == 0 and name in ran.out and " backbone " in ran.out
    assert cgd("evaluate", "--index", "feats.npy").code == 0


def test_profile_takes_the_stride_that_a_backbone_has(cgd):
    ran = cgd("profile", "--backbone", "shufflenet_v2_x0_5", "--image-size", "64", "--repeats", "1")
    assert ran.code == 0 and "stride standard" in ran.out and "thop" not in ran.out
    assert "stride layer3" in cgd("profile", "--image-size", "64", "--repeats", "1").out


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        (("--backbone", "efficientnet-b0"), "unknown backbone", "efficientnet_b0"),
        (("--backbone", "vit_b_32", "--image-size", "100"), "no multiple of 32", "96"),
        (("--backbone", "timm:resnet5O"), "no network 'resnet5O'", "timm:resnet50"),
        (
            ("--backbone", "vgg11", "--stride", "layer4"),
            "vgg11, which has no such stage",
            "standard",
        ),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_and_leaves_nothing(cgd, data, options, words, hint):
    ran = cgd("train", "data", "--backbone-weights", "none", *options)
    check_failure(ran, 2)
    assert words in ran.err and hint in ran.err.splitlines()[-1]
    assert not (data / "runs").exists()


def test_the_help_names_the_families(cgd):
    for command in ("train", "profile"):
        shown = " ".join(cgd(command, "--help").out.split())
        assert "efficientnet_b0 ..." in shown and "timm:NAME" in shown
