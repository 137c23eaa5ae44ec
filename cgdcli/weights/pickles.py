"""Pickles that want to run code: what they name is listed, nothing of them is run."""

import pickle
import pickletools
import re
import shlex
import sys
import zipfile
from pathlib import Path
from typing import IO

from cgdcli.errors import CheckpointError
from cgdcli.weights.plain import HARMLESS

# torch.save without zip writes five pickles: magic number, protocol, system, object, storage keys.
_PICKLES = 5
# What every state_dict names; only left out of the list, never allowed by it.
_ORDINARY = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.(?:float|double|half|bfloat|int|u?int|long|short|bool)\w*|torch\.(?:device|Size)"
    r"|(?:builtins|__builtin__)\.(?:set|frozenset)"
)
# Modules of what is no attack: classes of a network, or of what trained it.
_NETWORKS = re.compile(
    r"(?:torch|torchvision|timm|transformers|pytorch_lightning|lightning|pytorch_metric_learning"
    r"|omegaconf|easydict|yacs|sklearn|numpy|__main__)\b.*|(?!numpy)\w+(?:\.\w+)*\.[A-Z]\w*"
)
# These call what they are given, wherever they live.
_CALLERS = re.compile(
    r".*\b(?:system|popen|exec\w*|eval\w*|runstring|load_module|run\w*|spawn\w*|loads?|open"
    r"|fromfile|memmap|Popen|call|check_output|getattr|attrgetter|methodcaller|partial)"
)


# Also of whole networks: timm's layers hold partials, old protocols rebuild objects by the others.
_ALSO_OF_NETWORKS = ("functools.partial", "copyreg._reconstructor", "copy_reg._reconstructor",
                     "builtins.object", "__builtin__.object")  # fmt: skip


def refusal(path: Path) -> CheckpointError | None:
    """The error for a file that names code, or None if it names none that can be told."""
    names = blocked_names(path)
    if not names:
        return None
    hostile = [name for name in names if is_hostile(name)]
    if hostile:
        return CheckpointError(
            f"`{path}` is a pickle that would run {', '.join(hostile)} when loaded; nothing was "
            "executed",
            hint="no training writes that: do not load it anywhere, and get the weights from "
            "another source",
        )
    return CheckpointError(
        f"`{path}` is a pickle that wants to run code ({', '.join(names)}); only plain tensors "
        "are read, nothing was executed",
        hint=_way_on(path, names),
    )


def is_hostile(name: str) -> bool:
    """Whether no training script saves this: a function of Python's own library, or a caller."""
    if name in HARMLESS or name in _ALSO_OF_NETWORKS:
        return False
    own = name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}
    return own or bool(_CALLERS.fullmatch(name)) or not _NETWORKS.fullmatch(name)


def blocked_names(path: Path) -> list[str]:
    """Classes and functions that the pickle in a file names, beyond those of plain tensors."""
    names: set[str] = set()
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if Path(name).name == "data.pkl":
                        names |= _names_in(archive.open(name))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
            pass  # a damaged archive is told of elsewhere
    else:
        with path.open("rb") as stream:
            names = _names_in(stream)
    return sorted(name for name in names if not _ORDINARY.fullmatch(name))


def _names_in(stream: IO[bytes]) -> set[str]:
    """Globals of the pickles at the start of a stream, by their opcodes alone."""
    names: set[str] = set()
    for _ in range(_PICKLES):
        strings: list[str] = []
        memo: dict[int, str] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST") and isinstance(argument, str):
                    names.add(argument.replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                    names.add(f"{strings[-2]}.{strings[-1]}")
                elif opcode.name == "MEMOIZE" and strings:
                    memo[len(memo)] = strings[-1]
                elif opcode.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
                    strings.append(memo.get(argument, ""))
                elif isinstance(argument, str):
                    strings.append(argument)
        except (ValueError, pickle.UnpicklingError, IndexError, OverflowError, MemoryError):
            break  # the end of the pickles, or damage: what was seen so far is the answer
    return names


def _way_on(path: Path, names: list[str]) -> str:
    """How to get at the tensors, for someone who trusts the file."""
    command = f"python -m cgdcli.weights.plain {shlex.quote(str(path))} plain.pth"
    if all(name in HARMLESS for name in names):
        return f"to read them as plain values, nothing run: {command}; then convert plain.pth"
    return (
        "if you trust its maker, where its code is installed and better without network, run: "
        f"{command} --run-its-code; then convert plain.pth"
    )
