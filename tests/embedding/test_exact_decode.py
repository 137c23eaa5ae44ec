"""A JPEG much larger than the input is decoded at a fraction of its size, unless told otherwise;
an index records it, and its queries are decoded alike."""

import numpy as np
import pytest
import torch
from PIL import Image

from cgdcli import embed_images, search_images
from cgdcli.config import CGDConfig, EmbedConfig, SearchConfig, Transform
from cgdcli.errors import MismatchError
from cgdcli.images.decoding import decode_image
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD

RNG = np.random.default_rng(0)
LARGE = (300, 200)  # at 32 px: 64 suffice, so a half of it


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))


@pytest.fixture
def imgs(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name, size in {"large.jpg": LARGE, "small.jpg": (100, 127), "large.png": LARGE}.items():
        noise = RNG.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def embed(model, imgs, tmp_path):
    def run(exact, name="f.npy"):
        config = EmbedConfig(4, 1, engine="torch", exact_decode=exact)
        return embed_images(imgs, tmp_path / name, model=model, config=config)

    return run


@pytest.fixture
def sizes(monkeypatch):
    """Widths and heights that pictures were resized from."""
    seen = []
    real = Image.Image.resize

    def resize(image, *arguments, **options):
        seen.append(image.size)
        return real(image, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", resize)
    return seen


def test_only_a_jpeg_much_larger_than_the_input_is_decoded_smaller(embed, sizes):
    embed(exact=False)
    assert sizes == [(150, 100), LARGE, (100, 127)]  # in byte order of names
    sizes.clear()
    embed(exact=True, name="exact.npy")
    assert sizes == [LARGE, LARGE, (100, 127)]


def test_rows_of_the_others_are_the_same_to_the_bit_and_its_own_is_near(embed, tmp_path):
    embed(exact=False)
    embed(exact=True, name="exact.npy")
    scaled, exact = (np.load(tmp_path / name) for name in ("f.npy", "exact.npy"))
    assert np.array_equal(scaled[1:], exact[1:])
    assert 0.99 < scaled[0] @ exact[0] < 1 - 1e-9


@pytest.mark.parametrize("exact", [False, True])
def test_queries_are_decoded_as_the_index_was(embed, imgs, model, tmp_path, exact):
    embed(exact)
    with EmbeddingIndex.open(tmp_path / "f.npy") as index:
        assert index.header.decode == ("exact" if exact else "scaled")
    found = search_images(imgs / "large.jpg", tmp_path / "f.npy", SearchConfig(k=1), model=model)
    hit = found.results[0].hits[0]
    assert hit.path.endswith("large.jpg")
    assert hit.similarity == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_rows_of_both_kinds_are_not_mixed(embed, exact):
    embed(exact)
    with pytest.raises(MismatchError, match="decoding, and its new rows would be with") as caught:
        embed(not exact)
    assert ("add" if exact else "leave") in caught.value.hint


def test_a_picture_turned_by_its_exif_is_decoded_smaller_as_well(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", LARGE).save(tmp_path / "turned.jpg", exif=exif)
    data = (tmp_path / "turned.jpg").read_bytes()
    assert decode_image(data, at_least=(64, 64)).size == (100, 150)
