"""What a data base of the reference is: embeddings with paths and labels, by part."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cgdcli.inspection.rows import RowScan, row_anomalies, scan_rows, shown
from cgdcli.reports.inspection import Anomaly, InspectReport
from cgdcli.weights.data_base import DataBasePart, read_data_base
from cgdcli.words import counted

# Before 2 March 2020 the reference did not divide the sum of its unit blocks: one to six of them.
_LENGTHS = np.sqrt(np.arange(1, 7))
# As `cgd convert-weights` allows; it divides by the length.
_TOLERANCE = 1e-3


def inspect_data_base(path: Path) -> InspectReport:
    """Facts and anomalies by part.

    Raises:
        CheckpointError: its lists are not of one length, or hold something else than they should.
    """
    parts = read_data_base(path)
    facts = {
        "parts": {name: _facts(part) for name, part in parts.items()},
        "embedding_dim": int(next(iter(parts.values())).rows.shape[1]),
        "bytes": path.stat().st_size,
    }
    notes = (
        f"to make an index of it: cgd convert-weights '{path}'",
        "it does not say which model made it; --model with that command proves one",
    )
    anomalies = tuple(a for part in parts.values() for a in _anomalies(part))
    return InspectReport(path, "data base of the reference", facts, notes, anomalies=anomalies)


def _facts(part: DataBasePart) -> dict[str, object]:
    return {
        "rows": len(part.rows),
        "labels": len(set(part.labels)),
        "pictures_there": len(part.images) - len(_gone(part)),
        "length": round(float(np.median(np.linalg.norm(part.rows, axis=1))), 6),
    }


def _anomalies(part: DataBasePart) -> Iterator[Anomaly]:
    found = scan_rows(part.rows)
    for anomaly in row_anomalies(_scaled(found), "float32", tolerance=_TOLERANCE):
        yield replace(anomaly, entry=f"{part.name} {anomaly.entry}")
    gone = _gone(part)
    if gone:
        words = counted(len(gone), "picture is", "pictures are")
        yield Anomaly("picture gone", gone[0], f"{words} not there: {shown(gone)}", len(gone))


def _gone(part: DataBasePart) -> list[str]:
    return [image for image in part.images if not Path(image).is_file()]


def _scaled(found: RowScan) -> RowScan:
    """Lengths in terms of the usual one that most rows have."""
    usual = np.median(found.lengths)
    nearest = float(_LENGTHS[np.argmin(np.abs(_LENGTHS - usual))])
    return replace(found, lengths=(found.lengths / nearest).astype(np.float32))
