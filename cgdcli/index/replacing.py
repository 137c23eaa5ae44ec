"""What may be written over: an index of the same pictures by the same model, and nothing else."""

import contextlib
import os
from pathlib import Path

from cgdcli.config import VectorConfig
from cgdcli.errors import IndexFileError, MismatchError, OutputError
from cgdcli.index.records import IndexHeader, sidecar
from cgdcli.index.rows import is_our_array
from cgdcli.index.tables import read_index_header


def header_there(path: Path) -> IndexHeader | None:
    """What the index at `path` says of itself; None where there is none of ours."""
    with contextlib.suppress(IndexFileError, MismatchError):
        header, database = read_index_header(sidecar(path))
        database.close()
        return header
    return None


def check_replaceable(path: Path, wanted: IndexHeader, *, rebuild: bool) -> bool:
    """Refuse to write over anything but an index of the same sources, model and precision.

    Args:
        wanted: what the index will say of itself.

    Returns:
        Whether there is one, to be refreshed or rebuilt.

    Raises:
        MismatchError: the file is no index of ours (never replaced), or another index (not
            without `rebuild`).
    """
    if path.is_dir():
        raise OutputError(f"`{path}` is a folder; a file is wanted", hint=f"-o {path}/feats.npy")
    if not path.exists() and not sidecar(path).exists():
        return False
    try:
        header, database = read_index_header(sidecar(path))
        database.close()
        if path.exists() and not is_our_array(path):
            raise IndexFileError("", hint="")  # a stranger's array beside a table of ours
    except (IndexFileError, MismatchError):
        raise MismatchError(
            f"`{path}` or `{sidecar(path).name}` beside it exists and is not an index made by cgd",
            hint="nothing is written over it: choose another -o, or remove it yourself",
        ) from None
    if header.part != wanted.part:
        raise MismatchError(
            f"`{path}` says it is {_part_words(header)}, and {_part_words(wanted)} is wanted there",
            hint="give it back the name that it had, or remove it",
        )
    if rebuild:
        return True
    # An index that moved with its pictures: the same places from it, and nothing where they were.
    moved = sorted(wanted.relative_sources) == sorted(header.relative_sources) != [] and not any(
        map(os.path.exists, header.sources)
    )
    if sorted(wanted.sources) != sorted(header.sources) and not moved:
        raise MismatchError(
            f"`{path}` is the index of {', '.join(header.sources)}, another source",
            hint="choose another -o, or add --rebuild to replace it",
        )
    model = wanted.model
    if header.model["fingerprint"] != model["fingerprint"]:
        raise MismatchError(
            f"`{path}` was made by the model {header.model['source']} "
            f"({header.model['fingerprint'][:12]}), not by {model['source']} "
            f"({model['fingerprint'][:12]})",
            hint="choose another -o, or add --rebuild to replace it",
        )
    _check_made_alike(path, header, wanted)
    return True


def _check_made_alike(path: Path, header: IndexHeader, wanted: IndexHeader) -> None:
    """Rows that are made in another way have no place beside those there."""
    if header.decode != wanted.decode:
        how = "leave --exact-decode out" if header.decode == "scaled" else "add --exact-decode"
        raise MismatchError(
            f"`{path}` was made with {header.decode} decoding, and its new rows would be with "
            f"{wanted.decode}",
            hint=f"{how} to go on, choose another -o, or add --rebuild to make all of them anew",
        )
    if header.precision != wanted.precision:
        raise MismatchError(
            f"`{path}` was made in {header.precision}, and its new rows would be in "
            f"{wanted.precision}",
            hint=f"go on with --precision {header.precision}, choose another -o, or add --rebuild "
            "to make all of them anew",
        )
    if header.calibration != wanted.calibration:
        raise MismatchError(
            f"`{path}` was made by an int8 network of another calibration",
            hint="give the same command again, which takes the index's own; or add --rebuild",
        )
    _check_vectors(path, header, wanted)


def _check_vectors(path: Path, there: IndexHeader, wanted: IndexHeader) -> None:
    """Rows of other views, of another projection or dtype have no place beside those there."""
    was, new = (VectorConfig.from_dict(header.vectors) for header in (there, wanted))
    if was == new:
        return
    plain = "vectors as the network gives them"
    raise MismatchError(
        f"`{path}` was made with {str(was) or plain}, and its new rows would be made with "
        f"{str(new) or plain}",
        hint=f"go on with {str(was) or 'none of these options'}, choose another -o, or add "
        "--rebuild to make all of them anew",
    )


def _part_words(header: IndexHeader) -> str:
    return "a whole index" if header.part is None else "part {} of {}".format(*header.part)
