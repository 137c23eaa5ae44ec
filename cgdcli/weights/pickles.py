"""Pickles that want to run code: what they name is listed, nothing of them is run."""

import pickle
import pickletools
import re
import shlex
import tarfile
from pathlib import Path
from typing import BinaryIO

from torch.serialization import get_unsafe_globals_in_checkpoint

from cgdcli.errors import CheckpointError

# torch.save without zip writes five pickles: magic number, protocol, system, object, storage keys.
_PICKLES = 5
# What every state_dict names; only left out of the list, never allowed by it.
_ORDINARY = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.(?:float|double|half|bfloat|int|u?int|long|short|bool)\w*|torch\.(?:device|Size)"
)
# Values that training scripts save beside the weights; everything else is a class of a network.
_EXTRAS = re.compile(
    r"argparse\.|numpy\.|pathlib\.|datetime\.|omegaconf\.|easydict\.|yacs\.|types\.SimpleNamespace"
    r"|collections\.|_codecs\.|builtins\.|torch\.optim\.|sklearn\."
)


def refusal(path: Path) -> CheckpointError | None:
    """The error for a file that names code, or None if it names none that can be told."""
    if tarfile.is_tarfile(path):
        return CheckpointError(
            f"`{path}` is a tar archive, as PyTorch before 0.2 wrote; reading one runs code",
            hint="load it with the PyTorch that wrote it and save model.state_dict() again",
        )
    names = blocked_names(path)
    if not names:
        return None
    return CheckpointError(
        f"`{path}` is a pickle that wants to run code ({', '.join(names)}); only plain tensors "
        "are read, nothing was executed",
        hint=_way_on(path, names),
    )


def blocked_names(path: Path) -> list[str]:
    """Classes and functions that the pickle in a file names, beyond those of plain tensors."""
    with path.open("rb") as stream:
        if stream.read(2) == b"PK":
            try:
                names = set(get_unsafe_globals_in_checkpoint(str(path)))
            except Exception:
                # On damaged archives it raises nearly everything; those are told of elsewhere.
                return []
        else:
            stream.seek(0)
            names = _names_in(stream)
    return sorted(name for name in names if not _ORDINARY.fullmatch(name))


def _names_in(stream: BinaryIO) -> set[str]:
    """Globals of the pickles at the start of a stream, by their opcodes alone."""
    names: set[str] = set()
    for _ in range(_PICKLES):
        strings: list[str] = []
        memo: dict[int, str] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL" and isinstance(argument, str):
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
    load = f"torch.load({str(path)!r}, weights_only=False, map_location='cpu')"
    if all(_EXTRAS.match(name) for name in names):
        what = f"{load}['state_dict']"
        where = "if you trust it (better in a container without network)"
    else:
        what = f"{load}.state_dict()"
        where = "if you trust it, where its code is installed (better without network)"
    script = f"import torch; torch.save({what}, 'plain.pth')"
    plain = not set(script) & set('"$`!\\')
    quoted = f'"{script}"' if plain else shlex.quote(script)
    return f"{where}, run: python -c {quoted}; then convert plain.pth"
