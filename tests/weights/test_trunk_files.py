"""Weights files of trunks that are no ResNets: recognised, read strictly, written back."""

import re
from pathlib import Path

import pytest
import torch

from cgdcli.config import TORCHVISION, CGDConfig, Foreign, StrideMode, Transform
from cgdcli.config.backbones import FAMILIES
from cgdcli.conversion import convert_weights, export_weights
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.model.backbones import imagenet_weights
from cgdcli.model.cgd import CGD
from cgdcli.model.timm_trunks import meta_timm_trunk, timm_converted
from cgdcli.model.torchvision_trunks import meta_trunk, torchvision_network
from cgdcli.weights.architecture import read_architecture
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.foreign import FORMATS
from cgdcli.weights.formats.torchvision_others import family_of
from cgdcli.weights.loading import load_model, read_backbone_weights

STANDARD = StrideMode.standard
OTHERS = [n for family, names in FAMILIES.items() if family != "ResNet" for n in names]
FIRST = [names[0] for family, names in FAMILIES.items() if family != "ResNet"]
QUICK = [*FIRST, "squeezenet1_1", "inception_v3", "mobilenet_v3_small", "vgg11_bn", "swin_v2_t"]


def whole_names(name):
    with torch.device("meta"):
        return set(torchvision_network(name, 224).state_dict())


def check_recognised(name):
    trunk = meta_trunk(name).state_dict()
    for names in (trunk.keys(), whole_names(name)):
        assert family_of(names) is not None
        form = next(f for f in FORMATS if f.recognises(names, {}))
        assert form.name == "torchvision network"
    ours = {f"backbone.{n}": t for n, t in trunk.items()}
    assert next(f for f in FORMATS if f.recognises(ours.keys(), {})).name == "cgd"
    assert all(FORMATS[0].rename(n) is not None for n in ours)
    assert read_architecture(ours, "x").backbone == name


@pytest.mark.parametrize("name", QUICK)
def test_a_network_is_known_by_its_names_and_shapes(name):
    check_recognised(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in OTHERS if n not in QUICK])
def test_every_network_is_known_by_its_names_and_shapes(name):
    check_recognised(name)


def test_resnets_are_no_family_of_the_others():
    assert family_of({"conv1.weight", "layer1.0.conv1.weight"}) is None
    # The reference's trunk, whose names are positions as VGG's are.
    assert family_of({"features.0.weight", "features.4.0.conv1.weight"}) is None


@pytest.fixture
def published(tmp_path):
    """A file as torchvision publishes it, by random weights, and these."""

    def write(name, place=None):
        torch.manual_seed(1)
        state = torchvision_network(name, 224).state_dict()
        file = place or tmp_path / f"{name}.pth"
        if name.startswith("densenet"):  # its files are of an older Python, where names have dots
            old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.")
            state = {old.sub(r"\1.\2.", n): t for n, t in state.items() if "num_b" not in n}
        torch.save(state, file)
        return file, torchvision_network(name, 224), state

    return write


