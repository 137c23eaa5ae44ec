"""Settings: round trip, and every bad value refused by name and rule."""

import copy
import json
import pickle
import re
from dataclasses import replace

import pytest

from cgdcli.config import (
    DESCRIPTOR_NAMES,
    CGDConfig,
    StrideMode,
    TrainConfig,
    Transform,
    check_descriptors,
    pooled_config,
)
from cgdcli.config.checks import AUTO
from cgdcli.errors import CGDError, ConfigError, MismatchError

CONFIGS = [
    CGDConfig(),
    CGDConfig("resnext101_64x4d", StrideMode.layer4, "WRC", 1536, 98, 2.5),
    CGDConfig(transform=Transform(112, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))),
    pooled_config("resnet50", 448),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.backbone}-{c.descriptors}")
def test_round_trip_through_json(config):
    again = CGDConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert isinstance(again.backbone, str) and isinstance(again.stride, StrideMode)
    assert isinstance(again.transform.mean, tuple)


def test_pooled_config_has_torchvisions_strides_and_no_projection():
    config = pooled_config("resnet34")
    assert (config.stride, config.descriptors, config.embedding_dim) == ("standard", "SG", None)


def refused(make, *words):
    """It raises `ConfigError`, the message names every word, and there is a hint."""
    with pytest.raises(ConfigError) as caught:
        make()
    for word in words:
        assert str(word) in caught.value.what, caught.value.what
    assert len(caught.value.hint) > 10
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, CGDError) and isinstance(caught.value, ValueError)
    return caught.value


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": "resnet19"}, ("backbone", "resnet19", "torchvision", "timm:NAME")),
        ({"backbone": "timm:"}, ("backbone", "timm:")),
        ({"backbone": 18}, ("backbone", "18")),
        ({"backbone": "vgg16"}, ("stride of layer3", "vgg16")),
        ({"stride": "layer2"}, ("stride", "layer2", "layer3", "layer4", "standard")),
        ({"descriptors": ""}, ("''", "S SPoC")),
        ({"descriptors": "SX"}, ("X", "SX", *DESCRIPTOR_NAMES)),
        ({"descriptors": "sg"}, ("'s'", "sg")),
        ({"descriptors": "S,G"}, ("','", "S,G")),
        ({"descriptors": "SGS"}, ("SGS", "once")),
        ({"embedding_dim": 511}, ("511", "2", "SG", "evenly")),
        ({"embedding_dim": 1}, ("1", "SG")),
        ({"embedding_dim": 0}, ("0", "SG")),
        ({"embedding_dim": -512}, ("-512", "SG")),
        ({"classes": -1}, ("classes -1", "0 or more")),
        ({"gem_p": 0.5}, ("gem_p 0.5", "1 or more", "100")),
        ({"gem_p": float("nan")}, ("gem_p nan", "1 or more", "100")),
        ({"gem_p": float("inf")}, ("gem_p inf", "100")),
    ],
    ids=str,
)
def test_bad_network_is_refused(values, words):
    refused(lambda: CGDConfig(**values), *words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_size": 31}, ("31", "32", "4096")),
        ({"image_size": 4097}, ("4097", "32", "4096")),
        ({"mean": (0.5, 0.5)}, ("(0.5, 0.5)", "three")),
        ({"std": (1.0, 1.0, 0.0)}, ("0.0", "above 0")),
        ({"std": (1.0,)}, ("(1.0,)", "three")),
        ({"std": (1.0, 1.0, float("nan"))}, ("nan",)),
        ({"mean": (0.0, float("inf"), 0.0)}, ("inf",)),
    ],
    ids=str,
)
def test_bad_transform_is_refused(values, words):
    refused(lambda: Transform(**values), *words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, ("--epochs", "0", "1 to 100000")),
        ({"batch_size": 1}, ("--batch-size", "1", "2 to 100000")),
        ({"per_class": 1}, ("--per-class", "1", "2 to 1000")),
        ({"workers": -1}, ("--workers", "-1", "0 to 256")),
        ({"val_fraction": 1.0}, ("--val-fraction", "1.0", "0 to 0.9")),
        ({"val_fraction": -0.1}, ("--val-fraction", "-0.1")),
        ({"learning_rate": 0.0}, ("--learning-rate", "0.0", "1e-12 to 1000")),
        ({"learning_rate": float("nan")}, ("--learning-rate", "nan")),
        ({"per_class": 8, "batch_size": 4}, ("--per-class 8", "--batch-size 4")),
        ({"descriptors": "SGM"}, ("512", "3", "SGM")),
        ({"descriptors": "Q"}, ("'Q'",)),
        ({"image_size": 16}, ("16", "32")),
        ({"backbone": "alexnett"}, ("alexnett",)),
        ({"margin": float("nan")}, ("nan",)),
        ({"temperature": 0.0}, ("temperature", "0")),
        ({"smoothing": 1.5}, ("smoothing", "1.5")),
        ({"seed": -1}, ("seed", "-1")),
        ({"epochs": 2.5}, ("epochs = 2.5", "float", "int is wanted")),
        ({"epochs": "3"}, ("epochs = '3'", "str", "int is wanted")),
        ({"epochs": True}, ("epochs = True", "bool")),
        ({"margin": "0.1"}, ("margin = '0.1'", "float is wanted")),
        ({"margin": 10**400}, ("--margin", "0 to 100")),
        ({"crop_box": 1}, ("crop_box = 1", "bool is wanted")),
        ({"descriptors": None}, ("descriptors = None", "str is wanted")),
        ({"backbone_weights": None}, ("backbone_weights", "str is wanted")),
        ({"stride": 3}, ("stride", "3", "layer3")),
        ({"batch_size": 0}, ("--batch-size 0", "2 to 100000")),
        ({"batch_size": "16"}, ("batch_size = '16'", "int is wanted")),
    ],
    ids=str,
)
def test_bad_run_is_refused(values, words):
    refused(lambda: TrainConfig(**values), *words)


