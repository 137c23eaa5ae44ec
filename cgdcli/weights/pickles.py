"""Pickles that want to run code: what they name is listed, nothing of them is run."""

import pickle
import pickletools
import re
import shlex
import zipfile
from pathlib import Path
from typing import IO

from cgdcli.errors import CheckpointError

# torch.save without zip writes five pickles: magic number, protocol, system, object, storage keys.
_PICKLES = 5
# What every state_dict names; only left out of the list, never allowed by it.
_ORDINARY = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.(?:float|double|half|bfloat|int|u?int|long|short|bool)\w*|torch\.(?:device|Size)"
    r"|(?:builtins|__builtin__)\.(?:set|frozenset)"
)
# No training script saves these: a file that names one is an attack, and no way on is offered.
_HOSTILE = re.compile(
    r"(?:os|posix|nt|subprocess|pty|shutil|socket|ctypes|runpy|importlib|webbrowser|code|commands"
    r"|urllib|http|requests|pip|timeit|pdb|bdb|asyncio)\b.*"
    r"|(?:builtins|__builtin__)\.(?:eval|exec|compile|open|getattr|setattr|apply|execfile|input"
    r"|__import__|globals|breakpoint)"
)
# Values that training scripts save beside the weights; everything else is a class of a network.
_EXTRAS = re.compile(
    r"argparse\.|numpy\.|pathlib\.|datetime\.|omegaconf\.|easydict\.|yacs\.|types\.SimpleNamespace"
    r"|collections\.|_codecs\.|builtins\.|torch\.optim\.|sklearn\."
)


def refusal(path: Path) -> CheckpointError | None:
    """The error for a file that names code, or None if it names none that can be told."""
    names = blocked_names(path)
    if not names:
        return None
    hostile = [name for name in names if _HOSTILE.fullmatch(name)]
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
    script = (
        f"import torch; d = torch.load({str(path)!r}, weights_only=False, map_location='cpu'); "
        "d = d.get('state_dict', d.get('model', d)) if isinstance(d, dict) else d; "
        "d = getattr(d, 'state_dict', lambda: d)(); "
        "torch.save({k: v for k, v in d.items() if torch.is_tensor(v)}, 'plain.pth')"
    )
    where = "if you trust it (better in a container without network)"
    if not all(_EXTRAS.match(name) for name in names):
        where = "if you trust it, where its code is installed (better without network)"
    plain = not set(script) & set('"$`!\\')
    quoted = f'"{script}"' if plain else shlex.quote(script)
    return f"{where}, run: python -c {quoted}; then convert plain.pth"
