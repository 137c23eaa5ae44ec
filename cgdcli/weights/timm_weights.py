"""Weights of timm's networks: its published ones, or a file of theirs."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from cgdcli.config.backbones import TIMM
from cgdcli.errors import CheckpointError
from cgdcli.model.timm_trunks import (
    meta_timm_trunk,
    timm_converted,
    timm_names,
    timm_pretrained,
)
from cgdcli.weights.reading import read_content
from cgdcli.weights.wrappers import strip_prefixes, unwrap
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")

_OURS = "backbone."


def download_timm_weights(backbone: str, image_size: int) -> dict[str, Tensor]:
    """timm's default weights of a network, from the Hugging Face cache or hub.

    Raises:
        CheckpointError: timm publishes none, or there is no network and no cached file.
    """
    import timm

    config: Any = timm.models.get_pretrained_cfg(backbone.removeprefix(TIMM))
    if config is None or not config.has_weights:
        raise CheckpointError(
            f"timm publishes no weights of {backbone}",
            hint="name a weights file: --backbone-weights FILE, or `none` to train from scratch",
        )
    place = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
    logger.info("weights of %s: %s, downloaded unless in the cache", backbone, place)
    try:
        with _quiet("huggingface_hub"):
            tensors = timm_pretrained(backbone, image_size)
    except Exception as error:  # hub, network, disk and file each raise their own
        raise CheckpointError(
            f"cannot get timm's weights of {backbone} from {place} ({_first_lines(error)})",
            hint="fetch the file where there is a network, and name it: --backbone-weights FILE "
            "for `train`",
        ) from error
    names = meta_timm_trunk(backbone, image_size).state_dict()
    return {name: tensors[name] for name in names}


def timm_weights(path: Path, backbone: str, image_size: int) -> dict[str, Tensor]:
    """The trunk of a file of timm's names or ours, with or without its classifier; nothing in it
    is executed.

    Raises:
        CheckpointError: the file is unreadable, or of another network.
    """
    entries = unwrap(str(path), read_content(path)).entries
    tensors = {short: entries[name] for name, short in strip_prefixes(entries).names.items()}
    if any(name.startswith(_OURS) for name in tensors):
        tensors = {n.removeprefix(_OURS): t for n, t in tensors.items() if n.startswith(_OURS)}
    wanted = meta_timm_trunk(backbone, image_size).state_dict()
    fits = all(n in tensors and tensors[n].shape == t.shape for n, t in wanted.items())
    known = wanted.keys() | timm_names(backbone)
    if fits and tensors.keys() <= known:
        return {name: tensors[name] for name in wanted}
    try:  # older names, or positions of another size
        converted = timm_converted(backbone, image_size, tensors)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"`{path}` holds other weights than those of {backbone}: "
            f"{_misfit(tensors, wanted, known)}",
            hint="name the network that they are of by --backbone",
        ) from error
    return {name: converted[name] for name in wanted}


def _misfit(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], known: Collection[str]
) -> str:
    """What differs, of each kind the first."""
    lacking = [name for name in wanted if name not in tensors]
    misshapen = [n for n, t in wanted.items() if n in tensors and tensors[n].shape != t.shape]
    unknown = [name for name in tensors if name not in known]
    found = [
        f"{counted(len(names), 'entry', 'entries')} {what}, first {names[0]}"
        for what, names in (("lacking", lacking), ("misshapen", misshapen), ("unknown", unknown))
        if names
    ]
    return "; ".join(found)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """What a library says of each attempt; what comes of them is said by us."""
    others = logging.getLogger(name)
    level = others.level
    others.setLevel(logging.ERROR)
    try:
        yield
    finally:
        others.setLevel(level)


def _first_lines(error: Exception) -> str:
    return " ".join(" ".join(str(error).split()).split(" ")[:30]) or type(error).__name__
