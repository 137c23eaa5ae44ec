"""Old files become ours: every thop generation, every wrapping; and what is refused, and how."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import (
    PICTURES,
    checkpoints,
    config_state_dict,
    outputs,
    polluted,
    state_dict,
)
from safetensors.torch import save_file

from cgdcli.config import CGDConfig, ConvertConfig, StrideMode, Transform, pooled_config
from cgdcli.conversion import convert_weights
from cgdcli.errors import CheckpointError, ConfigError, MismatchError, OutputError
from cgdcli.images.decoding import read_image
from cgdcli.images.transforms import eval_pixels
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint
from cgdcli.weights.header import read_header
from cgdcli.weights.loading import load_model

MODELS = checkpoints()["models"]
OLD, NEWEST = "0.0.31.post2005241907", "0.1.1.post2209072238"
SG = "resnet18_SG_256_21"


def saved_keys(model, version):
    """The entries of a checkpoint saved after that thop had run."""
    if version == "clean":
        return state_dict(model)
    if "after_profile" in MODELS[model]:
        return polluted(model, version)
    # Of the S model only the counts are known; its names are the SG model's less its branch 1.
    own = state_dict(model)
    return {
        name: own.get(name, counter)
        for name, counter in polluted(SG, version).items()
        if not name.startswith(("main_modules.1.", "global_descriptors.1."))
    }


@pytest.fixture
def folder(tmp_path):
    """45 MB a file: not kept after the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Fingerprint of each golden model converted from its clean state_dict, and of its file."""
    place = tmp_path_factory.mktemp("clean")
    known = {}

    def fingerprint(model):
        if model not in known:
            torch.save(state_dict(model), place / "old.pth")
            letters = model.split("_")[1]
            report = convert_weights(place / "old.pth", config=ConvertConfig(letters), force=True)
            known[model] = report.fingerprint
        return known[model]

    yield fingerprint
    shutil.rmtree(place)


def save(folder, content, name="old.pth"):
    torch.save(content, folder / name)
    return folder / name


def embeddings(path):
    pixels = np.stack([eval_pixels(read_image(picture)[0], 224) for picture in PICTURES])
    return load_model(path).embed(torch.from_numpy(pixels)).numpy()


def golden(backbone, letters, dim):
    for config in outputs()["configs"]:
        if (config["backbone"], config["gd_config"], config["feature_dim"]) == (
            backbone,
            letters,
            dim,
        ):
            return np.array(config.get("embedding", config.get("embedding_first32")))
    raise LookupError(backbone)


@pytest.mark.parametrize("version", ["clean", OLD, NEWEST])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_after_every_thop_becomes_the_clean_one(model, version, folder, clean):
    entries = saved_keys(model, version)
    count = {"clean": "keys_clean", OLD: "keys_after_old", NEWEST: "keys_after_newest"}[version]
    assert len(entries) == MODELS[model][count]
    report = convert_weights(save(folder, entries))
    assert report.source_entries == len(entries)
    assert report.written_entries == MODELS[model]["keys_clean"]
    assert len(report.dropped) == len(entries) - report.written_entries
    assert len(report.kept) + len(report.renamed) + len(report.dropped) == len(entries)
    assert report.fingerprint == clean(model)
    assert len(read_header(report.target).tensors) == MODELS[model]["keys_clean"]
    backbone, letters, dim, _ = model.split("_")
    if backbone == "resnet18":
        known = golden(backbone, letters, int(dim))
        assert np.abs(embeddings(report.target)[:, : known.shape[1]] - known).max() < 1e-5


def test_all_thop_generations_are_covered():
    seen = {v for facts in MODELS.values() for v in facts.get("after_profile", {})}
    assert seen == {OLD, NEWEST}


@pytest.mark.parametrize(("version", "before"), [(OLD, 181), (NEWEST, 159)])
def test_counts_of_the_issue(version, before, folder):
    report = convert_weights(save(folder, polluted(SG, version)))
    assert (report.source_entries, report.written_entries) == (before, 129)


def prefixed(entries, prefix):
    return {prefix + name: value for name, value in entries.items()}


def profiled_outside(entries):
    return prefixed(state_dict(SG), "module.") | {
        name: torch.zeros(1, dtype=torch.float64) for name in ("total_ops", "total_params")
    }


WRAPPINGS = {
    "module.": lambda e: prefixed(e, "module."),
    "module. but the profiler's": profiled_outside,
    "_orig_mod.module.": lambda e: prefixed(e, "_orig_mod.module."),
    "state_dict": lambda e: {"state_dict": e},
    "state_dict with module.": lambda e: {"state_dict": prefixed(e, "module."), "epoch": 9},
    "model.state_dict": lambda e: {"epoch": 3, "model": {"state_dict": e}},
    "model_state_dict": lambda e: {"model_state_dict": e, "loss": 0.5},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_becomes_the_clean_one(wrapping, folder, clean):
    report = convert_weights(save(folder, WRAPPINGS[wrapping](polluted(SG, OLD))))
    assert report.fingerprint == clean(SG)
    assert report.wrapper


def test_safetensors_source_becomes_the_clean_one(folder, clean):
    source = folder / "old.safetensors"
    save_file(polluted(SG, OLD), source)
    before = source.read_bytes()
    report = convert_weights(source, folder / "new.safetensors")
    assert report.fingerprint == clean(SG)
    assert source.read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_brought_to_float32(dtype, folder):
    entries = state_dict(SG)
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in entries.items()}
    report = convert_weights(save(folder, other))
    tensors = load_checkpoint(report.target)[0].tensors
    assert {v.dtype for k, v in tensors.items() if "num_batches" not in k} == {torch.float32}
    for name, value in other.items():
        ours = report.renamed[name]
        assert torch.equal(tensors[ours], value.float() if dtype != torch.int64 else value)
    counters = sum(not v.is_floating_point() for v in entries.values())
    assert report.upcast == len(entries) - counters


# What tensors cannot say


def test_assumptions_are_recorded_in_file_and_model(folder):
    report = convert_weights(save(folder, state_dict(SG)))
    for word in ("SG", "stride layer3", "p 3", "224", "mean and std"):
        assert any(word in assumption for assumption in report.assumed), report.assumed
    assert len(report.assumed) == 5
    assert load_model(report.target).info.assumed == report.assumed
    config = read_header(report.target).config()
    assert config == CGDConfig(embedding_dim=256, classes=21)


def test_options_leave_nothing_assumed(folder):
    report = convert_weights(
        save(folder, state_dict(SG)),
        config=ConvertConfig(
            "GS", StrideMode.layer4, 3.0, 112, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
        ),
    )
    assert report.assumed == ()
    config = read_header(report.target).config()
    assert (config.descriptors, config.stride, config.transform.image_size) == ("GS", "layer4", 112)


@pytest.mark.parametrize("end", ["128_model.pth", "128_10_epoch_model.pth"])
@pytest.mark.parametrize("letters", ["SG", "GS", "MS"])
def test_letters_of_the_file_name_count(folder, letters, end):
    name = f"car_uncropped_resnet18_{letters}_256_0.1_0.5_0.1_{end}"
    report = convert_weights(save(folder, state_dict(SG), name))
    assert report.config["descriptors"] == letters
    assert not any("descriptors" in assumption for assumption in report.assumed)


def test_option_beats_the_file_name(folder):
    source = save(folder, state_dict(SG), "car_uncropped_resnet18_GS_256_0.1_x.pth")
    assert (
        convert_weights(source, config=ConvertConfig(descriptors="MR")).config["descriptors"]
        == "MR"
    )


@pytest.mark.parametrize(
    "name",
    [
        "car_uncropped_resnet50_SG_256_0.1_x.pth",
        "car_uncropped_resnet18_SG_512_0.1_x.pth",
        "car_uncropped_resnet18_SMG_256_0.1_x.pth",
        "car_uncropped_resnet18_S_256_0.1_x.pth",
    ],
)
def test_file_name_that_contradicts_the_tensors_is_refused(folder, name):
    with pytest.raises(MismatchError, match=name) as caught:
        convert_weights(save(folder, state_dict(SG), name))
    assert caught.value.exit_code == 4
    assert [file.name for file in folder.iterdir()] == [name]


@pytest.mark.parametrize("letters", ["S", "SMG", "SGRC"])
def test_wrong_number_of_letters_is_refused(folder, letters):
    with pytest.raises(MismatchError, match=f"{letters} are {len(letters)}, but .* 2 branches"):
        convert_weights(save(folder, state_dict(SG)), config=ConvertConfig(descriptors=letters))
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


@pytest.mark.parametrize("letters", ["SX", "SS", "sg", ""])
def test_bad_letters_are_refused(folder, letters):
    with pytest.raises(ConfigError):
        convert_weights(save(folder, state_dict(SG)), config=ConvertConfig(descriptors=letters))
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


def branches(count):
    config = {"backbone": "resnet18", "feature_dim": 48, "num_classes": 3}
    return config_state_dict(config | {"gd_config": "SMGRCW"[:count]})


@pytest.mark.parametrize(("count", "letters"), [(1, "S"), (2, "SG"), (3, "SMG")])
def test_up_to_three_branches_are_taken_for_the_references(folder, count, letters):
    report = convert_weights(save(folder, branches(count)))
    assert report.config["descriptors"] == letters
    assert any(letters in assumption for assumption in report.assumed)


@pytest.mark.parametrize("count", [4, 6])
def test_four_branches_want_their_letters(folder, count):
    source = save(folder, branches(count))
    with pytest.raises(CheckpointError, match=f"{count} branches") as caught:
        convert_weights(source)
    assert "--descriptors" in caught.value.hint
    assert [file.name for file in folder.iterdir()] == ["old.pth"]
    letters = "WCRGMS"[:count]
    report = convert_weights(source, config=ConvertConfig(descriptors=letters))
    assert report.config["descriptors"] == letters
    assert not any("descriptors" in assumption for assumption in report.assumed)


# Torchvision's names


def torchvision_entries(counters=True):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    entries = resnet18(weights=None).state_dict()
    return {k: v for k, v in entries.items() if counters or "num_batches" not in k}


@pytest.mark.parametrize("counters", [True, False])
def test_torchvision_weights_become_pooled_descriptors(folder, counters):
    source = save(folder, torchvision_entries(counters))
    report = convert_weights(source)
    assert set(report.dropped) == {"fc.weight", "fc.bias"}
    assert report.written_entries == 120 and len(report.filled) == (0 if counters else 20)
    assert read_header(report.target).config() == pooled_config("resnet18")
    assert len(report.assumed) == 5
    assert report.fingerprint == load_model(source).info.fingerprint


def test_torchvision_options_count(folder):
    report = convert_weights(
        save(folder, torchvision_entries()),
        config=ConvertConfig(
            "MR", StrideMode.layer3, image_size=64, mean=Transform.mean, std=Transform.std
        ),
    )
    config = read_header(report.target).config()
    assert (config.descriptors, config.stride, config.transform.image_size) == ("MR", "layer3", 64)
    assert report.assumed == () and config.embedding_dim is None


# Refusals


def refused(source, *words, **options):
    """CheckpointError that says every word; nothing new beside the source."""
    before = {file.name for file in source.parent.iterdir()}
    with pytest.raises(CheckpointError) as caught:
        convert_weights(source, **options)
    for word in words:
        assert word in caught.value.what, caught.value.what
    assert {file.name for file in source.parent.iterdir()} == before
    return caught.value


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_pickle_with_code_is_refused_and_never_run(folder):
    mark = folder / "ran"
    refused(save(folder, state_dict(SG) | {"x": Evil(str(mark))}), "mkdir", "nothing was executed")
    assert not mark.exists()


def test_unknown_entry_is_named(folder):
    entries = state_dict(SG) | {"extra.weight": torch.zeros(1)}
    refused(save(folder, entries), "unknown extra.weight")


def test_unknown_entry_inside_the_trunk_is_named(folder):
    entries = state_dict(SG) | {"features.4.0.conv9.weight": torch.zeros(1)}
    refused(save(folder, entries), "unknown features.4.0.conv9.weight")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("features.7.1.bn2.weight", "backbone.layer4.1.bn2.weight"),
        ("features.1.running_mean", "backbone.bn1.running_mean"),
        ("auxiliary_module.0.running_var", "classifier.batch_norm.running_var"),
        ("auxiliary_module.1.bias", "classifier.linear.bias"),
    ],
)
def test_missing_entry_is_named(folder, name, ours):
    entries = state_dict(SG)
    del entries[name]
    refused(save(folder, entries), "missing", ours)


def test_missing_first_branch_is_noticed(folder):
    entries = state_dict(SG)
    del entries["main_modules.0.0.weight"]
    refused(save(folder, entries), "branches.0.weight")


def test_misshapen_entry_is_named(folder):
    entries = state_dict(SG) | {"features.1.bias": torch.zeros(65)}
    refused(save(folder, entries), "features.1.bias", "(65,)", "(64,)")


def test_existing_output_is_kept_unless_forced(folder, clean):
    source = save(folder, state_dict(SG))
    (folder / "old.safetensors").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists") as caught:
        convert_weights(source)
    assert "--force" in caught.value.hint
    assert (folder / "old.safetensors").read_bytes() == b"precious"
    assert convert_weights(source, force=True).fingerprint == clean(SG)


def test_failure_under_force_keeps_the_old_output(folder):
    (folder / "old.safetensors").write_bytes(b"precious")
    source = save(folder, branches(4))
    refused(source, force=True)
    assert (folder / "old.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("force", [True, False])
def test_source_is_never_written_over(folder, force):
    source = folder / "old.safetensors"
    save_file(state_dict(SG), source)
    (folder / "link.safetensors").symlink_to(source)
    before = source.read_bytes()
    for target in (None, source, folder / "link.safetensors"):
        refused(source, "over itself", target=target, force=force)
    assert source.read_bytes() == before


def test_our_own_checkpoint_is_not_converted_again(folder):
    report = convert_weights(save(folder, state_dict(SG)))
    refused(report.target, "already", target=folder / "again.safetensors")


def test_our_names_in_a_pth_are_taken(folder):
    report = convert_weights(save(folder, state_dict(SG)))
    model = load_model(report.target)
    source = save(folder, model.state_dict(), "ours.pth")
    again = convert_weights(source, config=ConvertConfig(descriptors="SG"))
    assert again.fingerprint == report.fingerprint
    assert len(again.kept) == 129 and not again.renamed


def test_source_that_is_missing_is_refused(tmp_path):
    refused(tmp_path / "gone.pth", "gone.pth")


def test_output_folder_that_is_missing_is_refused(folder):
    with pytest.raises(OutputError, match="does not exist"):
        convert_weights(save(folder, {}), folder / "no/new.safetensors")


def test_output_gets_our_suffix(folder):
    report = convert_weights(save(folder, state_dict(SG)), folder / "new.v2")
    assert report.target == folder / "new.v2.safetensors" and report.target.is_file()


def test_written_file_is_read_back_and_removed_if_it_differs(folder, monkeypatch):
    source = save(folder, state_dict(SG))
    whole = Checkpoint.save

    def flip(self, path, on_progress=None):
        name = "branches.0.weight"
        return whole(replace(self, tensors=self.tensors | {name: self.tensors[name] + 1}), path)

    monkeypatch.setattr(Checkpoint, "save", flip)
    refused(source, "did not read back")
