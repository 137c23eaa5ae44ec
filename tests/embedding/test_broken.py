"""Six hundred damaged pictures: each is embedded as itself or skipped with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from cli_toys import picture

from cgdcli import embed_images
from cgdcli.config import CGDConfig, EmbedConfig, Transform
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.images.decoding import read_image
from cgdcli.images.transforms import eval_pixels
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD

KINDS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp"}
OF_EACH = 100


def whole(kind, number):
    buffer = io.BytesIO()
    picture("red", number).save(buffer, kind)
    return buffer.getvalue()


def flipped(data, rng):
    damaged = bytearray(data)
    for bit in rng.integers(0, 8 * len(data), int(rng.integers(1, 9))):
        damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def cut(data, rng):
    return data[: int(rng.integers(0, len(data)))]


def spliced(data, rng):
    """A piece of it is missing, or there twice."""
    a, b = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:a] + data[b:] if rng.random() < 0.5 else data[:b] + data[a:]


def lying(data, rng):
    """Large numbers where a header has sizes and lengths."""
    damaged = bytearray(data)
    place = int(rng.integers(2, min(64, len(data) - 4)))
    value = int(rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
    damaged[place : place + 4] = struct.pack(">I" if rng.random() < 0.5 else "<I", value)
    return bytes(damaged)


def png_that_claims(width, height):
    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken") / "imgs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    ways = (flipped, cut, spliced, lying)
    for kind, suffix in KINDS.items():
        for number in range(OF_EACH):
            data = ways[number % 4](whole(kind, number), rng)
            (folder / f"{number:03d}-{ways[number % 4].__name__}.{suffix}").write_bytes(data)
        (folder / f"whole.{suffix}").write_bytes(whole(kind, 200))
    for width, height in ((60_000, 60_000), (1, 2**31 - 1), (0, 10), (20_000, 1)):
        (folder / f"claims-{width}x{height}.png").write_bytes(png_that_claims(width, height))
    return folder


def test_no_crash_no_wrong_row_and_a_reason_for_each(corpus):
    torch.manual_seed(0)
    model = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=16))
    index = corpus.parent / "f.npy"
    report = embed_images(corpus, index, model=model, config=EmbedConfig(batch_size=8))
    files = list(corpus.iterdir())
    assert len(files) > 600 and report.rows + len(report.skipped) == len(files)
    assert len(report.skipped) > 200 and all(image.reason for image in report.skipped)
    assert not any("whole" in image.path for image in report.skipped)
    engine = TorchEngine(model)
    with EmbeddingIndex.open(index) as opened:
        for row, found in opened.pictures():
            image, content = read_image(corpus / found.path)
            alone = engine.embed(eval_pixels(image, 32)[None])[0]
            assert content == found.sha256
            assert np.abs(opened.rows[row] - alone).max() < 1e-5, found.path
