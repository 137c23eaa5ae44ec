"""Readings are measured: the old code's own embeddings prove one, labels give evidence."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from reference import GOLDEN, PICTURES, config_state_dict, outputs

from cgdcli.config import CGDConfig, ConvertConfig, StrideMode, Transform, TrialConfig
from cgdcli.conversion import convert_weights, try_readings
from cgdcli.conversion.trial import _agreement
from cgdcli.embedding import embed_images
from cgdcli.errors import DatasetError, MismatchError
from cgdcli.judging.intervals import class_interval
from cgdcli.model.cgd import CGD
from cgdcli.weights.checkpoint import Checkpoint
from cgdcli.weights.formats.reference import REFERENCE
from cgdcli.weights.loading import load_model


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def golden_configs(backbone="resnet18"):
    return [c for c in outputs()["configs"] if c["backbone"] == backbone and "embedding" in c]


EVERY = [
    pytest.param(c, marks=() if c["gd_config"] in ("SG", "GS") else pytest.mark.slow)
    for c in golden_configs()
]


@pytest.mark.parametrize("config", EVERY, ids=lambda c: c["gd_config"])
def test_the_references_own_embeddings_prove_the_reading(config, folder):
    """Figures of the reference's own code; order of letters and stride are found, not told."""
    torch.save(config_state_dict(config), folder / "old.pth")
    np.save(folder / "old.npy", np.array(config["embedding"], dtype=np.float32))
    said = ConvertConfig(image_size=224, mean=Transform.mean, std=Transform.std)
    report = try_readings(folder / "old.pth", GOLDEN / "pictures", said, against=folder / "old.npy")
    best = report.scores[0]
    assert report.decided and best.max_difference < 1e-9 and best.neighbour_agreement == 1
    assert best.reading["stride"] == "layer3"
    assert best.reading["descriptors"] == config["gd_config"]
    assert report.scores[1].mean_difference > 1e-4
    assert f"--descriptors {config['gd_config']}" in report.options


TINY = Transform(image_size=48)


