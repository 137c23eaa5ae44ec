"""torchvision's networks as trunks: its names, its maps, its strict loading."""

import copy

import pytest
import torch
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings
from trunks import SMALL, logits_of_map, original

from cgdcli.config import (
    RESNETS,
    TORCHVISION,
    CGDConfig,
    Precision,
    StrideMode,
    TrainConfig,
    Transform,
)
from cgdcli.config.backbones import FAMILIES
from cgdcli.errors import ConfigError
from cgdcli.model.backbones import backbone_transform, imagenet_weights, make_trunk
from cgdcli.model.cgd import CGD, freeze_batch_norm
from cgdcli.model.torchvision_trunks import HEADS, meta_trunk, torchvision_network
from cgdcli.training.learner import Learner
from cgdcli.weights.checkpoint import Checkpoint

STANDARD = StrideMode.standard


def test_the_list_of_names_is_torchvisions_own():
    assert sorted(TORCHVISION) == models.list_models(module=models)
    assert len(set(TORCHVISION)) == len(TORCHVISION)


def test_each_family_has_a_small_member_that_is_tested():
    names = {name for family, names in FAMILIES.items() if family != "ResNet" for name in names}
    assert set(SMALL) <= names
    assert all(set(members) & set(SMALL) for f, members in FAMILIES.items() if f != "ResNet")


def meta_original(name):
    with torch.device("meta"):
        return torchvision_network(name, 224)


def check_names(name):
    """Names and shapes are torchvision's, and all but the head's are there."""
    whole = {n: t.shape for n, t in meta_original(name).state_dict().items()}
    ours = {n: t.shape for n, t in meta_trunk(name).state_dict().items()}
    assert ours.items() <= whole.items()
    assert {n.partition(".")[0] for n in whole.keys() - ours.keys()} <= set(HEADS)
    assert list(ours) == [n for n in whole if n in ours]


@pytest.mark.parametrize("name", SMALL)
def test_names_and_shapes_are_torchvisions(name):
    check_names(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [names[-1] for names in FAMILIES.values()])
def test_the_largest_have_torchvisions_names_and_a_map_of_its_channels(name):
    if name not in RESNETS:
        check_names(name)
    with torch.device("meta"):
        trunk = make_trunk(name, STANDARD, 224).eval()
        found = trunk(torch.empty(2, 3, 224, 224))
    assert found.ndim == 4 and found.shape[:2] == (2, trunk.channels)
    assert found.shape[2] == found.shape[3] >= 5


@pytest.fixture(scope="module")
def pair():
    """The trunk of a name and the network that it is of, with the same weights."""

    def make(name):
        torch.manual_seed(0)
        size = SMALL[name]
        network = original(name, size)
        with torch.no_grad():  # statistics of a network that has seen pictures
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    buffer.add_(0.1 * torch.rand_like(buffer))
        trunk = make_trunk(name, STANDARD, size).eval()
        state = network.state_dict()
        trunk.load_state_dict({n: state[n] for n in trunk.state_dict()}, strict=True)
        return trunk, network, torch.randn(2, 3, size, size)

    return make


@pytest.mark.parametrize("name", [n for n in SMALL if not n.startswith("vit")])
@torch.no_grad()
def test_the_map_is_what_torchvision_classifies(pair, name):
    trunk, network, images = pair(name)
    found = trunk(images)
    assert found.shape[1] == trunk.channels
    assert torch.allclose(logits_of_map(name, network, found), network(images), atol=1e-4)
    for stage in trunk.stage_names:
        images = trunk.run_stage(stage, images)
    assert torch.equal(images, found)


@torch.no_grad()
def test_the_map_of_a_vit_is_its_tokens(pair):
    trunk, network, images = pair("vit_b_32")
    seen = []
    network.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(images)
    wanted = seen[0][:, 1:].transpose(1, 2).reshape(2, 768, 7, 7)
    assert torch.allclose(trunk(images), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [96])
@torch.no_grad()
def test_positions_of_another_size_are_interpolated_as_torchvision_does(pair, size):
    trunk, network, _ = pair("vit_b_32")
    images = torch.randn(1, 3, size, size)
    resized = interpolate_embeddings(size, 32, network.state_dict())
    other = models.vit_b_32(weights=None, image_size=size).eval()
    other.load_state_dict(resized, strict=True)
    seen = []
    other.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    other(images)
    side = size // 32
    wanted = seen[0][:, 1:].transpose(1, 2).reshape(1, 768, side, side)
    assert torch.allclose(trunk(images), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "words", "fitting"),
    [
        ("vit_b_16", 100, ("patches", "no multiple of 16"), 96),
        ("vit_h_14", 225, ("patches", "no multiple of 14"), 224),
        ("maxvit_t", 256, ("windows", "no multiple of 224"), 224),
        ("inception_v3", 64, ("64 px", "nothing would be left"), 299),
        ("alexnet", 32, ("32 px", "nothing would be left"), 224),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name, size, words, fitting):
    with pytest.raises(ConfigError) as caught:
        CGD(CGDConfig(name, STANDARD, transform=Transform(size)))
    assert all(word in caught.value.what for word in (name, *words))
    assert caught.value.hint == f"try --image-size {fitting}"


