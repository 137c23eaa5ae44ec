"""Whether the pictures of an index, and the model that made it, are still what they were."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cgdcli.errors import CheckpointError
from cgdcli.images.mirror import RemoteListing, fetch, list_remote
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.inspection.rows import shown
from cgdcli.remote import address_of
from cgdcli.remote import shown as path_shown
from cgdcli.reports.inspection import Anomaly
from cgdcli.weights.header import read_header
from cgdcli.words import counted

OnChecked = Callable[[int, int, int], None]
"""Called with pictures looked at, pictures in all and pictures skipped (none)."""


@dataclass(frozen=True)
class PictureCheck:
    """Pictures by what has become of them.

    Attributes:
        gone: no file is there.
        changed: the size, or with `verify` the content, is another.
        touched: the size is the same, the time is not: perhaps changed. With `verify` empty.
        unlabelled: of rows without label; meaningful where others have one.
        labels: how many different ones there are.
        sha256: of every row's picture when it was embedded.
    """

    gone: tuple[str, ...]
    changed: tuple[str, ...]
    touched: tuple[str, ...]
    unlabelled: tuple[str, ...]
    labels: int
    sha256: tuple[str | None, ...]

    @property
    def rows(self) -> int:
        """Rows that the table describes."""
        return len(self.sha256)


def check_pictures(
    pictures: Iterable[Picture],
    count: int,
    bases: Mapping[str, tuple[Path, ...]],
    *,
    verify: bool = False,
    on_progress: OnChecked | None = None,
) -> PictureCheck:
    """Look at every picture's size and time, or with `verify` read it.

    Args:
        bases: folders to look in, in order, by the root that an index records.
    """
    labels: set[str] = set()
    found: dict[str, list[str]] = {
        name: [] for name in ("gone", "changed", "touched", "unlabelled")
    }
    sha256: list[str | None] = []
    there: dict[Path, RemoteListing] = {}
    for done, picture in enumerate(pictures, start=1):
        if address_of(picture.root) is not None:
            status, file = _look_there(picture, there, verify)
        else:
            status, file = _look(picture, bases.get(str(picture.root), (picture.root,)), verify)
        if status:
            found[status].append(path_shown(file))
        if picture.label is None:
            found["unlabelled"].append(path_shown(file))
        else:
            labels.add(picture.label)
        sha256.append(picture.sha256)
        if on_progress:
            on_progress(done, count, 0)
    return PictureCheck(
        **{name: tuple(files) for name, files in found.items()},
        labels=len(labels),
        sha256=tuple(sha256),
    )


def picture_anomalies(check: PictureCheck, *, verified: bool) -> tuple[Anomaly, ...]:
    """What is odd, one for each kind."""
    how = "content" if verified else "size"
    kinds = [
        ("picture gone", check.gone, "picture is", "pictures are", " not there"),
        (
            "picture changed",
            check.changed,
            "picture has",
            "pictures have",
            f" another {how} than when embedded",
        ),
        (
            "picture perhaps changed",
            check.touched,
            "picture has",
            "pictures have",
            " another time and the same size; --verify reads",
        ),
    ]
    anomalies = [
        Anomaly(
            kind, names[0], f"{counted(len(names), one, many)}{rest}: {shown(names)}", len(names)
        )
        for kind, names, one, many, rest in kinds
        if names
    ]
    lonely = check.unlabelled
    if lonely and check.labels:  # an index without any label is one of a flat folder
        words = counted(len(lonely), "row has no label", "rows have no label")
        anomalies.append(Anomaly("no label", lonely[0], f"{words}: {shown(lonely)}", len(lonely)))
    return tuple(anomalies)


def check_model(header: IndexHeader, index: Path, runs: Path) -> tuple[Path | None, Anomaly | None]:
    """Where the model that made an index is now, and what is odd about that.

    A foreign weights file is believed by its name: its fingerprint is known only once it is read.
    """
    recorded, wanted = header.model.get("path"), header.model.get("fingerprint")
    if not recorded or not wanted:
        return None, None  # a backbone's name, or a converted index that records no model
    path = Path(recorded)
    found = _fingerprint_in_header(path) if path.is_file() else None
    if path.is_file() and found in (None, wanted):
        return path, None
    from cgdcli.weights.sources import find_by_fingerprint

    elsewhere = find_by_fingerprint(wanted, [index.absolute().parent, *sorted(runs.glob("*/"))])
    if elsewhere is not None:
        return elsewhere, None
    if found is not None:
        words = f"is another model now: {found[:12]}, not {wanted[:12]}"
        return path, Anomaly("model changed", str(path), words)
    words = "is not there, and no checkpoint beside the index or under runs has its fingerprint"
    return None, Anomaly("model gone", str(path), words)


def _fingerprint_in_header(path: Path) -> str | None:
    if path.suffix != ".safetensors":
        return None
    try:
        metadata = read_header(path).metadata
    except CheckpointError:
        return "damaged"
    return None if metadata is None else str(metadata.get("fingerprint"))


def _look(picture: Picture, bases: tuple[Path, ...], verify: bool) -> tuple[str | None, Path]:
    """What has become of a picture, and where it is or was."""
    for base in bases:
        file = base / picture.path
        try:
            state = file.stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(state.st_mode):
            return _judge(picture, file, state, verify), file
    return "gone", bases[-1] / picture.path


def _look_there(
    picture: Picture, there: dict[Path, RemoteListing], verify: bool
) -> tuple[str | None, Path]:
    """The same of a picture at an address, whose folder is listed once."""
    file = picture.root / picture.path
    if picture.root not in there:
        there[picture.root] = list_remote(picture.root)
    facts = there[picture.root].facts.get(picture.path)
    if facts is None:
        return "gone", file
    if verify and picture.sha256 is not None:
        return ("changed" if _sha256(fetch(file)) != picture.sha256 else None), file
    return ("changed" if facts != (picture.size, picture.mtime_ns) else None), file


def _judge(picture: Picture, file: Path, state: os.stat_result, verify: bool) -> str | None:
    if picture.size is not None and state.st_size != picture.size:
        return "changed"
    if verify and picture.sha256 is not None:
        return "changed" if _sha256(file) != picture.sha256 else None
    if picture.mtime_ns is not None and state.st_mtime_ns != picture.mtime_ns:
        return "touched"
    return None


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None
