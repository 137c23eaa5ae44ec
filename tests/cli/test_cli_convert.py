"""`cgd convert-weights`: plans, trials and the way back, as typed."""

import json
import shutil

import numpy as np
import pytest
import torch
from cli_toys import check_failure
from reference import GOLDEN, config_state_dict, outputs, polluted, state_dict

SG = "resnet18_SG_256_21"
OLD = "0.0.31.post2005241907"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.chdir("/")
    shutil.rmtree(tmp_path)


@pytest.fixture
def old(folder):
    torch.save(polluted(SG, OLD), "old.pth")
    return folder / "old.pth"


def test_plan_answers_the_question_of_181_and_128(cgd, old):
    ran = cgd("convert-weights", "old.pth", "--plan")
    assert ran.code == 0
    for words in (
        "old.pth: 181 entries",
        "renamed: branches.1.weight",
        "dropped     52",
        "why 181: 129 are the network's",
        "counters that the profiler thop left",
        "128 with 1 descriptor",
    ):
        assert words in ran.out, words
    assert ran.out.count("counter of the profiler thop, not a weight") == 53  # each, and the sum
    assert "stride layer3" in ran.err
    assert [file.name for file in old.parent.iterdir()] == ["old.pth"]


def test_plan_as_json_has_every_entry_once(cgd, old):
    plan = json.loads(cgd("convert-weights", "old.pth", "--plan", "--json").out)
    assert [e["source"] for e in plan["entries"]] == list(polluted(SG, OLD))
    assert plan["counts"] == {
        "kept": 0,
        "renamed": 129,
        "dropped": 52,
        "unknown": 0,
        "clash": 0,
        "missing": 0,
        "filled": 0,
    }


def test_plan_of_what_cannot_be_converted_shows_it_and_fails(cgd, folder):
    content = state_dict(SG) | {"extra.weight": torch.zeros(2)}
    del content["features.1.bias"]
    torch.save(content, "bad.pth")
    ran = cgd("convert-weights", "bad.pth", "--plan")
    assert ran.code == 1 and "hint:" in ran.err and "Traceback" not in ran.err
    assert "extra.weight" in ran.out and "missing: backbone.bn1.bias" in ran.out
    assert [file.name for file in folder.iterdir()] == ["bad.pth"]


def test_strict_inference(cgd, folder):
    content = {n: t for n, t in state_dict(SG).items() if not n.startswith("auxiliary")}
    torch.save(content, "old.pth")
    ran = cgd("convert-weights", "old.pth")
    check_failure(ran, 1, "classifier")
    assert "--strict inference" in ran.err
    assert cgd("convert-weights", "old.pth", "--strict", "inference").code == 0
    assert (folder / "old.safetensors").is_file()


def test_there_and_back(cgd, old):
    assert cgd("convert-weights", "old.pth", "-q").code == 0
    ran = cgd("convert-weights", "old.safetensors", "--to", "reference", "-o", "back.pth")
    assert ran.code == 0 and "129 entries under the names of reference" in ran.out
    assert list(torch.load("back.pth", weights_only=True)) == list(state_dict(SG))
    ran = cgd("convert-weights", "old.safetensors", "--to", "torchvision", "-o", "tv.pth", "--json")
    report = json.loads(ran.out)
    assert len(report["renamed"]) == 120 and len(report["left_out"]) == 9


def test_against_the_references_own_embeddings(cgd, folder):
    config = next(
        c for c in outputs()["configs"] if (c["backbone"], c["gd_config"]) == ("resnet18", "SG")
    )
    torch.save(config_state_dict(config), "old.pth")
    np.save("old.npy", np.array(config["embedding"], dtype=np.float32))
    ran = cgd(
        *("convert-weights", "old.pth", "--try", GOLDEN / "pictures", "--against", "old.npy"),
        *("--image-size", "224", "--gem-p", "3", "--mean", "0.485,0.456,0.406"),
        *("--std", "0.229,0.224,0.225"),
    )
    assert ran.code == 0, ran.err
    assert "proved" in ran.out and "--stride layer3 --descriptors SG" in ran.out
    np.save("old.npy", np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32))
    ran = cgd(
        *("convert-weights", "old.pth", "--try", GOLDEN / "pictures", "--against", "old.npy"),
        *("--image-size", "224", "--gem-p", "3", "--mean", "0.485,0.456,0.406"),
        *("--std", "0.229,0.224,0.225", "--descriptors", "SG"),
    )
    assert ran.code == 4 and ran.err.startswith("error: no reading") and "hint: " in ran.err
    assert "max diff." in ran.out


def test_try_on_labelled_folders(cgd, old, toy):
    ran = cgd("convert-weights", "old.pth", "--try", toy.folder / "data", "--image-size", "32")
    assert ran.code == 0, ran.err
    assert "Recall@1" in ran.out and "95 % interval" in ran.out
    assert ("not decided" in ran.out) != ("decided: the first fits" in ran.out)