@pytest.mark.parametrize(
    "name", ["shufflenet_v2_x0_5", pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_a_published_file_is_read_strictly_and_embeds_as_its_conversion(published, tmp_path, name):
    file, network, state = published(name)
    trunk = read_backbone_weights(file, name, 224)
    # By torchvision's own names, whatever those in the file.
    assert trunk.keys() == meta_trunk(name).state_dict().keys()
    loaded = network.load_state_dict(trunk, strict=False)
    assert not loaded.unexpected_keys
    assert all(n.startswith(("classifier.", "fc.")) for n in loaded.missing_keys)
    assert sum(float(t.sum()) for t in trunk.values() if t.is_floating_point()) == pytest.approx(
        sum(
            float(t.sum())
            for n, t in state.items()
            if t.is_floating_point() and not n.startswith(("classifier.", "fc."))
        ),
        rel=1e-6,
    )
    model = load_model(file)
    assert (model.config.backbone, model.config.embedding_dim) == (name, None)
    report = convert_weights(file, tmp_path / "new.safetensors")
    assert report.fingerprint == model.info.fingerprint
    assert load_model(tmp_path / "new.safetensors").config == model.config
    assert all("classifier" in why for why in report.dropped.values())
    with pytest.raises(CheckpointError, match=f"weights of {name}; the network to train is vgg11"):
        read_backbone_weights(file, "vgg11", 224)


def test_a_file_that_fits_no_member_is_refused_with_the_nearest(published):
    file, _, state = published("shufflenet_v2_x0_5")
    torch.save({n: t for n, t in state.items() if not n.startswith("conv5.1.")}, file)
    with pytest.raises(CheckpointError) as caught:
        load_model(file)
    found = "the nearest, shufflenet_v2_x0_5, differs in 5 entries, first conv5.1.weight"
    assert found in caught.value.what


def test_a_name_takes_the_published_weights_from_torchvisions_cache(
    published, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "shufflenet_v2_x0_5"
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    file, *_ = published(name, cache / Path(imagenet_weights(name).url).name)
    model, same = load_model(name), load_model(file)
    assert model.info.fingerprint == same.info.fingerprint
    assert model.info.source == name
    torch.save({}, file)
    with pytest.raises(CheckpointError) as caught:
        load_model(name)
    assert f"remove `{file}`" in caught.value.hint


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of ours with a backbone of that name."""

    def save(name, size=64):
        torch.manual_seed(0)
        config = CGDConfig(
            name, STANDARD, embedding_dim=8, classes=3, transform=Transform(image_size=size)
        )
        model = CGD(config).eval()
        path = tmp_path / "ours.safetensors"
        Checkpoint(config, model.state_dict()).save(path)
        return path, model

    return save


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_our_checkpoint_goes_back_to_torchvision_and_is_read_again(saved, tmp_path):
    path, model = saved("mobilenet_v3_small")
    report = export_weights(path, Foreign.torchvision, tmp_path / "back.pth")
    network = torchvision_network("mobilenet_v3_small", 224)
    loaded = network.load_state_dict(torch.load(tmp_path / "back.pth"), strict=False)
    assert not loaded.unexpected_keys
    assert all(n.startswith("classifier.") for n in loaded.missing_keys)
    assert any("without its classifier" in note for note in report.notes)
    for file in (tmp_path / "back.pth", path):
        assert equal(
            read_backbone_weights(file, "mobilenet_v3_small", 64), model.backbone.state_dict()
        )
    for to in (Foreign.timm, Foreign.reference):
        with pytest.raises(MismatchError, match="backbone mobilenet_v3_small"):
            export_weights(path, to, tmp_path / "no.pth")


def test_a_bare_state_dict_of_ours_converts_back(saved, tmp_path):
    _, model = saved("shufflenet_v2_x0_5")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    report = convert_weights(tmp_path / "bare.pth", tmp_path / "again.safetensors")
    assert report.config["backbone"] == "shufflenet_v2_x0_5"
    assert report.config["stride"] == "standard"
    assert not any("stride" in words for words in report.assumed)


timm = pytest.importorskip("timm")


def test_our_checkpoint_goes_back_to_timm_and_is_read_again(saved, tmp_path):
    path, model = saved("timm:test_resnet")
    report = export_weights(path, Foreign.timm, tmp_path / "back.pth")
    network = timm.create_model("test_resnet", num_classes=0)
    network.load_state_dict(torch.load(tmp_path / "back.pth"), strict=True)
    assert any("timm.create_model('test_resnet'" in note for note in report.notes)
    for file in (tmp_path / "back.pth", path):
        assert equal(
            read_backbone_weights(file, "timm:test_resnet", 64), model.backbone.state_dict()
        )
    for to in (Foreign.torchvision, Foreign.reference):
        with pytest.raises(MismatchError, match="backbone timm:test_resnet") as caught:
            export_weights(path, to, tmp_path / "no.pth")
        assert "--to timm" in caught.value.hint


def test_what_timm_has_after_the_map_is_not_asked_of_our_file(saved, tmp_path):
    path, _ = saved("timm:test_convnext")
    report = export_weights(path, Foreign.timm, tmp_path / "back.pth")
    network = timm.create_model("test_convnext", num_classes=0)
    left = network.load_state_dict(torch.load(tmp_path / "back.pth"), strict=False)
    assert not left.unexpected_keys and all(n.startswith("head.") for n in left.missing_keys)
    assert any("by strict=False: its map does not need head" in note for note in report.notes)
    trunk = read_backbone_weights(tmp_path / "back.pth", "timm:test_convnext", 64)
    assert timm_converted("timm:test_convnext", 64, trunk).keys() == network.state_dict().keys()


@pytest.mark.parametrize("bare", [False, True])
def test_our_tables_of_another_size_are_resized_by_timm(saved, tmp_path, bare):
    path, model = saved("timm:test_coatnet")
    if bare:
        path = tmp_path / "bare.pth"
        torch.save(model.state_dict(), path)
    trunk = read_backbone_weights(path, "timm:test_coatnet", 96)
    shapes = {n: t.shape for n, t in meta_timm_trunk("timm:test_coatnet", 96).state_dict().items()}
    ours = model.backbone.state_dict()
    assert {n: t.shape for n, t in trunk.items()} == shapes
    assert shapes != {n: t.shape for n, t in ours.items()}
    assert all(torch.equal(trunk[n], t) for n, t in ours.items() if t.shape == shapes[n])


def timm_file(tmp_path, name, **options):
    torch.manual_seed(2)
    network = timm.create_model(name, **options)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "t.pth")
    return tmp_path / "t.pth", network.state_dict()


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("test_resnet", 64, {}),
        ("test_convnext", 64, {"num_classes": 98}),
        ("test_vit", 96, {}),
        ("test_efficientnet", 64, {"num_classes": 0}),
    ],
)
def test_a_file_of_timms_is_read_whole(tmp_path, name, size, options):
    file, state = timm_file(tmp_path, name, **options)
    trunk = read_backbone_weights(file, f"timm:{name}", size)
    assert all(torch.equal(trunk[n], state[n]) for n in trunk)
    assert all(n.startswith(("fc", "head", "classifier")) for n in state.keys() - trunk.keys())


def test_tables_of_another_size_are_resized_by_timm(tmp_path):
    file, _ = timm_file(tmp_path, "test_vit_relpos")
    trunk = read_backbone_weights(file, "timm:test_vit_relpos", 96)
    other = timm.create_model("test_vit_relpos", img_size=96, num_classes=0)
    assert {n: t.shape for n, t in trunk.items()}.items() <= {
        n: t.shape for n, t in other.state_dict().items()
    }.items()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "24 entries lacking, first layer3.0.conv1.weight"),
        ("added", ": 1 entry unknown, first layer5.0.conv1.weight"),
        ("another", "unknown, first conv_stem.weight"),
    ],
)
def test_timm_does_not_let_entries_pass_that_do_not_belong(tmp_path, change, words):
    """Asked for a network without classifier, it takes what is missing as it was drawn."""
    file, state = timm_file(tmp_path, "test_resnet")
    if change == "missing":
        state = {n: t for n, t in state.items() if not n.startswith("layer3.")}
    if change == "added":
        state |= {"layer5.0.conv1.weight": torch.zeros(3)}
    if change == "another":
        state = timm.create_model("test_efficientnet").state_dict()
    torch.save(state, file)
    with pytest.raises(
        CheckpointError, match="other weights than those of timm:test_res"
    ) as caught:
        read_backbone_weights(file, "timm:test_resnet", 64)
    assert words in caught.value.what and "Error" not in caught.value.what


def test_a_resnet_that_only_timm_has_is_answered_with_where_it_can_be_used(tmp_path):
    with torch.device("meta"):
        state = timm.create_model("seresnet50").state_dict()
    torch.save({n: torch.zeros(1) for n in state}, tmp_path / "se.pth")
    for read in (load_model, lambda file: read_backbone_weights(file, "resnet50", 64)):
        with pytest.raises(CheckpointError, match="channel attention") as caught:
            read(tmp_path / "se.pth")
        assert "--backbone timm:NAME" in caught.value.hint


def test_published_weights_of_timm(tmp_path, monkeypatch, cgd):
    """As from the hub: what is fetched is timm's to fetch."""
    _, state = timm_file(tmp_path, "test_vit")
    asked = []

    def fetched(hub_id, *args, **kwargs):
        asked.append(hub_id)
        return dict(state)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetched)
    model = load_model("timm:test_vit")
    assert asked == ["timm/test_vit.r160_in1k"]
    assert model.config.transform == Transform(160, (0.5,) * 3, (0.5,) * 3)
    kept = model.backbone.state_dict()
    assert all(torch.equal(kept[n], state[n]) for n in kept)

    def offline(*args, **kwargs):
        raise OSError("no route to the hub\nand more")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(CheckpointError, match="no route to the hub") as caught:
        load_model("timm:test_vit")
    assert "--backbone-weights FILE" in caught.value.hint


def test_a_network_that_timm_publishes_no_weights_of():
    with pytest.raises(CheckpointError, match="publishes no weights of timm:") as caught:
        load_model("timm:convnext_atto_rms")
    assert "--backbone-weights" in caught.value.hint


def test_every_name_can_be_asked_for():
    assert len(TORCHVISION) == len(OTHERS) + len(FAMILIES["ResNet"])


def test_a_misspelt_model_is_answered_with_the_nearest_backbone():
    with pytest.raises(CheckpointError) as caught:
        load_model("efficientnet_bo")
    assert "did you mean efficientnet_b0" in caught.value.hint
    with pytest.raises(CheckpointError) as caught:
        load_model("runs/nothing.safetensors")
    assert "did you mean" not in caught.value.hint
