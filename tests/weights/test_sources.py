"""Other tools' checkpoints: every entry accounted for, the same embeddings, misfits by name."""

import argparse
import shutil

import pytest
import sources
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cgdcli.config import ConvertConfig
from cgdcli.conversion import convert_weights, plan_conversion
from cgdcli.errors import CheckpointError
from cgdcli.weights.loading import load_model


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def save(folder, content, name="old.pth"):
    torch.save(content, folder / name)
    return folder / name


def convert(folder, content, **said):
    """Convert, and check that every entry of the file is in one list."""
    report = convert_weights(save(folder, content), config=ConvertConfig(**said))
    names = [entry.source for entry in report.entries]
    assert len(names) == len(set(names)) == report.source_entries
    assert report.counts["unknown"] == report.counts["clash"] == 0
    return report


@torch.inference_mode()
def check_alike(report, embed, tolerance=1e-5):
    """The converted network and the source's own, on normalized images."""
    model = load_model(report.target)
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    wanted = embed(images)
    found = model(images).embedding
    assert found.shape == wanted.shape
    assert (F.cosine_similarity(found, wanted) > 1 - tolerance).all()
    assert (found - wanted).abs().max() < 1e-3
    # The comparison could fail: pictures differ, and so do their rows.
    assert F.cosine_similarity(wanted[:1], wanted[1:]).max() < 1 - 10 * tolerance
    return model


@pytest.mark.parametrize("whitening", [True, False])
@pytest.mark.parametrize(("pooling", "letter"), [("gem", "G"), ("mac", "M"), ("spoc", "S")])
def test_cnnimageretrieval(folder, pooling, letter, whitening):
    source = sources.cnnimageretrieval(pooling, whitening=whitening)
    report = convert(folder, source.content)
    assert report.format == "cnnimageretrieval-pytorch"
    model = check_alike(report, source.embed)
    config = model.config
    assert (config.descriptors, config.stride) == (letter, "standard")
    assert config.heads == (("whitening",) if whitening else ())
    assert config.transform.mean == pytest.approx(sources.MEAN)
    assert config.transform.std == pytest.approx(sources.STD)
    if pooling == "gem":
        assert config.gem_p == pytest.approx(2.71) and "config" in report.dropped["pool.p"]
    assert any("aspect" in words for words in report.assumed)


@pytest.mark.parametrize("norm_features", [True, False])
@pytest.mark.parametrize(("pooling", "letter"), [("gem", "G"), ("max", "M"), ("avg", "S")])
def test_deep_image_retrieval(folder, pooling, letter, norm_features):
    source = sources.deep_image_retrieval(pooling, norm_features=norm_features)
    report = convert(folder, source.content)
    model = check_alike(report, source.embed)
    assert model.config.descriptors == letter
    assert model.config.heads == ("whitening" if norm_features else "affine",)
    assert "module." in report.wrapper


def test_deep_image_retrieval_without_fc(folder):
    source = sources.deep_image_retrieval(without_fc=True)
    report = convert(folder, source.content)
    check_alike(report, source.embed)
    assert "without_fc" in report.dropped["module.fc.weight"]