def test_a_data_base_becomes_an_index(cgd, folder):
    rows = torch.nn.functional.normalize(torch.randn(5, 8))
    content = {
        "test_images": [f"/old/{i}.jpg" for i in range(5)],
        "test_labels": [0, 0, 1, 1, 2],
        "test_features": rows,
    }
    torch.save(content, "x_data_base.pth")
    ran = cgd("convert-weights", "x_data_base.pth", "-o", "feats.npy")
    assert ran.code == 0 and "5 rows of 8" in ran.out and "no model recorded" in ran.out
    assert np.array_equal(np.load("feats.npy"), rows.numpy())
    assert cgd("search", "row:3", "--index", "feats.npy").code == 0
    assert cgd("evaluate", "--index", "feats.npy").code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--mean", "1,2"), "'1,2'"),
        (("--std", "a,b,c"), "'a,b,c'"),
        (("--std", "0,0,0"), "(0.0, 0.0, 0.0)"),
        (("--gem-p", "0.5"), "0.5"),
        (("--image-size", "7"), "7"),
        (("--pictures", "9"), "--pictures"),
        (("--device", "cpu"), "--device"),
        (("--model", "m"), "--model"),
        (("--part", "test"), "--part"),
        (("--plan", "-o", "x"), "--output"),
        (("--plan", "--force"), "--force"),
        (("--try", ".", "--plan"), "--plan"),
        (("--try", ".", "-o", "x"), "--output"),
        (("--to", "reference", "--descriptors", "SG"), "--descriptors"),
        (("--to", "keras"), "'keras'"),
        (("--strict", "no"), "'no'"),
    ],
    ids=str,
)
def test_usage_is_checked(cgd, old, arguments, word):
    check_failure(cgd("convert-weights", "old.pth", *arguments), 2, word)
    assert [file.name for file in old.parent.iterdir()] == ["old.pth"]


@pytest.fixture
def data_base_file(folder):
    content = {
        "test_images": [f"p{i}.jpg" for i in range(4)],
        "test_labels": [0, 0, 1, 1],
        "test_features": torch.nn.functional.normalize(torch.rand(4, 8)),
    }
    torch.save(content, "x_data_base.pth")
    return "x_data_base.pth"


@pytest.mark.parametrize(
    "options",
    [
        ("--plan",),
        ("--try", "."),
        ("--descriptors", "SM"),
        ("--stride", "layer4"),
        ("--take", "model"),
        ("--strict", "inference"),
        ("--mean", "1,1,1"),
        ("--embedder", "e.pth"),
    ],
    ids=lambda options: options[0],
)
def test_a_data_base_takes_no_word_on_weights(cgd, data_base_file, options):
    ran = cgd("convert-weights", data_base_file, *options)
    check_failure(ran, 2, options[0], data_base_file, "data base of embeddings")


@pytest.mark.parametrize("options", [("--model", "m"), ("--part", "test"), ("--embedder", "e.pth")])
def test_the_way_back_takes_no_word_on_others(cgd, old, options):
    ran = cgd("convert-weights", "old.pth", "--to", "reference", "-o", "b.pth", *options)
    check_failure(ran, 2, options[0])


def test_the_way_back_without_a_classifier(cgd, folder):
    content = {n: t for n, t in state_dict(SG).items() if not n.startswith("auxiliary_module.")}
    torch.save(content, "noclf.pth")
    back = ("convert-weights", "noclf.pth", "--to", "reference", "-o", "back.pth")
    check_failure(cgd(*back), 1, "classifier")
    ran = cgd(*back, "--strict", "inference")
    assert ran.code == 0, ran.err
    assert "assumed stride layer3" in ran.out
    again = torch.load("back.pth", weights_only=True)
    assert list(again) == list(content)
    assert all(torch.equal(again[n], t) for n, t in content.items())


def test_a_classifier_is_nothing_to_a_comparison(cgd, old):
    """Its embeddings are the same: the fingerprint is without it."""
    content = {n: t for n, t in state_dict(SG).items() if not n.startswith("auxiliary_module.")}
    torch.save(content, "noclf.pth")
    assert cgd("convert-weights", "old.pth").code == 0
    compared = json.loads(cgd("inspect", "noclf.pth", "old.safetensors", "--json").out)
    assert compared["same_embeddings"] is True


def test_nan_is_warned_of(cgd, folder):
    content = state_dict(SG)
    content["features.0.weight"] = content["features.0.weight"] * float("nan")
    torch.save(content, "nan.pth")
    ran = cgd("convert-weights", "nan.pth")
    assert ran.code == 0 and "backbone.conv1.weight hold NaN" in ran.err


def test_a_numpy_archive_is_named(cgd, folder):
    np.savez("w.npz", a=np.zeros(3))
    np.savez_compressed("c.npz", a=np.zeros(3))
    for name in ("w.npz", "c.npz"):
        check_failure(cgd("convert-weights", name), 1, name, "NumPy archive")
