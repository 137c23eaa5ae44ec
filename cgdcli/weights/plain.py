"""A way on for files that `weights_only` refuses: `python -m cgdcli.weights.plain OLD NEW`.

What training scripts save beside the weights (a Namespace, NumPy scalars, paths) is read by
PyTorch's restricted unpickler with exactly those classes allowed, so nothing of the file is run,
and written again as plain numbers, text, lists and dicts. `--run-its-code` unpickles a whole
module, which runs what the file says: only for files whose maker you trust, and better in a
container without network.
"""

import argparse
import collections
import datetime
import decimal
import fractions
import pathlib
import sys
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cgdcli.errors import CGDError, CheckpointError
from cgdcli.files import atomic_path, check_output

# By the names in the pickle. Each only builds a value; none of them calls what it is given.
HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "types.SimpleNamespace": types.SimpleNamespace,
    "collections.defaultdict": collections.defaultdict,
    "collections.Counter": collections.Counter,
    "collections.deque": collections.deque,
    "datetime.datetime": datetime.datetime,
    "datetime.date": datetime.date,
    "datetime.timedelta": datetime.timedelta,
    "decimal.Decimal": decimal.Decimal,
    "fractions.Fraction": fractions.Fraction,
    "uuid.UUID": uuid.UUID,
    **{
        f"{module}.{name}": getattr(pathlib, name)
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "Path", "PurePath")
    },
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.slice": slice,
    "builtins.range": range,
    "builtins.complex": complex,
    "_codecs.encode": __import__("_codecs").encode,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    **{
        f"{core}.multiarray.{name}": getattr(np._core.multiarray, name)  # type: ignore[attr-defined]
        for core in ("numpy.core", "numpy._core")
        for name in ("scalar", "_reconstruct")
    },
}


def write_plain(source: Path, target: Path, *, run_its_code: bool = False) -> None:
    """Write the content of a pickled file as plain values and tensors; a module as its state_dict.

    Raises:
        CheckpointError: unreadable, or it names more than `HARMLESS` and its code may not be run.
        OutputError: `target` exists or cannot be written.
    """
    check_output(target, what="plain file")
    content = _load(source, run_its_code=run_its_code)
    with atomic_path(target) as temporary:
        torch.save(as_plain(content), temporary)


def as_plain(value: Any) -> Any:
    """Tensors, numbers, text, lists and dicts as they are; what holds them as those; else text."""
    if isinstance(value, nn.Module):
        return value.state_dict()
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return [as_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        return _numbers(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    inside = getattr(value, "__dict__", None)
    return as_plain(inside) if inside else str(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return value.detach()
    return torch.from_numpy(value.copy()) if value.dtype.kind in "fiub" else value.tolist()


def _load(source: Path, *, run_its_code: bool) -> Any:
    from cgdcli.weights.pickles import blocked_names

    blocked = blocked_names(source)
    others = [name for name in blocked if name not in HARMLESS and not name.startswith("numpy.dty")]
    if others and not run_its_code:
        raise CheckpointError(
            f"`{source}` names {', '.join(others)}, which only its own code can build",
            hint="if you trust its maker, and where that code is installed: --run-its-code",
        )
    allowed: list[Any] = [(HARMLESS[name], name) for name in blocked if name in HARMLESS]
    allowed += [(type(np.dtype(code)), f"numpy.dtypes.{type(np.dtype(code)).__name__}")
                for code in "efdgbhilqBHILQ?UO"]  # fmt: skip
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(source, map_location="cpu", weights_only=not run_its_code)
    except Exception as error:
        # Foreign code, or damaged bytes, raise nearly everything.
        raise CheckpointError(
            f"cannot read `{source}`: {str(error).splitlines()[0]}",
            hint="load it where it was made, and save model.state_dict() alone",
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 for an expected failure."""
    parser = argparse.ArgumentParser(
        prog="python -m cgdcli.weights.plain",
        description="Write a pickled weights file again as plain values and tensors.",
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--run-its-code", action="store_true", help="unpickle whole: runs what the file says"
    )
    given = parser.parse_args(arguments)
    try:
        write_plain(given.old, given.new, run_its_code=given.run_its_code)
    except CGDError as error:
        sys.stderr.write(f"error: {error.what}\nhint: {error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
