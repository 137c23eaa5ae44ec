"""`cgd inspect A B`: two networks, two indexes, or whether an index comes from a model."""

import json
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_toys import check_failure
from reference import state_dict

SG = "resnet18_SG_256_21"


@pytest.fixture
def compared(cgd):
    """`cgd inspect A B --json`, parsed."""

    def run(a, b, *more):
        ran = cgd("inspect", a, b, "--json", *more)
        assert ran.code == 0 and ran.err == "", ran.err
        return json.loads(ran.out)

    return run


@pytest.fixture
def copy(in_toy, tmp_path, monkeypatch):
    """The toy's index and pictures, to be spoilt; the current folder."""
    shutil.copytree("imgs", tmp_path / "imgs")
    in_toy.copy_index(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- two networks


def test_a_file_and_its_conversion_are_the_same_network(compared, in_toy):
    report = compared("old.pth", "old.safetensors")
    assert report["same_embeddings"] is True
    assert report["total"]["entries"] == report["total"]["bit_equal"] == 129
    assert report["total"]["max_difference"] == 0
    assert report["config"] == report["shapes"] == report["dtypes"] == {}
    assert report["only_in_a"] == report["only_in_b"] == []
    assert any("52 entries of A" in note for note in report["notes"])


def test_figures_are_those_of_a_naive_computation(compared, tmp_path):
    rng = torch.Generator().manual_seed(0)
    a = {name: value.clone() for name, value in state_dict(SG).items()}
    b = {name: value.clone() for name, value in a.items()}
    for name in ("features.4.0.conv1.weight", "features.4.1.bn2.running_mean"):
        b[name] += 0.01 * torch.randn(b[name].shape, generator=rng)
    torch.save(a, tmp_path / "a.pth")
    torch.save(b, tmp_path / "b.pth")
    report = compared(tmp_path / "a.pth", tmp_path / "b.pth", "--keys")
    groups = {group["name"]: group for group in report["groups"]}
    floats = [n for n in a if n.startswith("features.4.") and a[n].is_floating_point()]
    one, other = (torch.cat([x[n].double().ravel() for n in floats]).numpy() for x in (a, b))
    layer1 = groups["layer1"]
    assert (layer1["entries"], layer1["bit_equal"], layer1["values"]) == (24, 22, one.size)
    assert layer1["max_difference"] == pytest.approx(np.abs(one - other).max())
    assert layer1["mean_difference"] == pytest.approx(np.abs(one - other).mean())
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert layer1["cosine"] == pytest.approx(cosine) and cosine < 0.9999
    assert {n for n, g in groups.items() if g["bit_equal"] < g["entries"]} == {"layer1"}
    entries = {entry["name"]: entry for entry in report["entries"]}
    assert len(entries) == 129
    assert [n for n, e in entries.items() if not e["bit_equal"]] == [
        "backbone.layer1.0.conv1.weight",
        "backbone.layer1.1.bn2.running_mean",
    ]
    assert report["same_embeddings"] is False


def test_what_only_one_has_and_other_shapes(compared, in_toy, tmp_path):
    ours = state_dict(SG)
    torch.save(
        {n: v for n, v in ours.items() if not n.startswith("auxiliary")}, tmp_path / "no.pth"
    )
    report = compared(tmp_path / "no.pth", in_toy.model)
    assert report["only_in_a"] == []
    assert len(report["only_in_b"]) == 7
    assert all(name.startswith("classifier.") for name in report["only_in_b"])
    assert report["shapes"]["branches.0.weight"] == [[128, 512], [256, 512]]
    assert report["same_embeddings"] is False and None not in report["fingerprints"]
    assert report["config"]["embedding_dim"] == [256, 512]
    assert report["config"]["transform.image_size"] == [224, 32]
    assert "branches" not in [group["name"] for group in report["groups"]]


def test_half_and_full_precision(compared, tmp_path):
    full = state_dict(SG)
    half = {n: v.half() if v.is_floating_point() else v for n, v in full.items()}
    torch.save(full, tmp_path / "full.pth")
    torch.save(half, tmp_path / "half.pth")
    report = compared(tmp_path / "full.pth", tmp_path / "half.pth")
    assert report["dtypes"]["branches.0.weight"] == ["float32", "float16"]
    assert report["total"]["bit_equal"] == 21  # the counters
    assert 0 < report["total"]["max_difference"] < 1e-3
    assert report["total"]["cosine"] > 0.9999


def test_nan_is_counted_and_in_no_figure(compared, cgd, tmp_path):
    a = {name: value.clone() for name, value in state_dict(SG).items()}
    torch.save(a, tmp_path / "a.pth")
    a["features.0.weight"].view(-1)[:3] = float("nan")
    torch.save(a, tmp_path / "b.pth")
    report = compared(tmp_path / "a.pth", tmp_path / "b.pth")
    assert report["total"]["not_finite"] == 3 and report["total"]["max_difference"] == 0
    same = compared(tmp_path / "b.pth", tmp_path / "b.pth")
    assert same["total"]["bit_equal"] == 129 and same["same_embeddings"] is True
    assert "NaN/Inf" in cgd("inspect", tmp_path / "a.pth", tmp_path / "b.pth").out


def test_a_run_is_its_checkpoint(compared, in_toy):
    report = compared(in_toy.run, in_toy.model)
    assert report["same_embeddings"] is True and report["total"]["bit_equal"] == 129


def test_a_changed_checkpoint_is_compared_and_then_refused(cgd, in_toy, tmp_path):
    data = bytearray(in_toy.model.read_bytes())
    data[len(data) // 2] ^= 0x40
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(data)
    ran = cgd("inspect", in_toy.model, changed)
    assert "128/129" in ran.out
    check_failure(replace(ran, out=""), 4, changed, "changed")


def test_the_tables(cgd, in_toy):
    same = cgd("inspect", "old.pth", "old.safetensors").out
    assert "same embeddings: yes" in same and "129/129" in same
    other = cgd("inspect", "old.safetensors", in_toy.model).out
    assert "same embeddings: no" in other
    assert "config embedding_dim: 256 in A, 512 in B" in other
    assert "shape of branches.0.weight: 128x512 in A, 256x512 in B" in other
    keys = cgd("inspect", "old.pth", "old.safetensors", "--keys").out
    assert "backbone.layer2.0.downsample.1.num_batches_tracked" in keys


# ---- two indexes


def test_an_index_and_itself(compared, in_toy):
    report = compared("feats.npy", "feats.sqlite")
    assert (report["common"], report["bit_equal"], report["rows"]) == (9, 9, [9, 9])
    assert report["cosine_min"] == pytest.approx(1) and report["farthest"] == []
    assert report["only_in_a"] == report["only_in_b"] == report["changed"] == []
    assert report["header"] == {} and report["matched_by"] == "place"


def test_an_index_made_again_after_pictures_changed(compared, cgd, in_toy, copy):
    """One picture gone, one new, one another picture; the rest has the same rows."""
    (copy / "imgs/red/10.png").rename(copy / "imgs/red/99.png")
    shutil.copy(copy / "imgs/green/10.png", copy / "imgs/blue/11.png")
    assert cgd("embed", "imgs", "-o", "new.npy", "--model", in_toy.model).code == 0
    report = compared("feats.npy", "new.npy")
    assert report["matched_by"] == "path below the folder embedded"
    assert report["common"] == 8
    assert report["only_in_a"] == ["red/10.png"] and report["only_in_b"] == ["red/99.png"]
    assert report["changed"] == ["blue/11.png"]
    old, new = np.load("feats.npy"), np.load("new.npy")
    rows = report["farthest"][0]["rows"]
    assert report["farthest"][0]["picture"] == "blue/11.png" and report["farthest"][0]["changed"]
    assert report["cosine_min"] == pytest.approx(float(old[rows[0]] @ new[rows[1]]), abs=1e-6)
    assert report["cosine_mean"] == pytest.approx((7 + report["cosine_min"]) / 8, abs=1e-6)
    assert report["header"]["sources"] == [[str(in_toy.folder / "imgs")], [str(copy / "imgs")]]
    assert "fingerprint" not in report["header"]


def test_indexes_of_two_models(compared, cgd, copy, toy):
    other = toy.folder / "old.safetensors"
    assert cgd("embed", "imgs", "-o", "other.npy", "--model", other).code == 0
    report = compared("feats.npy", "other.npy")
    assert report["dims"] == [512, 256] and report["cosine_min"] is None
    assert report["header"]["config.embedding_dim"] == [512, 256]
    assert "fingerprint" in report["header"]
    assert any("two models" in note for note in report["notes"])
    assert any("dimensions differ" in note for note in report["notes"])
    text = cgd("inspect", "feats.npy", "other.npy").out
    assert "in both: 9" in text and "header config.embedding_dim: 512 in A, 256 in B" in text


def test_an_array_alone_is_compared_by_number(compared, in_toy, tmp_path):
    rows = np.load("feats.npy")
    np.save(tmp_path / "alone.npy", rows[:4])
    report = compared("feats.npy", tmp_path / "alone.npy")
    assert (report["matched_by"], report["common"], report["bit_equal"]) == ("row number", 4, 4)
    assert report["only_in_a"] == [f"row {i}" for i in range(4, 9)]


def test_rows_without_a_cosine_are_counted(cgd, in_toy, tmp_path):
    rows = np.load("feats.npy")
    rows[2], rows[5, 0] = 0, np.nan
    np.save(tmp_path / "odd.npy", rows)
    ran = cgd("inspect", "feats.npy", tmp_path / "odd.npy", "--json")
    report = json.loads(ran.out)
    assert any("2 common rows have no cosine" in note for note in report["notes"])
    assert report["bit_equal"] == 7 and report["cosine_min"] == pytest.approx(1)
    check_failure(replace(ran, out=""), 1, "odd.npy", "row 2")


# ---- a model and an index


@pytest.mark.parametrize("turned", [False, True])
def test_an_index_of_this_model(compared, in_toy, turned):
    files = ["feats.npy", in_toy.model]
    report = compared(*(files[::-1] if turned else files))
    assert report["belongs"] is True and report["config"] == {}
    assert report["fingerprints"][0] == report["fingerprints"][1]


def test_an_index_of_another_model(cgd, in_toy):
    for other in ("old.safetensors", "old.pth"):
        ran = cgd("inspect", "feats.npy", other)
        assert ran.out.startswith("no: ") and "embedding_dim: 256" in ran.out
        check_failure(replace(ran, out=""), 4, "feats.npy", other)
        ran = cgd("inspect", "feats.npy", other, "--json")
        assert ran.code == 4 and json.loads(ran.out)["belongs"] is False


def test_what_does_not_say_its_model(cgd, in_toy, copy):
    np.save("alone.npy", np.load("feats.npy"))
    check_failure(cgd("inspect", "alone.npy", in_toy.model), 4, "alone.npy")
    with sqlite3.connect("feats.sqlite") as database:
        (text,) = database.execute("SELECT value FROM header WHERE key = 'model'").fetchone()
        database.execute(
            "UPDATE header SET value = ? WHERE key = 'model'",
            (json.dumps(json.loads(text) | {"fingerprint": "", "path": None}),),
        )
    database.close()
    check_failure(cgd("inspect", "feats.npy", in_toy.model), 4, "feats.npy", "converted")


# ---- what cannot be compared


def test_files_that_cannot_be_compared(cgd, in_toy, tmp_path):
    check_failure(cgd("inspect", "feats.npy", "query.jpg"), 1, "query.jpg")
    check_failure(cgd("inspect", "old.pth", "gone.pth"), 1, "gone.pth")
    base = tmp_path / "a_data_base.pth"
    torch.save(
        {"test_images": ["a.jpg"], "test_labels": [0], "test_features": torch.eye(1, 4)}, base
    )
    check_failure(cgd("inspect", "feats.npy", base), 4, base, "data base")
    check_failure(cgd("inspect", base, "old.pth"), 4, base, "data base")


@pytest.mark.parametrize(
    "options",
    [
        ("--rows",),
        ("--skipped",),
        ("--verify",),
        ("--root", "imgs"),
        ("--fail-on-anomaly",),
        ("--csv", "--keys"),
    ],
    ids=" ".join,
)
def test_options_for_one_file_are_refused_with_two(cgd, in_toy, options):
    check_failure(cgd("inspect", "old.pth", "old.safetensors", *options), 2, options[0])


def test_keys_of_two_indexes_are_refused(cgd, in_toy):
    check_failure(cgd("inspect", "feats.npy", "feats.npy", "--keys"), 1, "--keys")
    check_failure(cgd("inspect", "feats.npy", in_toy.model, "--keys"), 1, "--keys")