@pytest.mark.parametrize("embedder", sources.EMBEDDERS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pytorch_metric_learning_pairs(folder, embedder, prefix):
    trunk, second, embed = sources.pml(sources.EMBEDDERS[embedder]())
    trunk, second = ({prefix + n: t for n, t in part.items()} for part in (trunk, second))
    save(folder, second, "embedder_best12.pth")
    source = save(folder, trunk, "trunk_best12.pth")
    report = convert_weights(source)  # the embedder is found beside it
    assert "embedder_best12.pth" in report.wrapper
    assert report.counts["unknown"] == 0 and report.source_entries == len(trunk) + len(second)
    check_alike(report, embed)
    assert any("descriptors S" in words for words in report.assumed)


def test_pair_in_one_file_and_named_by_hand(folder):
    trunk, second, embed = sources.pml(nn.Linear(512, sources.DIM))
    together = convert(folder, {"models": 1, "trunk": trunk, "embedder": second, "epoch": 3})
    check_alike(together, embed)
    one, other = save(folder, trunk, "a.pth"), save(folder, second, "b.pth")
    by_hand = convert_weights(one, folder / "c.safetensors", embedder=other)
    assert by_hand.fingerprint == together.fingerprint
    assert "`trunk`" not in by_hand.wrapper and "b.pth" in by_hand.wrapper


def test_embedder_of_two_layers_is_refused_by_name(folder):
    trunk, second, _ = sources.pml(sources.MLP([512, 64, sources.DIM]))
    source = save(folder, {"trunk": trunk, "embedder": second})
    plan = plan_conversion(source)
    assert any("embedder.net.1" in p or "embedder.net.2" in p for p in plan.problems)
    with pytest.raises(CheckpointError, match="one Linear"):
        convert_weights(source)


@pytest.mark.parametrize("fc", [True, False])
def test_lightning_of_open_metric_learning(folder, fc):
    source = sources.lightning(fc=fc)
    report = convert_weights(save(folder, source.content, "last.ckpt"))
    assert report.target.name == "last.safetensors"
    check_alike(report, source.embed)
    assert "loss" in report.dropped["criterion.weight"]
    assert any("gem_p" in words for words in report.assumed)
    assert any("projects" in words for words in report.assumed) == fc


def test_torchvision_gives_the_same_map(folder):
    source = sources.torchvision_backbone()
    report = convert(folder, source.content)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(load_model(report.target).backbone(images), source.embed(images))


def test_plain_timm_resnets_are_read(folder):
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", num_classes=10).eval()
    report = convert(folder, {"arch": "resnet18", "state_dict": network.state_dict(), "epoch": 1})
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours = load_model(report.target).backbone(images)
        assert torch.allclose(ours, network.forward_features(images), atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "word"),
    [
        ("resnet18d", "stem of three convolutions"),
        ("seresnet18", "channel attention"),
        ("ecaresnet26t", "stem of three"),
        ("resnetv2_18", "ResNet-v2"),
    ],
)
def test_timm_variants_are_refused_by_what_differs(folder, variant, word):
    timm = pytest.importorskip("timm")
    if variant not in timm.list_models():
        variant = {"seresnet18": "legacy_seresnet18"}.get(variant, variant)
    content = timm.create_model(variant, num_classes=0).state_dict()
    with pytest.raises(CheckpointError) as caught:
        convert_weights(save(folder, content))
    assert word in caught.value.what


# What does not fit


def with_changes(source, **entries):
    source.content["state_dict"] |= entries
    return source.content