def test_auto_stays_auto_wherever_a_run_goes():
    """It stands as a 0 of its own kind, since a plain one is out of range."""
    run = TrainConfig(batch_size="auto", val_fraction=0)
    for again in (replace(run, seed=1), pickle.loads(pickle.dumps(run)), copy.deepcopy(run)):
        assert again.batch_size == AUTO and again.to_dict()["batch_size"] == "auto"
        assert replace(again, seed=0) == run
    assert isinstance(run.val_fraction, float)


@pytest.mark.parametrize(("letters", "dim"), [("SMG", 512), ("SG", 511), ("SMGR", 3)])
def test_hint_names_a_dimension_that_works(letters, dim):
    error = refused(lambda: CGDConfig(descriptors=letters, embedding_dim=dim))
    proposed = int(re.search(r"--embedding-dim (\d+)", error.hint)[1])
    assert CGDConfig(descriptors=letters, embedding_dim=proposed).embedding_dim == proposed


def test_hint_names_the_letters_without_repeats():
    assert "--descriptors GSM" in refused(lambda: check_descriptors("GSGMS")).hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet19", "resnet"),
        ("timm/seresnet50", "write timm:seresnet50"),
        ("vit_b16", "vit_b_16"),
        ("vit", "vit_b_16"),
        ("efficientnet_bo", "did you mean efficientnet_b0 or"),
        ("seresnet50d", "timm:seresnet50d"),
        ("dinov2", "timm:dinov2"),
    ],
)
def test_an_unknown_backbone_is_answered_with_the_nearest(name, hint):
    assert hint in refused(lambda: CGDConfig(backbone=name), name).hint


@pytest.mark.parametrize("name", ["efficientnet-b0", "EfficientNet_B0"])
def test_another_spelling_of_a_backbone_is_answered_with_it_alone(name):
    assert refused(lambda: CGDConfig(backbone=name), name).hint == "did you mean efficientnet_b0?"


def test_what_is_near_no_backbone_is_answered_with_all_there_are():
    hint = refused(lambda: CGDConfig(backbone="dinov2")).hint
    assert "ResNet (resnet18 ...)" in hint and "Swin (swin_t ...)" in hint


def test_stride_modes_are_of_resnets():
    error = refused(lambda: CGDConfig("convnext_tiny", "layer4"), "layer4", "convnext_tiny")
    assert "--stride standard" in error.hint
    assert CGDConfig("convnext_tiny", StrideMode.standard).stride is StrideMode.standard
    assert CGDConfig("timm:seresnet50", StrideMode.layer3)  # timm is asked when it is built


