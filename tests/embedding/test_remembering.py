"""What a precision has shown is asked again only of another sample."""

import os

import pytest
import torch
from cli_toys import draw

from cgdcli import embed_images
from cgdcli.config import CGDConfig, EmbedConfig, Transform
from cgdcli.embedding import engines, parity, remembering
from cgdcli.embedding.parity import Parity
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD

FIGURES = Parity(40, 0.99, 0.995, 0.975)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/cgd/parity"


@pytest.fixture
def files(tmp_path):
    return [draw(tmp_path / f"imgs/{n}.png", ["red", "green"][n % 2], n) for n in range(30)]


def test_figures_come_back_and_no_others(files, cache):
    bf16 = EmbedConfig(precision="bf16")
    key = remembering.sample_key("f" * 64, files, bf16)
    assert remembering.remembered(key) is None
    remembering.remember(key, FIGURES)
    assert remembering.remembered(key) == FIGURES
    assert remembering.sample_key("f" * 64, files, bf16) == key
    others = [
        remembering.sample_key("e" * 64, files, bf16),
        remembering.sample_key("f" * 64, files[1:], bf16),
        remembering.sample_key("f" * 64, files, EmbedConfig(precision="int8")),
        remembering.sample_key("f" * 64, files, EmbedConfig(precision="bf16", exact_decode=True)),
    ]
    os.utime(files[3], (1, 1))
    others.append(remembering.sample_key("f" * 64, files, bf16))
    assert len({key, *others}) == 6
    files[3].unlink()
    assert remembering.sample_key("f" * 64, files, bf16) is None
    (file,) = cache.iterdir()
    file.write_text("{}")
    assert remembering.remembered(key) is None


def test_only_the_last_ones_are_kept(cache, monkeypatch):
    monkeypatch.setattr(remembering, "KEPT", 2)
    for number in range(4):
        remembering.remember(str(number), FIGURES)
        os.utime(cache / f"{number}.json", (number, number))
    assert sorted(file.name for file in cache.iterdir()) == ["2.json", "3.json"]


def test_a_rebuild_is_not_compared_again_unless_more_is_wanted(files, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8)).eval()
    monkeypatch.setitem(parity.WANTED, "bf16", 0.0)
    compared = []
    real = parity.compare_rows
    monkeypatch.setattr(parity, "compare_rows", lambda *r: compared.append(1) or real(*r))

    def embed():
        config = EmbedConfig(precision="bf16", engine="torch", workers=1)
        embed_images(files, tmp_path / "f.npy", model=model, rebuild=True, config=config)
        return EmbeddingIndex.open(tmp_path / "f.npy").header.parity

    first = embed()
    assert embed() == first and len(compared) == 1
    assert engines.WANTED is parity.WANTED
    monkeypatch.setitem(parity.WANTED, "bf16", first["neighbours"] + 1e-9)
    with pytest.raises(parity.MismatchError, match="does not find"):
        embed()
