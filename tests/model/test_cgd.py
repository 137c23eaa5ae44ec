"""The network: order, blocks, modes, strides and autocast, on tiny inputs or the meta device."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from cgdcli.config import RESNETS, CGDConfig, StrideMode
from cgdcli.model.cgd import CGD, freeze_batch_norm, meta_model, normalize_pixels
from cgdcli.model.descriptors import pool

LETTERS = "SMGRCW"


def network(descriptors="SG", dim=8, classes=3, stride=StrideMode.layer3):
    torch.manual_seed(0)
    return CGD(
        CGDConfig(descriptors=descriptors, embedding_dim=dim, classes=classes, stride=stride)
    ).eval()


def pictures(count=2, size=32):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def feature_map(channels=512):
    return torch.randn(3, channels, 2, 3, generator=torch.Generator().manual_seed(1)).relu()


@pytest.fixture(scope="module")
def sg():
    return network()


def test_sg_is_gs_with_columns_swapped():
    sg, gs = network("SG"), network("GS")
    gs.branches[0].weight.data = sg.branches[1].weight.data
    gs.branches[1].weight.data = sg.branches[0].weight.data
    one, other = sg.head(feature_map()).embedding, gs.head(feature_map()).embedding
    assert torch.allclose(other, torch.cat([one[:, 4:], one[:, :4]], dim=1), atol=1e-7)
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("order", [*permutations("SMG"), tuple(LETTERS), tuple("WRSC")])
def test_columns_stand_in_the_order_of_the_letters(order):
    model = network("".join(order), dim=12)
    embedding = model.head(feature_map()).embedding
    for (letter, start, stop), linear, wanted in zip(
        model.blocks, model.branches, order, strict=True
    ):
        assert letter == wanted
        own = F.normalize(linear(pool(feature_map(), letter))) / len(order) ** 0.5
        assert torch.allclose(embedding[:, start:stop], own, atol=1e-6)


@pytest.mark.parametrize("dim", [12, None])
def test_blocks_share_the_columns_and_rows_are_unit(dim):
    model = network("SMG", dim=dim)
    embedding = model.head(feature_map()).embedding
    assert embedding.shape == (3, model.embedding_dim)
    assert [start for _, start, _ in model.blocks] == [0, *(stop for *_, stop in model.blocks)][:-1]
    assert model.blocks[-1][2] == model.embedding_dim
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-6)
    for _, start, stop in model.blocks:
        assert torch.allclose(embedding[:, start:stop].norm(dim=1), torch.tensor(3**-0.5))


def test_without_projection_the_descriptors_themselves_are_the_embedding():
    model = network("MS", dim=None, classes=0)
    assert model.embedding_dim == 1024 and len(model.branches) == 0
    expected = torch.cat([F.normalize(pool(feature_map(), c)) for c in "MS"], dim=1)
    assert torch.allclose(model.head(feature_map()).embedding, F.normalize(expected), atol=1e-6)


@pytest.mark.parametrize("letters", ["SG", "GS", "MSG", "CR"])
def test_first_descriptor_feeds_the_classifier(letters):
    model = network(letters, dim=12)
    classifier = model.classifier
    expected = classifier.linear(classifier.batch_norm(pool(feature_map(), letters[0])))
    assert torch.allclose(model.head(feature_map()).logits, expected, atol=1e-6)


def test_no_classes_no_logits():
    model = network(classes=0)
    assert model.head(feature_map()).logits is None
    assert not any(name.startswith("classifier") for name in model.state_dict())


def test_batch_of_one_is_embedded(sg):
    alone = sg.embed(pictures()[:1])
    assert torch.allclose(alone, sg.embed(pictures())[:1], atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_embed_leaves_mode_and_weights_as_they_were(training):
    model = network().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = model.embed(pictures())
    assert model.training is training and model.backbone.bn1.training is training
    assert not rows.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(rows, model.eval().embed(pictures()))


def test_embed_leaves_a_frozen_batch_norm_frozen():
    model = network().train()
    freeze_batch_norm(model)
    model.embed(pictures())
    assert model.training
    assert not model.backbone.bn1.training


def test_embed_leaves_the_mode_after_a_failure():
    model = network().train()
    with pytest.raises(Exception, match=r".+"):
        model.embed(torch.zeros(1, 8, 8, 5, dtype=torch.uint8))
    assert model.training


def test_frozen_batch_norm_keeps_statistics_but_learns_weights():
    model = network().train()
    freeze_batch_norm(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(normalize_pixels(pictures(), model.config))
    (output.embedding.sum() + output.logits.square().sum()).backward()
    after = model.state_dict()
    statistics = [name for name in after if name.split(".")[-1].startswith(("running", "num_"))]
    for name in statistics:
        assert torch.equal(after[name], before[name]) == name.startswith("backbone.")
    assert model.backbone.bn1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("letter", LETTERS)
def test_bfloat16_trunk_keeps_the_head_in_float32(letter):
    model = network(letter, dim=8)
    images = normalize_pixels(pictures(), model.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.backbone(images)
        output = model(images)
    assert inside.dtype == torch.bfloat16
    assert output.embedding.dtype == output.logits.dtype == torch.float32
    assert torch.equal(output.embedding, model.head(inside).embedding)
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize("letter", LETTERS)
def test_bfloat16_gradients_are_finite(letter):
    model = network(letter, dim=8).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(normalize_pixels(pictures(), model.config))
        (output.embedding[:, 0].sum() + output.logits.square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_strides_share_keys_and_shapes():
    shapes = [
        {k: v.shape for k, v in meta_model(CGDConfig(stride=stride)).state_dict().items()}
        for stride in StrideMode
    ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(("stride", "side"), [("layer3", 14), ("layer4", 14), ("standard", 7)])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_side_of_the_last_map_at_224(backbone, stride, side):
    model = meta_model(CGDConfig(backbone=backbone, stride=StrideMode(stride)))
    found = model.backbone(torch.zeros(1, 3, 224, 224, device="meta"))
    assert tuple(found.shape) == (1, model.backbone.channels, side, side)


@pytest.mark.parametrize(("stride", "before"), [("layer3", "layer2"), ("layer4", "layer3")])
def test_the_named_stage_gives_up_its_stride(stride, before):
    model = meta_model(CGDConfig(stride=StrideMode(stride)))
    x = torch.zeros(1, 3, 224, 224, device="meta")
    seen = {}
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        x = model.backbone.run_stage(name, x)
        seen[name] = x.shape[-1]
    assert seen[stride] == seen[before]
    assert list(seen.values()).count(seen[before]) == 2  # every other stage halves, or is layer1


@pytest.mark.parametrize("backbone", list(RESNETS), ids=str)
def test_backbone_has_torchvisions_parameters_without_fc(backbone):
    with torch.device("meta"):
        network = getattr(models, backbone)(weights=None)
    fc = sum(p.numel() for p in network.fc.parameters())
    ours = meta_model(CGDConfig(backbone=backbone, classes=0)).backbone
    assert sum(p.numel() for p in ours.parameters()) == (
        sum(p.numel() for p in network.parameters()) - fc
    )
    theirs = {k: v.shape for k, v in network.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == theirs


def test_pixels_are_scaled_less_the_mean_by_the_std():
    config = CGDConfig()
    pixels = pictures()
    found = normalize_pixels(pixels, config)
    assert found.shape == (2, 3, 32, 32) and found.dtype == torch.float32
    for channel in range(3):
        value = pixels[1, 4, 7, channel].item() / 255
        value = (value - config.transform.mean[channel]) / config.transform.std[channel]
        assert found[1, channel, 4, 7].item() == pytest.approx(value, rel=1e-5)