def draw_classes(folder, classes=6, each=4):
    """Classes that differ in texture and colour."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        (folder / f"c{c}").mkdir(parents=True)
        base = rng.integers(0, 256, (6, 6, 3))
        for i in range(each):
            noise = rng.integers(-25, 25, (6, 6, 3))
            tile = np.clip(base + noise, 0, 255).astype(np.uint8)
            picture = Image.fromarray(tile).resize((50 + 5 * i, 60), Image.Resampling.NEAREST)
            picture.save(folder / f"c{c}" / f"{i}.png")
    return folder


def old_checkpoint(path, config):
    """A random network with statistics of its own, saved under the reference's names."""
    torch.manual_seed(3)
    model = CGD(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)
    state = {REFERENCE.name_there(n): t for n, t in model.state_dict().items()}
    torch.save(state, path)
    return model.eval()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Pictures, an old file, and what the old code (here: another reading) made of them."""
    place = tmp_path_factory.mktemp("scene")
    draw_classes(place / "data")
    odd = Transform(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = CGDConfig(
        stride=StrideMode.layer4, descriptors="GM", embedding_dim=32, classes=2, transform=odd
    )
    model = old_checkpoint(place / "old.pth", config)
    Checkpoint(config, dict(model.state_dict())).save(place / "m.safetensors")
    embed_images([place / "data"], place / "feats.npy", model=place / "m.safetensors")
    yield place
    shutil.rmtree(place)


SAID = ConvertConfig(image_size=48)
IMAGENET = (Transform.mean, Transform.std)


def test_an_index_of_other_code_finds_stride_order_and_normalization(scene):
    report = try_readings(scene / "old.pth", None, SAID, against=scene / "feats.npy")
    reading = report.scores[0].reading
    assert report.decided
    assert (reading["stride"], reading["descriptors"]) == ("layer4", "GM")
    assert reading["normalization"] == "halves" and reading["image_size"] == 48
    assert report.pictures == 24


def test_converted_by_the_options_it_gives_the_same_rows(scene, folder):
    report = try_readings(scene / "old.pth", None, SAID, against=scene / "feats.npy")
    words = report.options.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    said = ConvertConfig(
        given["--descriptors"],
        StrideMode(given["--stride"]),
        float(given["--gem-p"]),
        int(given["--image-size"]),
        tuple(map(float, given["--mean"].split(","))),
        tuple(map(float, given["--std"].split(","))),
    )
    converted = convert_weights(scene / "old.pth", folder / "new.safetensors", said)
    assert converted.assumed == ()
    embed_images([scene / "data"], folder / "new.npy", model=converted.target)
    assert np.abs(np.load(folder / "new.npy") - np.load(scene / "feats.npy")).max() < 1e-5


def rows_of_another(folder, **changes):
    """Embeddings of the golden pictures by the golden SG weights, read in another way."""
    case = next(c for c in golden_configs() if c["gd_config"] == "SG")
    torch.save(config_state_dict(case), folder / "old.pth")
    convert_weights(folder / "old.pth", folder / "as.safetensors", ConvertConfig("SG", **changes))
    embed_images([GOLDEN / "pictures"], folder / "feats.npy", model=folder / "as.safetensors")
    (folder / "feats.sqlite").unlink()
    return folder / "old.pth"


def test_an_odd_p_is_found(folder):
    """Once p = 3 was called proved for rows made with 2.9."""
    old = rows_of_another(folder, gem_p=2.87)
    said = ConvertConfig("SG", StrideMode.layer3, image_size=224, mean=IMAGENET[0], std=IMAGENET[1])
    report = try_readings(old, GOLDEN / "pictures", said, against=folder / "feats.npy")
    assert report.decided and report.scores[0].reading["gem_p"] == 2.87


@pytest.mark.parametrize(
    "changes",
    [
        {"gem_p": 2.9},
        pytest.param({"gem_p": 2.5}, marks=pytest.mark.slow),
        pytest.param(
            {"mean": (0.48, 0.45, 0.40), "std": (0.23, 0.23, 0.23)}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_a_near_reading_is_not_called_proved(cgd, folder, changes):
    old = rows_of_another(folder, **changes)
    said = ["--descriptors", "SG", "--gem-p", "3", "--stride", "layer3", "--image-size", "224"]
    normal = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    given = ["--try", GOLDEN / "pictures", "--against", folder / "feats.npy"]
    ran = cgd("convert-weights", old, *given, *said, *normal)
    assert ran.code == 4 and "near" in ran.err and "hint: " in ran.err
    assert "proved" not in ran.out and "to convert by this reading" not in ran.out


def test_rows_that_no_reading_makes_are_not_proved(scene, folder):
    rows = np.load(scene / "feats.npy")
    other = np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    np.save(folder / "other.npy", other)
    report = try_readings(scene / "old.pth", scene / "data", SAID, against=folder / "other.npy")
    assert not report.decided and report.scores[0].max_difference > 0.1


@pytest.mark.parametrize("shape", [(23, 32), (24, 31)])
def test_rows_of_another_number_or_width_are_refused(scene, folder, shape):
    np.save(folder / "other.npy", np.ones(shape, dtype=np.float32))
    with pytest.raises(MismatchError):
        try_readings(scene / "old.pth", scene / "data", SAID, against=folder / "other.npy")


def data_base(images, labels, rows):
    return {
        "test_images": [str(i) for i in images],
        "test_labels": labels,
        "test_features": torch.from_numpy(rows),
    }


def test_a_data_base_whose_pictures_moved_is_matched_by_name(scene, folder):
    files = sorted((scene / "data").rglob("*.png"))
    gone = [f"/nowhere/{file.parent.name}/{file.name}" for file in files]
    rows = np.load(scene / "feats.npy") * 2**0.5  # as long as before 2 March 2020
    torch.save(data_base(gone, [0] * 24, rows), folder / "x_data_base.pth")
    report = try_readings(
        scene / "old.pth", scene / "data", SAID, against=folder / "x_data_base.pth"
    )
    assert report.decided and report.pictures == 24
    assert report.scores[0].reading["descriptors"] == "GM"
    with pytest.raises(DatasetError, match="not one of the 24 pictures"):
        try_readings(scene / "old.pth", None, SAID, against=folder / "x_data_base.pth")


def test_labels_give_recall_of_every_reading(scene):
    report = try_readings(scene / "old.pth", scene / "data", SAID)
    assert (report.pictures, report.classes) == (24, 6)
    recalls = [score.recall_at_1 for score in report.scores]
    assert recalls == sorted(recalls, reverse=True)
    seen = {(s.reading["stride"], s.reading["descriptors"]) for s in report.scores}
    assert len(seen) == 18  # three strides, six orders of two of S, M, G
    assert report.margin_low <= report.margin <= report.margin_high
    assert report.decided == (report.margin_low > 0)


def test_recall_is_that_of_evaluate(scene, folder):
    from cgdcli.evaluation import evaluate

    report = try_readings(scene / "old.pth", scene / "data", SAID)
    best = report.scores[0].reading
    said = ConvertConfig(
        best["descriptors"],
        StrideMode(best["stride"]),
        best["gem_p"],
        48,
        tuple(best["mean"]),
        tuple(best["std"]),
    )
    converted = convert_weights(scene / "old.pth", folder / "new.safetensors", said)
    measured = evaluate(scene / "data", model=converted.target)
    assert measured.recall[1] == pytest.approx(report.scores[0].recall_at_1)


def test_what_is_said_is_not_varied(scene):
    said = replace(SAID, descriptors="GM", stride=StrideMode.layer4, gem_p=3.0, mean=(0.5,) * 3)
    report = try_readings(scene / "old.pth", scene / "data", replace(said, std=(0.5,) * 3))
    assert len(report.scores) == 1 and report.margin is None


def test_pictures_limits_how_many_are_read(scene):
    trial = TrialConfig(pictures=9)
    report = try_readings(scene / "old.pth", None, SAID, against=scene / "feats.npy", trial=trial)
    assert report.pictures == 9


def test_nothing_to_try_on_is_refused(scene):
    with pytest.raises(DatasetError, match="no pictures"):
        try_readings(scene / "old.pth", None, SAID)


def test_broken_pictures_are_skipped_and_named(scene, folder):
    shutil.copytree(scene / "data", folder / "data")
    (folder / "data" / "c0" / "0.png").write_bytes(b"no picture")
    report = try_readings(
        scene / "old.pth", folder / "data", replace(SAID, stride=StrideMode.layer4)
    )
    assert [s.path for s in report.skipped] == [str(folder / "data" / "c0" / "0.png")]
    assert report.pictures == 23


def test_nothing_is_written(scene):
    before = sorted(scene.rglob("*"))
    try_readings(scene / "old.pth", None, SAID, against=scene / "feats.npy")
    assert sorted(scene.rglob("*")) == before


def test_margin_of_a_sure_thing_excludes_zero_and_of_chance_does_not():
    labels = np.repeat([f"c{i}" for i in range(20)], 5)
    ones, zeros = np.ones(100), np.zeros(100)
    assert class_interval(ones - zeros, labels) == (1.0, 1.0, 1.0)
    coin = np.random.default_rng(1).integers(0, 2, 100).astype(float)
    margin, low, high = class_interval(2 * coin - 1, labels)
    assert low < 0 < high and low < margin < high


def test_agreement_against_a_naive_count():
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=(12, 5)).astype(np.float32) for _ in range(2))
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    total = 0.0
    for i in range(12):
        near = [
            set(sorted((j for j in range(12) if j != i), key=lambda j: -float(x[i] @ x[j]))[:3])
            for x in (one, other)
        ]
        total += len(near[0] & near[1]) / 3
    assert _agreement(one, other, 3) == pytest.approx(total / 12)


def test_golden_pictures_are_those_of_the_figures():
    assert len(PICTURES) == 4


@pytest.mark.parametrize("letters", ["SG", "GS"])
def test_a_name_that_says_letters_is_believed(scene, folder, letters):
    name = f"car_uncropped_resnet18_{letters}_32_0.1_0.5_0.1_128_model.pth"
    shutil.copy(scene / "old.pth", folder / name)
    report = try_readings(folder / name, scene / "data", SAID)
    assert {score.reading["descriptors"] for score in report.scores} == {letters}


def test_model_from_a_trial_is_not_changed(scene):
    one = load_model(scene / "m.safetensors").info.fingerprint
    try_readings(scene / "old.pth", None, SAID, against=scene / "feats.npy")
    assert load_model(scene / "m.safetensors").info.fingerprint == one