MISFITS = {
    "local whitening": (
        lambda: with_changes(sources.cnnimageretrieval(), **{"lwhiten.weight": torch.eye(512)}),
        "lwhiten.weight",
    ),
    "regional": (
        lambda: with_changes(sources.cnnimageretrieval(), **{"pool.whiten.weight": torch.eye(512)}),
        "regional",
    ),
    "an exponent a channel": (
        lambda: with_changes(sources.cnnimageretrieval(), **{"pool.p": torch.ones(512)}),
        "512 exponents",
    ),
    "center bias": (lambda: sources.deep_image_retrieval(center_bias=0.5).content, "center_bias"),
    "feature pyramid": (
        lambda: with_changes(
            sources.deep_image_retrieval(module=False), **{"conv1x5.weight": torch.zeros(1)}
        ),
        "pyramid",
    ),
    "projector": (
        lambda: with_changes(
            sources.lightning(fc=False),
            **{
                "model.model.fc.0.weight": torch.zeros(1),
                "model.model.fc.2.weight": torch.zeros(1),
            },
        ),
        "two layers",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_our_network_does_not_have_is_refused_by_name(folder, misfit):
    make, word = MISFITS[misfit]
    source = save(folder, make())
    with pytest.raises(CheckpointError) as caught:
        convert_weights(source)
    assert word in caught.value.what
    assert any(word in problem for problem in plan_conversion(source).problems)
    assert [file.name for file in folder.iterdir()] == ["old.pth"]


def test_rmac_of_cnnimageretrieval_is_another_function(folder):
    source = sources.cnnimageretrieval("mac", whitening=False)
    source.content["meta"]["pooling"] = "rmac"
    with pytest.raises(CheckpointError, match="whole map twice"):
        convert_weights(save(folder, source.content))


def test_another_architecture_is_named(folder):
    source = sources.cnnimageretrieval("mac", whitening=False)
    source.content["meta"]["architecture"] = "vgg16"
    with pytest.raises(CheckpointError, match="vgg16"):
        convert_weights(save(folder, source.content))


def test_extras_that_are_code_are_listed_with_the_way_on(folder):
    source = sources.deep_image_retrieval()
    source.content["args"] = argparse.Namespace(lr=1)
    with pytest.raises(CheckpointError) as caught:
        convert_weights(save(folder, source.content))
    assert "argparse.Namespace" in caught.value.what
    assert "nothing run" in caught.value.hint and "--run-its-code" not in caught.value.hint


# Wrappers of real libraries


def test_averaged_model_of_torch(folder):
    network = sources.resnet18()
    averaged = AveragedModel(nn.DataParallel(network))
    averaged.update_parameters(nn.DataParallel(network))
    report = convert(folder, averaged.state_dict())
    assert "AveragedModel" in report.dropped["n_averaged"]
    plain = convert_weights(save(folder, network.state_dict(), "plain.pth"))
    assert report.fingerprint == plain.fingerprint


def test_compiled_model_of_torch(folder):
    network = sources.resnet18()
    report = convert(folder, torch.compile(network).state_dict())
    assert "_orig_mod." in report.wrapper
    assert (
        report.fingerprint
        == convert_weights(save(folder, network.state_dict(), "plain.pth")).fingerprint
    )


def test_ema_pytorch_takes_the_averaged_half(folder):
    online = sources.resnet18().state_dict()
    averaged = {n: t + 1 if t.is_floating_point() else t for n, t in online.items()}
    content = {f"online_model.{n}": t for n, t in online.items()}
    content |= {f"ema_model.{n}": t for n, t in averaged.items()}
    content |= {"initted": torch.tensor(True), "step": torch.tensor(9)}
    report = convert(folder, content)
    weight = load_model(report.target).backbone.conv1.weight
    assert torch.equal(weight, averaged["conv1.weight"])
    assert "averaged" in report.dropped["online_model.conv1.weight"]


# Shards


def shards(folder, count=3):
    """A sharded safetensors file as the Hub's tools write it."""
    import json

    state = {n: t.contiguous() for n, t in sources.resnet18().state_dict().items()}
    names = list(state)
    files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    weight_map = {name: files[i * count // len(names)] for i, name in enumerate(names)}
    for file in files:
        save_file({n: state[n] for n, f in weight_map.items() if f == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index, files, state


@pytest.mark.parametrize("which", ["index", "shard"])
def test_sharded_safetensors(folder, which):
    index, files, state = shards(folder)
    source = index if which == "index" else folder / files[1]
    report = convert_weights(source, folder / "new.safetensors")
    assert report.source_entries == len(state)
    plain = convert_weights(save(folder, state, "plain.pth"))
    assert report.fingerprint == plain.fingerprint


def test_missing_shard_is_named(folder):
    index, files, _ = shards(folder)
    (folder / files[2]).unlink()
    with pytest.raises(CheckpointError, match=files[2]):
        convert_weights(index, folder / "new.safetensors")


def test_shard_of_another_file_is_noticed(folder):
    index, files, _ = shards(folder)
    save_file({"other": torch.zeros(1)}, folder / files[0])
    with pytest.raises(CheckpointError, match="disagree"):
        convert_weights(index, folder / "new.safetensors")


def test_shard_without_index_says_so(folder):
    index, files, _ = shards(folder)
    index.unlink()
    with pytest.raises(CheckpointError, match="one of several shards"):
        convert_weights(folder / files[0], folder / "new.safetensors")


def test_index_that_points_elsewhere_is_refused(folder):
    index, files, _ = shards(folder)
    index.write_text(index.read_text().replace(files[0], f"../{files[0]}"))
    with pytest.raises(CheckpointError, match="not beside it"):
        convert_weights(index, folder / "new.safetensors")
