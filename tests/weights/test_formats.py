"""Foreign names: every one becomes ours, none twice, and file names say what they say."""

import pytest
from reference import checkpoints, outputs, reference_name

from cgdcli.config import RESNETS, CGDConfig
from cgdcli.model.cgd import meta_model
from cgdcli.weights.foreign import FORMATS
from cgdcli.weights.formats import first_match
from cgdcli.weights.formats.own import OWN
from cgdcli.weights.formats.reference import REFERENCE, FileNameFacts, read_file_name
from cgdcli.weights.formats.torchvision import TORCHVISION
from cgdcli.weights.wrappers import PROFILER_ENTRIES

KNOWN = checkpoints()["models"]


def our_names(backbone, letters="SMG"):
    config = CGDConfig(backbone, descriptors=letters, embedding_dim=12, classes=2)
    return list(meta_model(config).state_dict())


def ours(form, name):
    renamed = form.rename(name)
    return renamed and renamed[0]


@pytest.mark.parametrize("model", KNOWN)
def test_golden_names_become_exactly_ours(model):
    backbone, letters, *_ = model.split("_")
    names = [ours(REFERENCE, name) for name, *_ in KNOWN[model]["clean"]]
    full = {"resnext50": "resnext50_32x4d"}.get(backbone, backbone)
    assert names == our_names(full, letters)


@pytest.mark.parametrize("backbone", list(RESNETS), ids=str)
def test_reference_and_torchvision_names_come_back(backbone):
    for name in our_names(backbone):
        assert ours(REFERENCE, reference_name(name)) == name
        assert ours(OWN, name) == name
        if name.startswith("backbone."):
            assert ours(TORCHVISION, name.removeprefix("backbone.")) == name


@pytest.mark.parametrize("form", FORMATS, ids=lambda f: f.name)
def test_each_format_recognises_only_its_own_names(form):
    ours = our_names("resnet18")
    names = {
        OWN.name: set(ours),
        REFERENCE.name: {reference_name(name) for name in ours},
        TORCHVISION.name: {n.removeprefix("backbone.") for n in ours if n[:4] == "back"},
    }
    for name, those in names.items():
        assert form.recognises(those, {}) == (name == form.name)


@pytest.mark.parametrize(
    "name",
    [
        "features.2.weight",
        "features.8.weight",
        "feature.0.weight",
        "features.0",
        "main_modules.0.1.weight",
        "main_modules.0.0.bias",
        "main_modules.x.0.weight",
        "auxiliary_module.2.weight",
        "xfeatures.0.weight",
        "total_ops",
    ],
)
def test_names_that_the_reference_never_had_are_unknown(name):
    assert REFERENCE.rename(name) is None


def test_torchvision_drops_its_classifier_alone():
    assert first_match(TORCHVISION.dropped, "fc.weight").why
    assert first_match(TORCHVISION.dropped, "fc.bias").why
    assert first_match(TORCHVISION.dropped, "conv1.weight") is None
    assert TORCHVISION.rename("fc2.weight") is None


def test_no_real_name_ends_like_a_profilers_entry():
    for name in our_names("resnet50"):
        assert name.rsplit(".", 1)[-1] not in PROFILER_ENTRIES


@pytest.mark.parametrize("config", outputs()["configs"], ids=lambda c: c["gd_config"])
@pytest.mark.parametrize("end", ["128_model.pth", "128_10_epoch_model.pth", "64_data_base.pth"])
def test_reference_file_names_are_read(config, end):
    backbone, letters, dim = (
        config[key] for key in ("reference_file_name_backbone", "gd_config", "feature_dim")
    )
    name = f"car_uncropped_{backbone}_{letters}_{dim}_0.1_0.5_0.1_{end}"
    assert read_file_name(name) == FileNameFacts(backbone, letters, dim)


# Its means before 2 March 2020, in the file names of those days.
CUB = ((0.4707, 0.4601, 0.4549), (0.2767, 0.2760, 0.2850))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("cub_cropped_resnext50_MSG_768_0.5_0.1_model.pth", ("resnext50", "MSG", 768, *CUB)),
        ("isc_uncropped_resnet101_G_64_1_1_1_1_model.pth", ("resnet101", "G", 64)),
        ("a_b_wide_resnet50_2_SM_512_x.pth", ("wide_resnet50_2", "SM", 512)),
        ("a_b_resnext101_32x8d_SM_512_x.pth", ("resnext101_32x8d", "SM", 512)),
    ],
)
def test_kin_of_those_names_are_read(name, facts):
    assert read_file_name(name) == FileNameFacts(*facts)


@pytest.mark.parametrize(
    "name",
    [
        "old.pth",
        "resnet50_SG_1536.pth",
        "car_uncropped_1536_model.pth",
        "car_uncropped_resnet50_XY_1536_0.1_model.pth",
        "car_uncropped_resnet50_SMGS_1536_0.1_model.pth",
        "car_uncropped_vgg16_SG_1536_0.1_model.pth",
        "",
    ],
)
def test_other_names_say_nothing(name):
    assert read_file_name(name) is None
