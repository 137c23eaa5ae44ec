"""Our file: what comes back, what its fingerprint notices, and that writing is atomic."""

import json
import resource
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cgdcli.config import CGDConfig, StrideMode, Transform
from cgdcli.errors import CheckpointError, MismatchError, OutputError
from cgdcli.model.cgd import CGD
from cgdcli.weights import checkpoint as module
from cgdcli.weights.checkpoint import Checkpoint, load_checkpoint, load_strictly, model_fingerprint
from cgdcli.weights.header import file_fingerprint, read_header

CONFIG = CGDConfig(embedding_dim=8, classes=3, transform=Transform(image_size=64))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CONFIG).eval()


@pytest.fixture(scope="module")
def made(model):
    return Checkpoint(
        CONFIG,
        dict(model.state_dict()),
        ("cat", "dog", "éléphant"),
        {"trained_by": "a test"},
        ("stride layer3",),
        {"epoch": 7, "evaluation": None},
    )


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    made.save(path)
    yield path
    path.unlink()


@pytest.fixture(autouse=True)
def tidy(tmp_path):
    """45 MB a file: not kept after its test."""
    yield
    shutil.rmtree(tmp_path)


def changed(made, name, change):
    tensors = dict(made.tensors)
    tensors[name] = change(tensors[name].clone())
    return replace(made, tensors=tensors)


def test_one_picture_does_not_depend_on_the_length_of_the_header(tmp_path):
    """A header of another length once moved the tensors, and the last bit of an embedding."""
    config = replace(CONFIG, embedding_dim=512)
    torch.manual_seed(0)
    tensors = dict(CGD(config).state_dict())
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    rows = []
    for length in (0, 8, 24, 40):
        path = tmp_path / f"{length}.safetensors"
        Checkpoint(config, tensors, origin={"note": "x" * length}).save(path)
        model = load_checkpoint(path)[0].model()
        assert all(t.data_ptr() % 64 == 0 for t in model.state_dict().values())
        rows.append(model.embed(pixels))
    assert all(torch.equal(row, rows[0]) for row in rows)


def test_everything_comes_back(made, saved):
    again, info = load_checkpoint(saved)
    assert again.config == CONFIG
    assert again.tensors.keys() == made.tensors.keys()
    assert all(torch.equal(value, made.tensors[name]) for name, value in again.tensors.items())
    assert replace(again, tensors={}) == replace(made, tensors={})
    assert (info.source, info.assumed) == (str(saved), ("stride layer3",))
    assert info.class_names == ("cat", "dog", "éléphant")


def test_loaded_model_embeds_the_same_and_is_in_eval_mode(model, saved):
    again = load_checkpoint(saved)[0].model()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    assert not again.training
    assert torch.equal(again.embed(pixels), model.embed(pixels))


def test_fingerprint_is_the_same_from_file_tensors_and_live_model(model, made, saved):
    prints = {
        made.fingerprint(),
        model_fingerprint(model),
        file_fingerprint(read_header(saved)),
        read_header(saved).metadata["fingerprint"],
        load_checkpoint(saved)[1].fingerprint,
        model_fingerprint(load_checkpoint(saved)[0].model()),
    }
    assert len(prints) == 1


def test_fingerprint_does_not_depend_on_layout_in_memory(made):
    name = "branches.0.weight"
    turned = changed(made, name, lambda t: t.t().contiguous().t())
    assert not turned.tensors[name].is_contiguous()
    assert turned.fingerprint() == made.fingerprint()


@pytest.mark.parametrize(
    "name",
    [
        "classifier.linear.weight",
        "classifier.linear.bias",
        "classifier.batch_norm.running_mean",
        "backbone.bn1.num_batches_tracked",
        "classifier.batch_norm.num_batches_tracked",
    ],
)
def test_what_makes_no_embedding_is_not_in_the_fingerprint(made, name):
    assert changed(made, name, lambda t: t + 1).fingerprint() == made.fingerprint()


