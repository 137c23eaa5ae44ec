"""Which model is meant: a file, a run, a backbone's name, or the newest run. No torch."""

import json
import logging
import os
from pathlib import Path

from cgdcli.config import TORCHVISION, is_timm
from cgdcli.config.backbones import did_you_mean
from cgdcli.errors import CheckpointError, MismatchError
from cgdcli.reports import ModelInfo
from cgdcli.weights.header import Header, file_fingerprint, read_header

logger = logging.getLogger("cgdcli")

MODEL_VARIABLE = "CGD_MODEL"
RESULT_FILE = "result.json"  # in a run's folder, written when it has finished
_WHAT_IS_A_MODEL = (
    "give a checkpoint (.safetensors), a run (runs/NAME) or a backbone such as `--model resnet18`"
)


def model_source(source: str | Path | None = None, *, runs: Path = Path("runs")) -> Path | str:
    """The file that is meant, or a backbone's name.

    Args:
        source: a file, a run's folder (its `best`, else its `last`), or a backbone's name. None:
            `$CGD_MODEL`, else the newest finished run under `runs`.

    Raises:
        CheckpointError: it is none of these.
    """
    if source is None:
        source = _default_source(runs)
    path = Path(source)
    if path.is_dir() and (path / "last.safetensors").is_file():
        path = run_checkpoint(path)
    if path.is_file():
        return path
    if str(source) in TORCHVISION or is_timm(str(source)):
        return str(source)
    if path.is_dir():
        found = "is a folder without a checkpoint"
    else:
        found = "is neither a file, a run's folder nor a backbone known here"
    hint = did_you_mean(str(source)) or _WHAT_IS_A_MODEL
    raise CheckpointError(f"the model `{source}` {found}", hint=hint)


def checkpoint_info(path: Path) -> ModelInfo | None:
    """What a checkpoint of ours says it is, its fingerprint compared with its bytes; None for
    another kind of file.

    Raises:
        CheckpointError: it is damaged, or of another version.
        MismatchError: the tensors were changed since it was written.
    """
    if path.suffix != ".safetensors":
        return None
    header = read_header(path)
    if header.metadata is None:
        return None
    found = file_fingerprint(header)
    check_fingerprint(header, found)
    return model_info_of(header, found)


def say_which(info: ModelInfo) -> None:
    """Log which model is used, and what was taken by convention."""
    if info.assumed:
        logger.warning("%s: assumed %s", info.source, "; ".join(info.assumed))
    logger.debug("model %s, fingerprint %s", info.source, info.fingerprint)
    logger.debug("network %s", json.dumps(info.config))


def check_fingerprint(header: Header, found: str) -> None:
    """Raise `MismatchError` unless `found`, of the tensors, is what the header says."""
    said = str((header.metadata or {}).get("fingerprint"))
    if found != said:
        raise MismatchError(
            f"`{header.path}` was changed after it was written: its tensors have the fingerprint "
            f"{found[:12]}, its header says {said[:12]}",
            hint="take the original file, or convert it again",
        )


def model_info_of(header: Header, fingerprint: str) -> ModelInfo:
    """What the header of one of our files says of the model."""
    saved = header.metadata or {}
    return ModelInfo(
        str(header.path),
        fingerprint,
        header.config().to_dict(),
        tuple(saved.get("assumed", ())),
        dict(saved.get("origin", {})),
        tuple(saved.get("classes", ())),
    )


def run_checkpoint(run: Path) -> Path:
    """A run means its `best` if one was chosen, else its `last`."""
    best = run / "best.safetensors"
    return best if best.is_file() else run / "last.safetensors"


def newest_finished_run(runs: Path) -> Path | None:
    """The run under `runs` that finished last."""
    results = sorted(runs.glob(f"*/{RESULT_FILE}"), key=lambda file: file.stat().st_mtime)
    return results[-1].parent if results else None


def find_by_fingerprint(fingerprint: str, folders: list[Path]) -> Path | None:
    """A checkpoint of ours with that fingerprint in one of the folders, by their headers alone."""
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")):
            try:
                metadata = read_header(file).metadata or {}
            except CheckpointError:
                continue
            if metadata.get("fingerprint") == fingerprint:
                return file
    return None


def _default_source(runs: Path) -> str | Path:
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        logger.info("model: %s (from %s)", named, MODEL_VARIABLE)
        return named
    run = newest_finished_run(runs)
    if run is None:
        raise CheckpointError(
            f"no model is named, {MODEL_VARIABLE} is not set and `{runs}` holds no finished run",
            hint=f"train one with `cgd train DATA`, or {_WHAT_IS_A_MODEL}",
        )
    path = run_checkpoint(run)
    logger.info("model: %s (the newest finished run)", path)
    return path
