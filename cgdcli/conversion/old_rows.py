"""Embeddings that other code made, and which picture each of them is of."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import DatasetError, MismatchError
from cgdcli.images.finding import find_images
from cgdcli.index.records import sidecar
from cgdcli.index.rows import open_rows
from cgdcli.index.shards import parts_meant
from cgdcli.index.store import EmbeddingIndex
from cgdcli.weights.data_base import read_data_base

# Equal networks on two machines, or with two versions of PyTorch, differ by up to 1e-6 in cosine.
# p = 2.9 for 3 differs by 3e-5, another data set's mean and std by 6e-4, a wrong stride by 1e-2
# (a ResNet-18 of ImageNet, cars): only below this bound is a reading proved.
SAME_DIFFERENCE = 1e-5
# Below this bound it is near: half precision makes as much, and so does a p or a mean that is off.
NEAR_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class OldRows:
    """Pictures and their unit rows (N, D), float32."""

    files: tuple[Path, ...]
    rows: NDArray[np.float32]


def read_old_rows(path: Path, folder: Path | None) -> OldRows:
    """Read a data base of the reference, an index of ours, or an `.npy` alone.

    Args:
        folder: where the pictures are. The rows of an `.npy` alone are those of the folder's
            pictures in byte order of their paths; the others name their pictures, which are looked
            for where they were and in the folder, by as much of their path's end as is there.

    Raises:
        MismatchError: rows and pictures are not of one number.
        DatasetError: no picture of the rows is found.
    """
    in_parts = parts_meant(path) is not None
    if path.suffix == ".npy" and not sidecar(path).exists() and not in_parts:
        return _by_order(path, folder)
    if path.suffix in (".npy", ".sqlite") or in_parts:
        with EmbeddingIndex.open(path, root=folder) as index:
            names = [str(index.file(row)) for row in range(len(index))]
            rows = np.asarray(index.rows, dtype=np.float32)
    else:
        parts = read_data_base(path).values()
        names = [image for part in parts for image in part.images]
        rows = np.concatenate([part.rows for part in parts])
    return _by_name(path, names, rows, folder)


def _by_order(path: Path, folder: Path | None) -> OldRows:
    if folder is None:
        raise DatasetError(
            f"`{path}` does not say which pictures its rows are of",
            hint="name the folder of the pictures, in byte order of their paths: --try DIR",
        )
    files = [image.file for image in find_images([folder]).images]
    rows = np.asarray(open_rows(path), dtype=np.float32)
    if len(files) != len(rows):
        raise MismatchError(
            f"`{path}` has {len(rows)} rows, `{folder}` {len(files)} pictures",
            hint="each row must be a picture of the folder, in byte order of their paths",
        )
    return OldRows(tuple(files), _unit(path, rows))


def _by_name(
    path: Path, names: list[str], rows: NDArray[np.float32], folder: Path | None
) -> OldRows:
    ends: dict[tuple[str, ...], Path | None] = {}
    for image in find_images([folder]).images if folder is not None else ():
        parts = image.file.parts
        for length in range(1, len(parts) + 1):
            end = parts[-length:]
            # An end that two pictures share names neither of them.
            ends[end] = None if end in ends else image.file
    found = [_find(Path(name), ends) for name in names]
    kept = [i for i, file in enumerate(found) if file is not None]
    if not kept:
        where = f" or in `{folder}`" if folder is not None else ""
        raise DatasetError(
            f"not one of the {len(names)} pictures of `{path}` is where it was{where}; the first: "
            f"`{names[0]}`",
            hint="name the folder that they are in now: --try DIR",
        )
    files = tuple(file for file in found if file is not None)
    return OldRows(files, _unit(path, rows[kept]))


def _find(name: Path, ends: dict[tuple[str, ...], Path | None]) -> Path | None:
    for length in range(len(name.parts), 0, -1):
        file = ends.get(name.parts[-length:])
        if file is not None:
            return file
    return name if name.is_file() else None


def _unit(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise MismatchError(
            f"`{path}` has rows of zeros, NaN or infinity; embeddings are wanted",
            hint="make them again with the old code",
        )
    unit: NDArray[np.float32] = rows / lengths
    return unit
