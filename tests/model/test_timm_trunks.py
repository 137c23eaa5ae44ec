"""timm's networks as trunks, by the tiny ones that timm has for tests."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

from cgdcli.config import CGDConfig, Precision, StrideMode, TrainConfig, Transform
from cgdcli.errors import ConfigError
from cgdcli.model.backbones import backbone_transform, make_trunk
from cgdcli.model.cgd import CGD, freeze_batch_norm, meta_model
from cgdcli.model.timm_trunks import meta_timm_trunk
from cgdcli.profiling.counting import count_network
from cgdcli.training.learner import Learner
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.loading import load_model

timm = pytest.importorskip("timm")
STANDARD = StrideMode.standard
TINY = ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "test_coatnet"]


def pair(name, size=64, **options):
    """The trunk and timm's own network with the same weights."""
    torch.manual_seed(0)
    trunk = make_trunk(f"timm:{name}", STANDARD, size).eval()
    network = timm.create_model(name, num_classes=7, **options).eval()
    missing, unexpected = network.load_state_dict(trunk.state_dict(), strict=False)
    assert not unexpected
    return trunk, network, set(missing)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
@torch.no_grad()
def test_a_map_is_that_of_timm_and_the_rest_is_the_head(name):
    trunk, network, missing = pair(name)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(trunk(images), network.forward_features(images))
    assert trunk(images).shape == (2, trunk.channels, 2, 2)
    heads = {"test_resnet": ("fc.",), "test_efficientnet": ("classifier.",)}.get(name, ("head.",))
    assert missing and all(entry.startswith(heads) for entry in missing)
    logits = network.forward_head(trunk(images))
    assert torch.allclose(logits, network(images), atol=1e-5)


@pytest.mark.parametrize("size", [64, 160])
@torch.no_grad()
def test_tokens_become_a_map_without_the_class_token(size):
    trunk, network, _ = pair("test_vit", size, dynamic_img_size=True)
    images = torch.randn(2, 3, size, size)
    tokens, side = network.forward_features(images), size // 16
    assert tokens.shape[1] == side * side + 1
    found = trunk(images)
    assert found.shape == (2, trunk.channels, side, side)
    assert torch.equal(found[:, :, 0, 1], tokens[:, 2]) and side > 1
    assert torch.equal(found[:, :, 1, 0], tokens[:, 1 + side])


@torch.no_grad()
def test_channels_that_come_last_are_brought_first():
    trunk = make_trunk("timm:swin_tiny_patch4_window7_224", STANDARD, 64).eval()
    images = torch.randn(1, 3, 64, 64)
    seen = []
    trunk.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert torch.equal(trunk(images), seen[0].permute(0, 3, 1, 2))
    assert seen[0].shape == (1, 2, 2, 768)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_of_a_trunk_learns(name):
    trunk = make_trunk(f"timm:{name}", STANDARD, 64)
    trunk(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [n for n, p in trunk.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", TINY)
def test_modes_devices_and_copies_reach_the_network(name):
    """The trunk and timm's network are one set of tensors, of which no two may differ."""
    trunk = make_trunk(f"timm:{name}", STANDARD, 64)
    again = copy.deepcopy(trunk)
    for one in (trunk, again, trunk.double()):
        own = {n: id(p) for n, p in one.named_parameters()}
        theirs = {n: id(p) for n, p in one._network.named_parameters()}
        assert own == theirs and own
        for mode in (False, True):
            one.train(mode)
            assert one._network.training is mode
            assert all(module.training is mode for module in one._network.modules())
    assert next(trunk.parameters()).dtype == torch.float64
    assert next(again.parameters()).dtype == torch.float32
    assert not {id(p) for p in trunk.parameters()} & {id(p) for p in again.parameters()}
    trunk.to("meta")
    assert all(p.is_meta for p in trunk._network.parameters())


@pytest.mark.parametrize("name", TINY)
def test_counts_are_what_pytorch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    config = CGDConfig(f"timm:{name}", STANDARD, embedding_dim=None, transform=Transform(64))
    counts = count_network(config)
    counter = FlopCounterMode(display=False)
    trunk = meta_model(config).backbone.eval()
    with torch.no_grad(), counter:
        trunk(torch.empty(1, 3, 64, 64, device="meta"))
    assert counts.flops == counter.get_total_flops() > 0
    assert counts.parameters == sum(p.numel() for p in trunk.parameters())
    assert sum(stage.parameters for stage in counts.stages) == counts.parameters
    assert [s.name for s in counts.stages][: len(trunk.stage_names)] == list(trunk.stage_names)
    assert counts.thop == {}


@pytest.mark.parametrize("stride", [StrideMode.layer3, StrideMode.layer4])
def test_a_resnet_of_timm_gives_up_a_stride(stride):
    """SE-ResNet-50, the paper's best."""
    with torch.device("meta"):
        images = torch.empty(1, 3, 64, 64)
        plain, other = (make_trunk("timm:seresnet50", s, 64) for s in (STANDARD, stride))
        assert plain(images).shape == (1, 2048, 2, 2) and other(images).shape == (1, 2048, 4, 4)
    assert plain.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet50d", "which pools there"), ("test_convnext", "which has no such stage")],
)
def test_a_stride_that_cannot_be_had_is_refused(name, words):
    with pytest.raises(ConfigError, match=words) as caught:
        meta_model(CGDConfig(f"timm:{name}", StrideMode.layer3))
    assert "--stride standard" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "size", "words", "hint"),
    [
        ("vit_small_patch14_dinov2", 120, ("120 px", "14"), "--image-size 126"),
        ("test_coatnet", 100, ("100 px",), "--image-size 160"),
        ("seresnet5O", 64, ("no network 'seresnet5O'",), "timm:seresnet50"),
        ("dinov2", 64, ("no network 'dinov2'",), "timm:vit_base_patch14_dinov2"),
        ("resnet18.a9_in1k", 64, ("no weights 'a9_in1k' of resnet18",), "timm:resnet18.a1_in1k"),
        ("crossvit_9_240", 240, ("no map", "list"), "another"),
    ],
)
def test_what_cannot_be_a_trunk_is_refused(name, size, words, hint):
    with pytest.raises(ConfigError) as caught:
        meta_timm_trunk(f"timm:{name}", size)
    assert all(word in caught.value.what for word in words), caught.value.what
    assert hint in caught.value.hint


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (
        lambda: make_trunk("timm:test_vit", STANDARD, 48),
        lambda: backbone_transform("timm:x"),
    ):
        with pytest.raises(ConfigError, match="needs the package timm") as caught:
            make()
        assert caught.value.hint == "pip install 'cgdcli[timm]'"


