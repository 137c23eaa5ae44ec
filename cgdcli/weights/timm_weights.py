"""Weights of timm's networks: its published ones, or a file of theirs."""

import logging
from collections.abc import Iterator
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

logger = logging.getLogger("cgdcli")


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
    """The trunk of a file of timm's, with or without its classifier; nothing in it is executed.

    Raises:
        CheckpointError: the file is unreadable, or of another network.
    """
    entries = unwrap(str(path), read_content(path)).entries
    tensors = {short: entries[name] for name, short in strip_prefixes(entries).names.items()}
    wanted = meta_timm_trunk(backbone, image_size).state_dict()
    fits = all(n in tensors and tensors[n].shape == t.shape for n, t in wanted.items())
    if fits and tensors.keys() <= wanted.keys() | timm_names(backbone):
        return {name: tensors[name] for name in wanted}
    try:  # older names, or positions of another size
        tensors = timm_converted(backbone, image_size, tensors)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"`{path}` is no weights file of {backbone}: {_first_lines(error)}",
            hint="name the network that it is of: --backbone timm:NAME",
        ) from error
    return {name: tensors[name] for name in wanted}


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
    """Of the many lines that a misfit takes."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return " ".join(" ".join(str(error).split()).split(" ")[:30]) or type(error).__name__
