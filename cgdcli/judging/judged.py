"""Each query's own result, kept in a run's folder: two runs are compared without embedding again.

Shape letters: Q queries, K ranks.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import CheckpointError
from cgdcli.evaluation.tables import JudgedTable
from cgdcli.files import atomic_path

JUDGED_FILE = "judged.npz"
FORMAT = 2


@dataclass(frozen=True)
class JudgedQueries:
    """How each query of a run's last judgement fared.

    Attributes:
        what: `test`, `val`, `held-out classes` or `train`.
        fingerprint: of the model that was judged.
        gallery: SHA-256 over what was searched: contents and labels, in no order.
        paths, labels, sha256: str (Q,), of the pictures; the hash of a file's bytes in hex.
        ranks: int (K,).
        hits: bool (Q, K), one of the query's label among the first so many.
        average_precision: float64 (Q,), AP@R; NaN for a query without partner.
    """

    what: str
    fingerprint: str
    gallery: str
    paths: NDArray[np.str_]
    labels: NDArray[np.str_]
    sha256: NDArray[np.str_]
    ranks: NDArray[np.int64]
    hits: NDArray[np.bool_]
    average_precision: NDArray[np.float64]


def judged_queries(judged: JudgedTable, what: str, fingerprint: str) -> JudgedQueries:
    """What is kept of a judgement."""
    embedded, scores, asked = judged.embedded, judged.scores, judged.asked
    return JudgedQueries(
        what,
        fingerprint,
        _digest(judged),
        np.array([str(embedded.paths[i]) for i in asked], dtype=np.str_),
        judged.labels,
        np.array([embedded.sha256[i] for i in asked], dtype=np.str_),
        np.array(scores.ranks, dtype=np.int64),
        scores.hits,
        np.where(scores.relevant > 0, scores.average_precision, np.nan),
    )


def _digest(judged: JudgedTable) -> str:
    embedded = judged.embedded
    searched = sorted(f"{embedded.sha256[i]} {embedded.labels[i]}\n" for i in judged.stored)
    return hashlib.sha256("".join(searched).encode(errors="surrogateescape")).hexdigest()


def save_judged(run: Path, queries: JudgedQueries) -> None:
    """Write `judged.npz` into a run's folder, atomically; any NumPy reads it.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(run / JUDGED_FILE) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, format=FORMAT, **vars(queries))


def load_judged(run: Path) -> JudgedQueries | None:
    """Read it back; None where a run has none, or one of another version.

    Raises:
        CheckpointError: it is damaged.
    """
    file = run / JUDGED_FILE
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        if int(values.pop("format")) != FORMAT:
            return None
        what, fingerprint, gallery = (
            str(values.pop(name)) for name in ("what", "fingerprint", "gallery")
        )
        queries = JudgedQueries(what, fingerprint, gallery, **values)
        _check_lengths(queries)
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"`{file}` is damaged: {error}",
            hint="remove it: what it holds is then measured again",
        ) from error
    return queries


def _check_lengths(queries: JudgedQueries) -> None:
    count = len(queries.paths)
    named = (queries.labels, queries.sha256, queries.hits, queries.average_precision)
    if any(len(values) != count for values in named) or not count:
        raise ValueError(f"its arrays have {[len(values) for values in named]} entries of {count}")
    if queries.hits.shape[1] != len(queries.ranks):
        raise ValueError(f"hits for {queries.hits.shape[1]} of {len(queries.ranks)} ranks")
