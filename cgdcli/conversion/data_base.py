"""The reference's `*_data_base.pth` becomes an index that `cgd search` reads."""

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Device
from cgdcli.conversion.old_rows import SAME_DIFFERENCE
from cgdcli.embedding import checked_output
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import CheckpointError, MismatchError, OutputError
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.model.cgd import CGD
from cgdcli.networks import Model, as_model, model_info
from cgdcli.reports import DataBaseReport, ModelInfo
from cgdcli.streaming import embed_files
from cgdcli.weights.data_base import PARTS, DataBasePart, is_data_base, read_data_base
from cgdcli.weights.formats.reference import read_file_name
from cgdcli.weights.reading import read_content

logger = logging.getLogger("cgdcli")

# So many of the pictures are embedded again to prove that a model made the rows.
_PROOF_PICTURES = 8


def is_data_base_file(path: Path | str) -> bool:
    """Whether a file is a data base of the reference; a safetensors file never is.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = Path(path)
    return path.suffix != ".safetensors" and is_data_base(read_content(path, check_bytes=False))


def convert_data_base(
    source: Path | str,
    target: Path | str | None = None,
    *,
    part: str | None = None,
    model: Model = None,
    force: bool = False,
) -> DataBaseReport:
    """Write the embeddings, paths and labels of a data base as an index (`.npy` and `.sqlite`).

    Args:
        target: the .npy; None for the source's name with that suffix.
        part: test, gallery or train; None for the gallery, where there is one, else test.
        model: the converted model that made it; proved on pictures that are still there, and
            recorded, so that search needs no `--model`. None: no model is recorded.

    Raises:
        CheckpointError: no data base, or it has no such part.
        MismatchError: the model gives other embeddings.
        OutputError: the target exists (without `force`) or cannot be written.
    """
    source = Path(source)
    target = checked_output(Path(target) if target is not None else source.with_suffix(".npy"))
    if target.exists() and not force:
        raise OutputError(
            f"index `{target}` exists; nothing is overwritten unasked",
            hint="add --force to replace it, or choose another name",
        )
    parts = read_data_base(source)
    chosen = _choose(source, parts, part)
    lengths = np.linalg.norm(chosen.rows, axis=1, keepdims=True)
    if not lengths.all():
        raise CheckpointError(
            f"row {int(np.argmin(lengths))} of {chosen.name} in `{source}` is all zero",
            hint="an index holds unit rows; embed the pictures again",
        )
    # Rows that are unit already stay as they are, bit for bit.
    normalized = bool(np.abs(lengths - 1).max() > 1e-5)
    rows = chosen.rows / lengths if normalized else chosen.rows
    info, blocks, proved = _provenance(source, chosen, rows, model)
    files = [Path(os.path.abspath(image)) for image in chosen.images]
    root = Path(os.path.commonpath([file.parent for file in files]))
    with IndexBuilder(target, rows.shape[1]) as builder:
        builder.append(rows, _pictures(files, root, chosen.labels))
        builder.finish(_header(rows, info, blocks, source))
    return DataBaseReport(
        source=source,
        target=target,
        part=chosen.name,
        parts=tuple(parts),
        rows=len(rows),
        embedding_dim=rows.shape[1],
        labels=len(set(chosen.labels)),
        there=sum(file.is_file() for file in files),
        normalized=normalized,
        model=info,
        proved_on=proved,
        descriptors="".join(letter for letter, *_ in blocks) if blocks else None,
    )


def _choose(source: Path, parts: dict[str, DataBasePart], part: str | None) -> DataBasePart:
    if part is None:
        return next(parts[name] for name in PARTS if name in parts)
    if part not in parts:
        raise CheckpointError(
            f"`{source}` has no part `{part}`; it has {', '.join(parts)}",
            hint=f"try --part {next(iter(parts))}",
        )
    return parts[part]


def _pictures(files: list[Path], root: Path, labels: tuple[str, ...]) -> list[Picture]:
    return [
        Picture(root, os.path.relpath(file, root), label)
        for file, label in zip(files, labels, strict=True)
    ]


def _header(
    rows: NDArray[np.float32],
    info: ModelInfo,
    blocks: list[tuple[str, int, int]] | None,
    source: Path,
) -> IndexHeader:
    known = info.to_dict() | {
        "path": os.path.abspath(info.source) if Path(info.source).is_file() else None
    }
    return IndexHeader(
        rows=len(rows),
        dim=rows.shape[1],
        model=known,
        engine="reference",
        precision="fp32",
        blocks=blocks,
        sources=[os.path.abspath(source)],
        labels="data base",
    )


def _provenance(
    source: Path, part: DataBasePart, rows: NDArray[np.float32], model: Model
) -> tuple[ModelInfo, list[tuple[str, int, int]] | None, int]:
    """What made the rows, the columns by descriptor, on how many pictures that was proved."""
    if model is None:
        info = ModelInfo(f"the reference ({source.name})", "", {}, ("the model is not recorded",))
        return info, _blocks(source, rows), 0
    network = as_model(model)
    proved = _prove(network, part, rows)
    if not proved:
        logger.warning(
            "not one picture of `%s` is where it was: the model is recorded unproved", source
        )
    return model_info(network), network.blocks, proved


def _blocks(source: Path, rows: NDArray[np.float32]) -> list[tuple[str, int, int]] | None:
    """By the letters of the file's name, if the columns bear them out: equal norms by block."""
    named = read_file_name(source.name)
    if named is None or named.embedding_dim != rows.shape[1]:
        return None
    count, width = len(named.letters), rows.shape[1] // len(named.letters)
    blocks = [(c, i * width, (i + 1) * width) for i, c in enumerate(named.letters)]
    norms = np.stack([np.linalg.norm(rows[:, a:b], axis=1) for _, a, b in blocks])
    return blocks if np.abs(norms - count**-0.5).max() < 1e-3 else None


def _prove(model: CGD, part: DataBasePart, rows: NDArray[np.float32]) -> int:
    """Embed some of the pictures again.

    Raises:
        MismatchError: the model gives other embeddings.
    """
    if model.embedding_dim != rows.shape[1]:
        raise MismatchError(
            f"the model gives {model.embedding_dim} columns, the data base has {rows.shape[1]}",
            hint="name the model that was saved beside it, converted",
        )
    there = [i for i, image in enumerate(part.images) if Path(image).is_file()]
    there = there[:: max(1, len(there) // _PROOF_PICTURES)][:_PROOF_PICTURES]
    engine = TorchEngine(model, Device.cpu)
    proved = 0
    files = [Path(part.images[i]) for i in there]
    for batch in embed_files(engine, files, batch_size=_PROOF_PICTURES, workers=0):
        for row, picture in zip(batch.rows, batch.pictures, strict=True):
            apart = row.astype(np.float64) - rows[there[picture.position]]
            difference = float(apart @ apart) / 2  # 1 - cosine of unit rows
            if difference > SAME_DIFFERENCE:
                raise MismatchError(
                    f"the model did not make these embeddings: of `{picture.file}` it gives one "
                    f"that differs by {difference:.1e} in cosine; {SAME_DIFFERENCE:.0e} is allowed",
                    hint="find the reading that fits: cgd convert-weights OLD.pth --try DIR "
                    "--against DATA_BASE.pth",
                )
            proved += 1
    return proved