def changed(**values):
    return CGDConfig().to_dict() | values


@pytest.mark.parametrize("name", list(CGDConfig().to_dict()))
def test_missing_entry_is_refused_by_name(name):
    values = CGDConfig().to_dict()
    del values[name]
    refused(lambda: CGDConfig.from_dict(values), "missing", name, "CGDConfig")


def test_unknown_entry_is_refused_by_name():
    refused(lambda: CGDConfig.from_dict(changed(colour="red")), "unknown", "colour")


def test_unknown_or_missing_entry_of_the_transform_is_refused_by_name():
    transform = dict(CGDConfig().to_dict()["transform"])
    crop = changed(transform=transform | {"crop": 7})
    refused(lambda: CGDConfig.from_dict(crop), "unknown", "crop", "Transform")
    del transform["std"]
    refused(lambda: CGDConfig.from_dict(changed(transform=transform)), "missing", "std")


def test_bad_values_in_a_saved_config_are_refused():
    refused(lambda: CGDConfig.from_dict(changed(backbone="vgg")), "vgg")
    refused(lambda: CGDConfig.from_dict(changed(stride="layer9")), "layer9")
    refused(lambda: CGDConfig.from_dict(changed(descriptors="SS")), "SS")
    transform = CGDConfig().to_dict()["transform"] | {"image_size": 8}
    refused(lambda: CGDConfig.from_dict(changed(transform=transform)), "8", "32")


def test_from_dict_leaves_its_argument_alone():
    values = CGDConfig().to_dict()
    CGDConfig.from_dict(values)
    assert values == CGDConfig().to_dict()


def test_a_run_makes_the_network_that_it_says():
    run = TrainConfig(
        backbone="resnet34",
        stride=StrideMode.layer4,
        descriptors="MG",
        embedding_dim=128,
        image_size=96,
    )
    assert run.model_config(7) == CGDConfig(
        "resnet34", StrideMode.layer4, "MG", 128, 7, transform=Transform(96)
    )


# ---- vectors


def test_vectors_are_said_as_options_and_come_back_from_a_header():
    from cgdcli.config import VectorConfig

    plain = VectorConfig()
    assert str(plain) == "" and plain.views == 1 and not plain.projects
    assert VectorConfig.from_dict({}) == plain
    all_of_it = VectorConfig(True, (1.4, 0.7, 1), True, 128, "float16")
    assert str(all_of_it) == "--flip --scales 0.7,1,1.4 --whiten --dim 128 --dtype float16"
    assert all_of_it.views == 6 and all_of_it.projects
    assert all_of_it.sizes(224) == (157, 224, 314)
    assert VectorConfig.from_dict(json.loads(json.dumps(all_of_it.to_dict()))) == all_of_it
    with pytest.raises(MismatchError, match="rotate"):
        VectorConfig.from_dict({"rotate": True})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scales": ()}, "names no scale"),
        ({"scales": (0.0,)}, "out of range"),
        ({"scales": (1, float("nan"))}, "out of range"),
        ({"dim": 0}, "out of range"),
        ({"dtype": "int8"}, "unknown dtype"),
    ],
)
def test_vectors_that_cannot_be(values, words):
    from cgdcli.config import VectorConfig

    with pytest.raises(ConfigError, match=words):
        VectorConfig(**values)


def test_what_a_network_of_that_size_cannot_do():
    from cgdcli.config import VectorConfig
    from cgdcli.config.vectors import scales_of

    with pytest.raises(ConfigError, match="32, 32 pixels"):
        VectorConfig(scales=(1, 1.01)).sizes(32)
    with pytest.raises(ConfigError, match=r"22, 32 pixels .* 32 to 4096"):
        VectorConfig(scales=(0.7, 1)).sizes(32)
    assert VectorConfig(whiten=True, dim=64).stored_dim(64) == 64
    for refused in (VectorConfig(dim=64), VectorConfig(whiten=True, dim=65)):
        with pytest.raises(ConfigError, match="have 64 columns"):
            refused.stored_dim(64)
    assert scales_of("0.7,1") == (0.7, 1.0)
    with pytest.raises(ConfigError, match="not a list of numbers"):
        scales_of("0.7;1")
