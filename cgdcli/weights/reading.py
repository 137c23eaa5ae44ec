"""Reading weights files of any kind, without running code."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cgdcli.errors import CheckpointError
from cgdcli.weights.header import read_header


def read_content(path: Path) -> Any:
    """What a weights file holds: tensors by name, or whatever was saved around them.

    Raises:
        CheckpointError: missing, damaged, or a pickle that wants to run code.
    """
    if path.is_dir():
        raise CheckpointError(
            f"`{path}` is a folder; a weights file is wanted", hint="name the .pth in it"
        )
    if path.suffix == ".safetensors":
        read_header(path)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"cannot read `{path}`: {error}", hint="copy or download it again"
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except OSError as error:
        raise CheckpointError(
            f"cannot read `{path}`: {error.strerror or error}",
            hint="check the spelling, and the folder you are in",
        ) from error
    except pickle.UnpicklingError as error:
        raise _blocked(path, error) from error
    except Exception as error:
        # On damaged bytes torch.load raises nearly everything: RuntimeError, EOFError, KeyError,
        # UnicodeDecodeError ... none of which is more than "this is not a weights file".
        raise _not_weights(path) from error


def _is_zip(path: Path) -> bool:
    return zipfile.is_zipfile(path)


def _blocked(path: Path, error: Exception) -> CheckpointError:
    names = sorted(
        set(re.findall(r"(?:GLOBAL|global|class|function) ([\w.]+\.[\w.]+)", str(error)))
    )
    if not names:
        return _not_weights(path)
    return CheckpointError(
        f"`{path}` is a pickle that wants to run code ({', '.join(names)}); only plain tensors "
        "are read, nothing was executed",
        hint="if you trust it, load it where it was made and save model.state_dict() alone",
    )


def _not_weights(path: Path) -> CheckpointError:
    # PyTorch's own words are left out: they are of its insides, or advise to turn safety off.
    return CheckpointError(
        f"`{path}` is not a PyTorch weights file, or is damaged",
        hint="copy or download it again; a .pth made by torch.save, or a .safetensors, is wanted",
    )