def test_pictures_are_prepared_as_for_timms_weights():
    half = (0.5, 0.5, 0.5)
    assert backbone_transform("timm:test_vit") == Transform(160, half, half)
    assert backbone_transform("timm:vit_small_patch14_dinov2") == Transform(518)
    assert backbone_transform("timm:vit_small_patch14_dinov2", 112) == Transform(112)


def test_batch_norm_of_timms_own_kind_freezes():
    model = CGD(CGDConfig("timm:test_efficientnet", STANDARD, embedding_dim=16))
    model.train()
    freeze_batch_norm(model)
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(type(m) is nn.BatchNorm2d or m.training for m in norms)


NETWORK = CGDConfig(
    "timm:test_coatnet", STANDARD, embedding_dim=16, classes=4, transform=Transform(64)
)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (8, 64, 64, 3), generator=generator).byte()
    return pixels, torch.arange(8) % 4


def test_tables_that_no_file_holds_are_there_after_loading(tmp_path):
    """Its relative positions are buffers outside of the state_dict: built, not read."""
    torch.manual_seed(0)
    model = CGD(NETWORK).eval()
    kept = model.state_dict()
    assert any(name not in kept for name, _ in model.named_buffers())
    Checkpoint(NETWORK, kept).save(tmp_path / "m.safetensors")
    state = torch.get_rng_state()
    again = load_model(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(tensor.is_meta for tensor in (*again.parameters(), *again.buffers()))
    assert torch.equal(again.embed(batch(1)[0]), model.embed(batch(1)[0]))


def test_a_run_is_averaged_and_resumed_bit_for_bit():
    def learner(seed):
        torch.manual_seed(seed)
        config = TrainConfig(
            backbone="timm:test_coatnet", embedding_dim=16, image_size=64, warm=0, ema=0.5
        )
        made = Learner(CGD(NETWORK), config, steps=4, precision=Precision.fp32)
        made.to_training()
        return made

    whole, first, second = learner(0), learner(0), learner(1)
    for number in range(3):
        whole.step(*batch(number), number)
    first.step(*batch(0), 0)
    second.restore(copy.deepcopy(first.state()))
    for number in (1, 2):
        second.step(*batch(number), number)
    ours, theirs = (m.judged_model() for m in (second, whole))
    assert torch.equal(ours.embed(batch(7)[0]), theirs.embed(batch(7)[0]))
    assert not torch.equal(theirs.embed(batch(7)[0]), whole.model.embed(batch(7)[0]))