def test_classes_names_and_origin_are_not_in_the_fingerprint(made):
    tensors = {k: v for k, v in made.tensors.items() if not k.startswith("classifier.")}
    bare = Checkpoint(replace(CONFIG, classes=0), tensors)
    assert bare.fingerprint() == made.fingerprint()


@pytest.mark.parametrize(
    "name",
    [
        "backbone.conv1.weight",
        "backbone.bn1.running_mean",
        "backbone.bn1.running_var",
        "backbone.layer4.1.bn2.bias",
        "branches.1.weight",
    ],
)
def test_one_changed_number_changes_the_fingerprint(made, name):
    def nudge(tensor):
        tensor.view(-1)[-1] += 1e-3
        return tensor

    assert changed(made, name, nudge).fingerprint() != made.fingerprint()


@pytest.mark.parametrize(
    "values",
    [
        {"transform": Transform(image_size=65)},
        {"transform": Transform(64, mean=(0.0, 0.0, 0.0))},
        {"transform": Transform(64, std=(1.0, 1.0, 1.0))},
        {"descriptors": "GS"},
        {"stride": StrideMode.layer4},
        {"gem_p": 2.0},
    ],
    ids=str,
)
def test_whatever_makes_other_embeddings_changes_the_fingerprint(made, values):
    other = replace(made, config=replace(CONFIG, **values))
    assert other.fingerprint() != made.fingerprint()


def test_tensors_changed_after_writing_are_noticed(saved, tmp_path):
    tensors = load_file(saved)
    tensors["branches.0.weight"][0, 0] += 1
    text = read_header(saved)
    path = tmp_path / "edited.safetensors"
    save_file(tensors, path, metadata={"cgd": json.dumps(text.metadata)})
    with pytest.raises(MismatchError, match="changed after it was written") as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 4


def test_edited_config_is_noticed(saved, tmp_path):
    data = saved.read_bytes()
    assert data.count(b'\\"image_size\\": 64') == 1
    path = tmp_path / "edited.safetensors"
    path.write_bytes(data.replace(b'\\"image_size\\": 64', b'\\"image_size\\": 96'))
    with pytest.raises(MismatchError):
        load_checkpoint(path)


def test_foreign_safetensors_is_no_checkpoint(made, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no cgd configuration"):
        load_checkpoint(path)


def test_failed_save_leaves_the_old_file_and_nothing_else(made, saved, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def full(target, tensors, metadata, on_progress):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(OutputError, match="No space left"):
        made.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == b"old"


def test_interrupted_save_leaves_nothing(made, tmp_path, monkeypatch):
    def interrupt(target, tensors, metadata, on_progress):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_tensors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_output_error_and_leaves_the_old_file(made, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError, match="too large"):
            made.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
def test_tensor_of_an_odd_type_is_refused_in_words(made, saved, tmp_path, dtype):
    tensors = load_file(saved)
    tensors["branches.0.weight"] = tensors["branches.0.weight"].to(dtype)
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path, metadata={"cgd": json.dumps(read_header(saved).metadata)})
    with pytest.raises((CheckpointError, MismatchError)):
        load_checkpoint(path)


def test_missing_unknown_and_misshapen_entries_are_named(model):
    tensors = dict(model.state_dict())
    del tensors["branches.0.weight"]
    tensors["surprise"] = torch.zeros(1)
    tensors["classifier.linear.bias"] = torch.zeros(4)
    with pytest.raises(CheckpointError) as caught:
        load_strictly(model, tensors, "it")
    for words in ("missing branches.0.weight", "unknown surprise", "bias is (4,), not (3,)"):
        assert words in caught.value.what


def test_half_precision_is_brought_to_float32(made):
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in made.tensors.items()}
    model = replace(made, tensors=tensors).model()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.branches[0].weight, tensors["branches.0.weight"].float())
