"""Indexes of made-up rows over pictures that are there, for the tests of what is found in them."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture

DIM = 8


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def turned(*degrees):
    """Rows in a plane, at so many degrees: the cosine of two is that of their difference."""
    angles = np.deg2rad(degrees)
    rows = np.zeros((len(degrees), DIM))
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    return unit(rows)


def draw(file, colour=(200, 30, 30), size=(24, 16)):
    """A picture of one colour; the same colour and size, the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return file


def index_of(path, rows, names, root, labels=None, **facts):
    """`path`, an index of `rows`, of the files `names` below `root`, as they are now."""
    names = list(names)
    labels = labels or [None] * len(names)
    pictures = []
    for name, label in zip(names, labels, strict=True):
        file = Path(root) / name
        status, data = file.stat(), file.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        pictures.append(
            Picture(Path(root), name, label, status.st_size, status.st_mtime_ns, sha256)
        )
    with IndexBuilder(path, rows.shape[1]) as builder:
        builder.append(rows, pictures)
        builder.finish(
            IndexHeader(
                rows=0,
                dim=rows.shape[1],
                model={"source": "m.safetensors", "fingerprint": "f" * 64},
                engine="torch",
                precision="fp32",
                blocks=None,
                sources=[str(root)],
                **facts,
            )
        )
    return path
