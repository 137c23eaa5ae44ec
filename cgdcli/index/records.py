"""What an index records: its header, its pictures, its files' names and its table's layout."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgdcli.remote import address_of, place_of, shown

FORMAT = 1
# Endings of the names that files have before they are finished.
PART, COMPACT, DONE = "part", "compact", "done"

SCHEMA = """
CREATE TABLE header (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE roots (id INTEGER PRIMARY KEY, relative TEXT, absolute TEXT NOT NULL);
CREATE TABLE pictures (row INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots(id),
    path NOT NULL, label TEXT, size INTEGER, mtime_ns INTEGER, sha256 TEXT);
CREATE INDEX pictures_by_content ON pictures (sha256);
CREATE INDEX pictures_by_path ON pictures (path);
CREATE TABLE skipped (path NOT NULL, reason TEXT NOT NULL);
"""
# Of an int8 index: the quantized network, which only the pictures of its calibration could make
# again. Made where there is one.
GRAPH_SCHEMA = "CREATE TABLE IF NOT EXISTS graph (digest TEXT PRIMARY KEY, data BLOB NOT NULL)"


@dataclass(frozen=True)
class Picture:
    """One row's picture: `path` relative to `root`, an absolute folder."""

    root: Path
    path: str
    label: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class IndexHeader:
    """What an index says of itself.

    Attributes:
        model: `ModelInfo.to_dict()` of what made the rows, plus the absolute `path` of a file.
        blocks: (letter, first column, end column) of each branch, or None where columns have none.
        decode: `exact`, or `scaled`: large JPEGs at a fraction of their size.
        parity: of a reduced precision, how it agreed with fp32 on a sample of the pictures.
        calibration: of int8, the digest of the quantized network that made the rows, which the
            table keeps.
        vectors: `VectorConfig.to_dict()`: of what views the rows were made, and what became of
            them; empty where they are as the network gave them.
        projection: `Projection.to_dict()` of the one in the table, frozen until a rebuild; the
            builder says it.
        sources: the absolute files and folders that were embedded; `relative_sources` the same
            from the index's folder, for an index that has moved with its pictures.
        part: of an index in parts, which one this is and of how many (`index.shards`).
    """

    rows: int
    dim: int
    model: dict[str, Any]
    engine: str
    precision: str
    blocks: list[tuple[str, int, int]] | None
    sources: list[str]
    labels: str = "folder"
    relative_sources: list[str] = field(default_factory=list)
    generation: str = ""
    checksum: str = ""
    complete: bool = True
    format: int = FORMAT
    parity: dict[str, float] | None = None
    calibration: str | None = None
    decode: str = "exact"
    vectors: dict[str, Any] = field(default_factory=dict)
    projection: dict[str, Any] | None = None
    part: list[int] | None = None

    @property
    def exact_decode(self) -> bool:
        """Whether pictures were decoded whole."""
        return self.decode == "exact"


def index_path(path: Path) -> Path:
    """The `.npy` of an index, however it was named: feats, feats.npy, feats.sqlite."""
    if path.suffix == ".sqlite":
        return path.with_suffix(".npy")
    longer = path.with_name(path.name + ".npy") if path.name else path
    if not path.exists() and (not path.suffix or longer.exists()):
        return longer
    return path


def relative_to_index(path: Path | str, index: Path) -> str | None:
    """`path` from the index's folder; None where there is no way (another drive, an address)."""
    if any(map(address_of, (place_of(path), index))):
        return None
    try:
        return os.path.relpath(path, Path(os.path.abspath(index)).parent)
    except ValueError:
        return None


def sidecar(path: Path) -> Path:
    """The `.sqlite` beside an `.npy`."""
    return path.with_suffix(".sqlite")


def hidden(final: Path, ending: str) -> Path:
    """A file's name before it is finished."""
    return final.with_name(f".{final.name}.{ending}")


def done_table(index: Path) -> Path:
    """The finished table of an index whose rows may not have their name yet."""
    return hidden(sidecar(index), DONE)


def blob_or_text(path: str) -> str | bytes:
    """Paths that are not UTF-8 are kept as bytes, to come back as they were."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def root_text(root: Path) -> str | bytes:
    """A root as the table keeps it: an address for its place on this machine."""
    return blob_or_text(shown(root))


def root_of(text: str | bytes) -> Path:
    """A root as `root_text` wrote it, perhaps on another machine."""
    return place_of(text_of(text))


def text_of(path: str | bytes) -> str:
    return path if isinstance(path, str) else os.fsdecode(path)
