"""Foreign files: nothing in them runs, every entry is accounted for. Tensors of one number do."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import checkpoints
from safetensors.torch import save_file
from torch import nn

from cgdcli.config import RESNETS, CGDConfig
from cgdcli.errors import CheckpointError
from cgdcli.model.cgd import meta_model
from cgdcli.weights.foreign import ForeignWeights, read_architecture, read_foreign
from cgdcli.weights.formats.own import OWN

MODEL = checkpoints()["models"]["resnet18_SG_256_21"]
CLEAN = [name for name, *_ in MODEL["clean"]]
POLLUTED = MODEL["after_profile"]["0.0.31.post2005241907"]


def entries(names=CLEAN, prefix=""):
    return OrderedDict((prefix + name, torch.tensor([float(i)])) for i, name in enumerate(names))


@pytest.fixture
def load(tmp_path):
    def save_and_read(content):
        torch.save(content, tmp_path / "old.pth")
        return read_foreign(tmp_path / "old.pth")

    return save_and_read


@pytest.fixture
def refused(load):
    def attempt(content, *words):
        with pytest.raises(CheckpointError) as caught:
            load(content)
        for word in ("old.pth", *words):
            assert word in caught.value.what, caught.value.what
        assert caught.value.hint
        return caught.value

    return attempt


def values(weights):
    return {name: float(value) for name, value in weights.tensors.items()}


def accounted(weights):
    """Every entry of the file is kept, renamed or dropped, and in one of them only."""
    names = [*weights.kept, *weights.renamed, *weights.dropped]
    assert len(names) == len(set(names)) == weights.source_entries


def test_every_entry_is_accounted_for(load):
    weights = load(entries(POLLUTED))
    accounted(weights)
    assert (weights.source_entries, len(weights.tensors), len(weights.dropped)) == (181, 129, 52)
    assert all(name.endswith(("total_ops", "total_params")) for name in weights.dropped)
    assert weights.wrapper == "" and weights.filled == ()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "module._orig_mod.", "model."])
def test_prefix_before_every_name_is_stripped(load, prefix):
    weights = load(entries(POLLUTED, prefix))
    assert values(weights) == values(load(entries(POLLUTED)))
    assert prefix in weights.wrapper
    accounted(weights)


def test_prefix_is_stripped_when_the_profiler_ran_on_the_wrapper(load):
    content = entries(CLEAN, "module.")
    content |= {"total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    weights = load(content)
    assert values(weights) == values(load(entries()))
    assert set(weights.dropped) == {"total_ops", "total_params"}


def test_prefix_before_some_names_is_not_stripped(refused):
    content = entries(CLEAN[:5]) | entries(CLEAN[5:], "module.")
    refused(content, f"module.{CLEAN[5]}")


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda s: {"state_dict": s}, "inside `state_dict`"),
        (lambda s: {"model_state_dict": s, "epoch": 3}, "epoch"),
        (lambda s: {"epoch": 3, "model": {"state_dict": s}}, "inside `model`"),
        (lambda s: {"epoch": 3, "model": s, "optimizer": {"state": {}}}, "optimizer"),
        (lambda s: {"net": s}, "inside `net`"),
        (lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}, "module."),
    ],
)
def test_wrapping_is_unwrapped_and_said(load, wrap, words):
    weights = load(wrap(entries()))
    assert values(weights) == values(load(entries()))
    assert words in weights.wrapper


def test_only_an_exact_last_name_part_is_dropped(load, refused):
    for name in ("features.my_total_ops", "total_ops.weight", "features.total_operations"):
        refused(entries() | {name: torch.zeros(1)}, f"`{name}`", "unknown")
    assert not load(entries() | {"features.0.my_total_ops": torch.zeros(1)}).dropped


def test_unknown_entry_is_named_never_dropped(refused):
    refused(entries() | {"features.9.weight": torch.zeros(1)}, "`features.9.weight`")


def test_two_names_for_one_entry_are_refused(refused):
    doubled = {"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)}
    refused(entries() | doubled, "conv1.weight")


def test_entry_that_is_no_tensor_is_dropped_and_said(load):
    weights = load(entries() | {"epoch": 3})
    assert weights.dropped == {"epoch": "not a tensor"}
    accounted(weights)


@pytest.mark.parametrize("content", [[1, 2], 5, {}, {"state_dict": 3}, {"a": {"b": 1}}, None])
def test_what_holds_no_tensors_is_refused(refused, content):
    refused(content, "no named tensors")


def test_other_networks_are_refused_by_their_first_names(refused):
    refused({"conv.weight": torch.zeros(1), "x": torch.zeros(1)}, "conv.weight", "no network")


def test_data_base_of_the_reference_is_no_network(refused):
    content = {"test_images": ["a.jpg"], "test_labels": [0], "test_features": torch.zeros(1, 4)}
    refused(content, "test_features")


def test_missing_counters_are_filled_and_listed(load):
    without = [name for name in CLEAN if not name.endswith("num_batches_tracked")]
    weights = load(entries(without))
    assert len(weights.filled) == len(CLEAN) - len(without) == 21
    assert all(weights.tensors[name] == 0 for name in weights.filled)
    assert len(weights.tensors) == 129
    accounted(weights)


def test_safetensors_source_is_read(tmp_path):
    save_file(dict(entries()), tmp_path / "old.safetensors")
    assert len(read_foreign(tmp_path / "old.safetensors").tensors) == 129


@pytest.mark.parametrize("zipped", [True, False])
def test_both_file_forms_of_torch_are_read(tmp_path, zipped):
    torch.save(entries(), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert len(read_foreign(tmp_path / "x.pth").tensors) == 129


# Code in a pickle


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def write_evil(path, content, form):
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: entries() | {"x": e}], ids=["bare", "in"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path, form, wrap):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    write_evil(path, wrap(Evil(str(mark))), form)
    with pytest.raises(CheckpointError) as caught:
        read_foreign(path)
    assert not mark.exists()
    assert "evil.pth" in caught.value.what
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()  # so the file was dangerous indeed


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_in_a_pickle_is_named(tmp_path, form):
    write_evil(tmp_path / "evil.pth", {"state_dict": Evil(str(tmp_path / "ran"))}, form)
    with pytest.raises(CheckpointError, match="mkdir") as caught:
        read_foreign(tmp_path / "evil.pth")
    assert "would run posix.mkdir" in caught.value.what
    assert "do not load it" in caught.value.hint


def test_whole_pickled_module_is_refused_with_the_remedy(refused):
    error = refused(nn.Sequential(nn.Linear(1, 1)), "Sequential")
    assert "--run-its-code" in error.hint and "if you trust" in error.hint


# Damage


@pytest.mark.parametrize("zipped", [True, False])
def test_any_cut_is_a_checkpoint_error(tmp_path, zipped):
    path = tmp_path / "cut.pth"
    torch.save(entries(CLEAN[:10]), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in [0, 1, 2, 8, *range(16, len(whole), max(1, len(whole) // 30)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pth"):
            read_foreign(path)


@pytest.mark.parametrize("data", [b"", b"text", b"\x00" * 500, b"\x80\x04N.", b"PK\x03\x04"])
def test_other_kinds_of_file_are_checkpoint_errors(tmp_path, data):
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        read_foreign(path)


def test_missing_file_and_folder_are_checkpoint_errors(tmp_path):
    for path, words in ((tmp_path / "gone.pth", "cannot read"), (tmp_path, "is a folder")):
        with pytest.raises(CheckpointError, match=words):
            read_foreign(path)


# Architecture


def weights_of(tensors):
    return ForeignWeights(Path("x.pth"), OWN, tensors, ())


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(list(RESNETS)),
    st.permutations("SMGRCW").flatmap(lambda p: st.integers(0, 6).map(lambda n: "".join(p[:n]))),
    st.integers(1, 40),
    st.integers(0, 30),
)
def test_architecture_is_read_off_the_tensors(backbone, letters, width, classes):
    config = CGDConfig(
        backbone,
        descriptors=letters or "S",
        embedding_dim=width * len(letters) if letters else None,
        classes=classes,
    )
    found = read_architecture(weights_of(meta_model(config).state_dict()))
    assert found.backbone is backbone
    assert (found.branches, found.embedding_dim) == (len(letters), config.embedding_dim)
    assert found.classes == classes


def tiny():
    return dict(meta_model(CGDConfig(embedding_dim=8, classes=2)).state_dict())


def test_uneven_branches_are_refused():
    tensors = tiny() | {"branches.1.weight": torch.zeros(5, 512)}
    with pytest.raises(CheckpointError, match="unequal"):
        read_architecture(weights_of(tensors))


def test_unknown_trunk_is_refused():
    tensors = {k: v for k, v in tiny().items() if not k.startswith("backbone.layer3.1.")}
    with pytest.raises(CheckpointError, match=r"\(2, 2, 1, 2\)"):
        read_architecture(weights_of(tensors))


@pytest.mark.parametrize("name", ["branches.0.weight", "classifier.linear.weight"])
def test_tensor_without_dimensions_is_refused_in_words(name):
    with pytest.raises(CheckpointError):
        read_architecture(weights_of(tiny() | {name: torch.tensor(1.0)}))
