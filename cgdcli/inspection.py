"""Job: what is this file? Any checkpoint, index or foreign weights file."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgdcli.errors import CGDError, CheckpointError, IndexFileError
from cgdcli.index.records import index_path
from cgdcli.index.store import EmbeddingIndex
from cgdcli.reports import InspectReport
from cgdcli.weights.header import Header, file_fingerprint, read_header


def inspect_file(path: Path | str) -> InspectReport:
    """Say what a file is, by its content.

    Raises:
        CGDError: it is missing, or nothing known here can read it.
    """
    path = Path(path)
    if path.is_dir():
        return _inspect_folder(path)
    if not path.exists():
        path = index_path(path)  # `feats` for feats.npy
    if not path.exists():
        raise CheckpointError(
            f"`{path}` does not exist; a checkpoint or an index is wanted",
            hint="check the spelling, and the folder you are in",
        )
    if path.suffix in (".npy", ".sqlite"):
        return _inspect_index(path)
    if path.suffix == ".safetensors":
        header = read_header(path)
        if header.metadata is not None:
            return _inspect_checkpoint(header)
    return _inspect_foreign(path)


def index_rows(path: Path | str) -> Iterator[dict[str, Any]]:
    """The table of an index, row by row, as plain values."""
    if Path(path).suffix not in ("", ".npy", ".sqlite"):
        raise IndexFileError(
            f"`{path}` is not an index: it has no rows",
            hint="name one: cgd inspect feats.npy --rows",
        )
    index = EmbeddingIndex.open(path)
    if index.header is None:
        raise IndexFileError(
            f"`{path}` is an array alone; no table says what its rows are",
            hint="copy the .sqlite that was beside it, or embed again",
        )
    for row, picture in index.pictures():
        yield {
            "row": row,
            "path": str(index.file(row)),
            "label": picture.label,
            "size": picture.size,
            "sha256": picture.sha256,
        }


def _inspect_folder(path: Path) -> InspectReport:
    from cgdcli.weights.loading import run_checkpoint

    if not (path / "last.safetensors").is_file():
        raise CheckpointError(
            f"`{path}` is a folder, and not that of a run: last.safetensors is not in it",
            hint="name a file",
        )
    return inspect_file(run_checkpoint(path))


def _inspect_index(path: Path) -> InspectReport:
    index = EmbeddingIndex.open(path)
    facts: dict[str, Any] = {
        "rows": len(index),
        "embedding_dim": index.dim,
        "dtype": index.rows.dtype.name,
        "bytes": index.path.stat().st_size,
    }
    notes: list[str] = []
    header = index.header
    if header is None:
        notes.append("no .sqlite beside it: neither its model nor its pictures are known")
        return InspectReport(path, "index (rows alone)", facts, tuple(notes))
    labels = index.labels()
    facts |= {
        "model": header.model.get("path") or header.model["source"],
        "fingerprint": header.model["fingerprint"],
        "config": header.model["config"],
        "engine": header.engine,
        "precision": header.precision,
        "blocks": header.blocks,
        "sources": header.sources,
        "labels": len({label for label in labels if label is not None}),
        "labelled_rows": sum(label is not None for label in labels),
        "skipped": [{"path": p, "reason": reason} for p, reason in index.skipped()],
        "generation": header.generation,
    }
    notes += [f"assumed {words}" for words in header.model.get("assumed", ())]
    return InspectReport(path, "index", facts, tuple(notes))


def _inspect_checkpoint(header: Header) -> InspectReport:
    config = header.config()
    saved = header.metadata or {}
    found = file_fingerprint(header)
    groups: Counter[str] = Counter()
    for name, entry in header.tensors.items():
        groups[name.split(".")[0]] += entry.stop - entry.start
    notes = [f"assumed {words}" for words in saved.get("assumed", ())]
    if found != saved.get("fingerprint"):
        notes.append(
            f"its tensors were changed after it was written: the header says "
            f"{saved.get('fingerprint')}"
        )
    facts = {
        "config": config.to_dict(),
        "fingerprint": found,
        "entries": len(header.tensors),
        "bytes": header.path.stat().st_size,
        "bytes_by_part": dict(groups),
        "classes": len(saved.get("classes", ())) or config.classes,
        "origin": saved.get("origin", {}),
        "training": saved.get("training", {}),
    }
    return InspectReport(header.path, "checkpoint", facts, tuple(notes))


def _inspect_foreign(path: Path) -> InspectReport:
    from cgdcli.weights.foreign import read_architecture, read_foreign

    weights = read_foreign(path)
    facts: dict[str, Any] = {
        "entries": weights.source_entries,
        "tensors": len(weights.kept) + len(weights.renamed),
        "dropped_on_conversion": dict(Counter(weights.dropped.values())),
        "wrapper": weights.wrapper or "none",
        "bytes": path.stat().st_size,
    }
    try:
        found = read_architecture(weights)
        facts |= {
            "backbone": found.backbone.value,
            "branches": found.branches,
            "embedding_dim": found.embedding_dim,
            "classes": found.classes,
        }
    except CGDError as error:
        facts["network"] = error.what
    notes = [f"to use it: cgd convert-weights '{path}'"]
    if weights.format.name.startswith("torchvision"):
        notes.append(f"or as it is, by its pooled descriptors: --model '{path}'")
    return InspectReport(path, f"weights of {weights.format.name}", facts, tuple(notes))


def rows_as_csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """CSV lines with a header line."""
    table = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(table, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
        yield table.getvalue()
        table.seek(0)
        table.truncate()


def rows_as_json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """One JSON object a line."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
