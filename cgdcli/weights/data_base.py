"""The reference's `*_data_base.pth`: embeddings with paths and labels (leftthomas/CGD train.py).

One dict of lists and tensors by part: `test_images`, `test_labels`, `test_features`; for In-shop
the `test_*` are the queries and `gallery_*` stand beside them. Files of 1 March 2020 also hold
`train_*`. It says neither configuration nor class names: labels are numbers, by part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cgdcli.errors import CheckpointError
from cgdcli.weights.reading import read_content

PARTS = ("gallery", "test", "train")


@dataclass(frozen=True)
class DataBasePart:
    """One part: paths as they were given to the reference, labels, embeddings.

    Attributes:
        rows: float32 (N, D), as stored; unit since 2 March 2020, of norm sqrt(descriptors) before.
    """

    name: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    rows: NDArray[np.float32]


def is_data_base(content: Any) -> bool:
    """Whether what a file holds looks like one."""
    return isinstance(content, Mapping) and any(f"{part}_features" in content for part in PARTS)


def read_data_base(path: Path) -> dict[str, DataBasePart]:
    """The parts of a file, by name, in the order of `PARTS`.

    Raises:
        CheckpointError: unreadable, or not one of these, or its lists are of unequal lengths.
    """
    content = read_content(path)
    if not is_data_base(content):
        raise CheckpointError(
            f"`{path}` is no data base of the reference: it has no test_features",
            hint="name the file that ends in _data_base.pth",
        )
    return {part: _part(path, part, content) for part in PARTS if f"{part}_features" in content}


def _part(path: Path, part: str, content: Mapping[str, Any]) -> DataBasePart:
    rows = content[f"{part}_features"]
    images, labels = content.get(f"{part}_images"), content.get(f"{part}_labels")
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.is_floating_point():
        raise _odd(path, f"{part}_features is no matrix of numbers")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise _odd(path, f"{part}_images is no list of paths")
    if not isinstance(labels, list) or not len(images) == len(labels) == len(rows):
        raise _odd(
            path,
            f"{part} has {len(rows)} embeddings, {len(images)} paths and "
            f"{len(labels) if isinstance(labels, list) else 'no'} labels",
        )
    array = rows.to(torch.float32).numpy()
    if not len(array) or not np.isfinite(array).all():
        raise _odd(path, f"{part}_features is empty, or holds NaN or infinity")
    names = tuple(str(int(v) if isinstance(v, Tensor) else v) for v in labels)
    return DataBasePart(part, tuple(images), names, array)


def _odd(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"`{path}` looks like a data base of the reference, but {found}",
        hint="it was cut or edited; take the original",
    )