def test_a_defect_of_a_network_is_not_taken_for_a_size(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no such thing")

    monkeypatch.setattr("cgdcli.model.torchvision_trunks.torchvision_network", broken)
    with pytest.raises(RuntimeError, match="no such thing"):
        make_trunk("mnasnet1_3", STANDARD, 96)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "densenet121", "shufflenet_v2_x0_5"])
def test_building_draws_what_the_seed_says_each_time(name):
    """The first building of a size also looks at the network on the meta device."""
    torch.manual_seed(3)
    first = make_trunk(name, STANDARD, 160).state_dict()
    torch.manual_seed(3)
    second = make_trunk(name, STANDARD, 160).state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", ["mnasnet0_5", "densenet121"])
def test_batch_norm_freezes_wherever_it_sits(name):
    torch.manual_seed(0)
    model = CGD(CGDConfig(name, STANDARD, embedding_dim=16, transform=Transform(32)))
    before = copy.deepcopy(model.backbone.state_dict())
    model.train()
    freeze_batch_norm(model)
    model.backbone(torch.randn(4, 3, 32, 32))
    after = model.backbone.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in before)
    model.train()
    model.backbone(torch.randn(4, 3, 32, 32))
    statistics = [n for n in before if n.endswith("running_mean")]
    assert not any(torch.equal(model.backbone.state_dict()[n], before[n]) for n in statistics)


def test_other_norms_keep_learning_as_they_are():
    model = CGD(CGDConfig("swin_t", STANDARD, embedding_dim=16, transform=Transform(32)))
    model.train()
    freeze_batch_norm(model)
    assert all(module.training for module in model.modules())


def batch(seed, size=32):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (8, size, size, 3), generator=generator).byte()
    return pixels, torch.arange(8) % 4


def learner(name, seed=0):
    torch.manual_seed(seed)
    config = CGDConfig(name, STANDARD, embedding_dim=16, classes=4, transform=Transform(32))
    settings = TrainConfig(
        backbone=name, embedding_dim=16, image_size=32, warm=0, ema=0.5, backbone_weights="none"
    )
    made = Learner(CGD(config), settings, steps=4, precision=Precision.fp32)
    made.to_training()
    return made


@pytest.mark.parametrize("name", ["efficientnet_b0"])
def test_stochastic_depth_is_drawn_anew_in_each_step_and_the_same_after_a_resume(name):
    whole, first = learner(name), learner(name)
    for number in range(3):
        whole.step(*batch(0), number)
    first.step(*batch(0), 0)
    second = learner(name, seed=1)
    second.restore(copy.deepcopy(first.state()))
    torch.manual_seed(99)
    for number in (1, 2):
        second.step(*batch(0), number)
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    again = learner(name)
    figures = [again.losses(*batch(0)).total.item() for _ in range(2)]
    assert figures[0] != figures[1]  # it does draw
    averaged = whole.judged_model()
    assert averaged is not whole.model and averaged.state_dict().keys() == theirs.keys()


@pytest.mark.parametrize(("name", "size"), [("shufflenet_v2_x0_5", 32), ("densenet121", 96)])
def test_a_checkpoint_makes_the_same_embeddings(tmp_path, name, size):
    torch.manual_seed(0)
    config = CGDConfig(name, STANDARD, embedding_dim=16, classes=3, transform=Transform(size))
    model = CGD(config).eval()
    Checkpoint(config, model.state_dict()).save(tmp_path / "m.safetensors")
    from cgdcli.weights.loading import load_model

    again = load_model(tmp_path / "m.safetensors")
    pixels, _ = batch(1, size)
    assert torch.equal(again.embed(pixels), model.embed(pixels))
    assert torch.allclose(again.embed(pixels[:1]), again.embed(pixels)[:1], atol=1e-5)


def test_pictures_are_prepared_as_for_each_networks_own_weights():
    assert backbone_transform("resnet50") == Transform()
    assert backbone_transform("efficientnet_b3").image_size == 300
    assert backbone_transform("efficientnet_v2_l", 128) == Transform(128, (0.5,) * 3, (0.5,) * 3)
    for name in TORCHVISION:
        preset = imagenet_weights(name).transforms()
        found = backbone_transform(name)
        assert (list(found.mean), list(found.std)) == (list(preset.mean), list(preset.std))


def test_published_weights_are_the_first_that_there_are():
    for name in TORCHVISION:
        first = imagenet_weights(name).name
        assert first == "IMAGENET1K_V1" or name in ("vit_h_14", "regnet_y_128gf")
        crop = imagenet_weights(name).transforms().crop_size[0]
        if name in FAMILIES["ViT"]:
            assert crop == 224  # the size that `encoder.pos_embedding` is built for
