"""The reference's data bases become indexes that search reads: every historic shape."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cgdcli.config import CGDConfig, SearchConfig, Transform
from cgdcli.conversion import convert_data_base, is_data_base_file
from cgdcli.embedding import embed_images
from cgdcli.errors import CheckpointError, MismatchError, OutputError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD
from cgdcli.retrieval import search_images
from cgdcli.weights.checkpoint import Checkpoint

NAME = "car_uncropped_resnet18_SG_16_0.1_0.5_0.1_128_data_base.pth"
CONFIG = CGDConfig(embedding_dim=16, transform=Transform(image_size=32))


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def unit_rows(count, dim=16, blocks=2, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, blocks, dim // blocks))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True) * blocks**0.5
    return torch.from_numpy(rows.reshape(count, dim).astype(np.float32))


def part(name, count, seed=0, **change):
    return {
        f"{name}_images": [f"/old/car/{name}_{i}.jpg" for i in range(count)],
        f"{name}_labels": [i // 2 for i in range(count)],
        f"{name}_features": unit_rows(count, seed=seed),
    } | change


def save(folder, content, name=NAME):
    torch.save(content, folder / name)
    return folder / name


SHAPES = {
    "head": (part("test", 6), "test"),
    "isc": (part("test", 4) | part("gallery", 8, 1), "gallery"),
    "first days": (part("train", 10, 2) | part("test", 6) | part("gallery", 6), "gallery"),
    "a day later": (part("train", 10, 2) | part("test", 6), "test"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_becomes_an_index(folder, shape):
    content, chosen = SHAPES[shape]
    report = convert_data_base(save(folder, content))
    assert report.part == chosen and set(report.parts) == {k.split("_")[0] for k in content}
    assert report.target == (folder / NAME).with_suffix(".npy")
    with EmbeddingIndex.open(report.target) as index:
        assert np.array_equal(np.array(index.rows), content[f"{chosen}_features"].numpy())
        assert index.labels() == [str(label) for label in content[f"{chosen}_labels"]]
        files = [str(index.file(row)) for row in range(len(index))]
        assert files == content[f"{chosen}_images"]
        assert [tuple(b) for b in index.header.blocks] == [("S", 0, 8), ("G", 8, 16)]


def test_another_part_can_be_asked_for(folder):
    source = save(folder, SHAPES["isc"][0])
    assert convert_data_base(source, folder / "q.npy", part="test").rows == 4
    with pytest.raises(CheckpointError, match="no part `train`"):
        convert_data_base(source, folder / "t.npy", part="train")


def test_long_rows_of_the_first_days_are_brought_to_length_one(folder):
    content = part("test", 6)
    content["test_features"] = content["test_features"] * 2**0.5
    report = convert_data_base(save(folder, content))
    assert report.normalized
    assert np.allclose(np.linalg.norm(np.load(report.target), axis=1), 1, atol=1e-6)


def test_blocks_are_only_recorded_where_the_columns_bear_them_out(folder):
    uneven = part("test", 6, test_features=unit_rows(6, blocks=1))
    assert convert_data_base(save(folder, uneven)).descriptors is None
    assert convert_data_base(save(folder, part("test", 6), "x.pth")).descriptors is None


def test_rows_are_searched_by_number_without_a_model(folder):
    content = part("test", 6)
    report = convert_data_base(save(folder, content))
    hits = search_images(["row:0"], report.target, SearchConfig(k=3)).results[0].hits
    rows = content["test_features"].numpy()
    assert [hit.row for hit in hits] == list(np.argsort(-(rows @ rows[0]), kind="stable")[:3])


def test_searching_by_picture_wants_the_model(folder):
    report = convert_data_base(save(folder, part("test", 6)))
    Image.new("RGB", (40, 40), "red").save(folder / "q.png")
    with pytest.raises(MismatchError, match="does not say which model") as caught:
        search_images([folder / "q.png"], report.target, SearchConfig(k=3))
    assert "--model" in caught.value.hint


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    place = tmp_path_factory.mktemp("scene")
    (place / "imgs").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        tile = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(tile).resize((50, 40)).save(place / "imgs" / f"{i:02}.png")
    for name, seed in (("model", 0), ("other", 1)):
        torch.manual_seed(seed)
        Checkpoint(CONFIG, dict(CGD(CONFIG).state_dict())).save(place / f"{name}.safetensors")
    embed_images([place / "imgs"], place / "new.npy", model=place / "model.safetensors")
    files = sorted((place / "imgs").iterdir())
    content = {
        "test_images": [str(file) for file in files],
        "test_labels": [i // 3 for i in range(12)],
        "test_features": torch.from_numpy(np.load(place / "new.npy")),
    }
    torch.save(content, place / NAME)
    yield place
    shutil.rmtree(place)


def test_its_model_is_proved_recorded_and_used_by_search(scene, folder):
    report = convert_data_base(scene / NAME, folder / "old.npy", model=scene / "model.safetensors")
    assert report.proved_on == 8 and report.there == 12
    query = scene / "imgs" / "05.png"
    old, new = (
        search_images([query], index, SearchConfig(k=5)).results[0].hits
        for index in (report.target, scene / "new.npy")
    )
    assert [hit.path for hit in old] == [hit.path for hit in new]
    assert old[0].similarity == pytest.approx(1, abs=1e-5)


def test_another_model_is_refused(scene, folder):
    with pytest.raises(MismatchError, match="did not make these embeddings"):
        convert_data_base(scene / NAME, folder / "old.npy", model=scene / "other.safetensors")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_labels": [0, 1]}, "2 labels"),
        ({"test_images": ["a.jpg"]}, "1 paths"),
        ({"test_images": "abcdef"}, "no list of paths"),
        ({"test_features": torch.zeros(6)}, "no matrix"),
        ({"test_features": torch.zeros(6, 16, dtype=torch.int64)}, "no matrix"),
        ({"test_features": torch.full((6, 16), float("nan"))}, "NaN"),
        ({"test_features": torch.zeros(6, 16)}, "all zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_ones_are_refused_and_nothing_is_written(folder, change, words):
    source = save(folder, part("test", 6) | change)
    with pytest.raises(CheckpointError, match=words):
        convert_data_base(source)
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_existing_index_stays(folder):
    source = save(folder, part("test", 6))
    target = source.with_suffix(".npy")
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        convert_data_base(source)
    assert target.read_bytes() == b"precious"


def test_weights_are_no_data_base(folder):
    torch.save({"conv1.weight": torch.zeros(1)}, folder / "x.pth")
    assert not is_data_base_file(folder / "x.pth")
    assert is_data_base_file(save(folder, part("test", 2)))
