"""Which model is meant, and loading it: a file, a run, a backbone's name, or the newest run."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor

from cgdcli.config import CGDConfig, is_timm, pooled_config
from cgdcli.errors import CheckpointError
from cgdcli.model.backbones import backbone_transform, imagenet_weights
from cgdcli.model.cgd import CGD, empty_model
from cgdcli.reports import ModelInfo
from cgdcli.weights.checkpoint import load_checkpoint, load_strictly, model_fingerprint
from cgdcli.weights.foreign import read_architecture, read_foreign
from cgdcli.weights.formats.torchvision import TORCHVISION
from cgdcli.weights.formats.torchvision_others import TORCHVISION_OTHERS
from cgdcli.weights.header import read_header
from cgdcli.weights.sources import model_source, say_which
from cgdcli.weights.timm_weights import download_timm_weights, timm_weights

logger = logging.getLogger("cgdcli")


def load_model(source: str | Path | None = None, *, runs: Path = Path("runs")) -> CGD:
    """Load a model in eval mode on the CPU; its `info` says what it is.

    Args:
        source: a checkpoint of ours, a run's folder (its `best`, else its `last`), a weights file
            in torchvision's names, or a torchvision backbone's name: those two give the pooled
            descriptors S and G with torchvision's strides. None: `$CGD_MODEL`, else the newest
            finished run under `runs`.

    Raises:
        CheckpointError: nothing is found, or it cannot be read.
        MismatchError: the file was changed after it was written.
    """
    found = model_source(source, runs=runs)
    return _logged(_load_file(found) if isinstance(found, Path) else _load_backbone(found))


def read_backbone_weights(path: Path, backbone: str, image_size: int) -> dict[str, Tensor]:
    """The trunk of a weights file in its own, the reference's or our names, any precision.

    Args:
        image_size: of the network to fill; some of timm's are of one size.

    Raises:
        CheckpointError: the file is unreadable, or of another backbone.
    """
    own = _own_config(path)
    if is_timm(backbone) and (own is None or own.backbone == backbone):
        return timm_weights(path, backbone, image_size)
    if own is None:
        weights = read_foreign(path)
        found, tensors = read_architecture(weights).backbone, weights.tensors
    else:
        found, tensors = own.backbone, load_file(path)
    if found != backbone:
        raise CheckpointError(
            f"`{path}` holds the weights of {found}; the network to train is {backbone}",
            hint=f"train with --backbone {found}, or give weights of {backbone}",
        )
    return _trunk(tensors)


def download_backbone_weights(backbone: str, image_size: int) -> dict[str, Tensor]:
    """torchvision's first ImageNet weights, or timm's default ones, from their cache or server;
    says size and place.

    Raises:
        CheckpointError: there is no network and no cached file.
    """
    if is_timm(backbone):
        return download_timm_weights(backbone, image_size)
    weights = imagenet_weights(backbone)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(weights.url).name
    if not target.is_file():
        size = weights.meta["_file_size"]
        logger.info("downloading %s (%.0f MB) to %s", weights.url, size, target)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            prefix = target.stem.split("-")[-1]  # of its SHA-256, by torchvision's naming
            torch.hub.download_url_to_file(weights.url, str(target), prefix, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot download the ImageNet weights of {backbone} ({error})",
                hint=f"put {target.name} into {folder}, or name a weights file yourself: "
                "--backbone-weights FILE for `train`, --model FILE elsewhere",
            ) from error
    try:
        return read_backbone_weights(target, backbone, image_size)
    except CheckpointError as error:
        raise CheckpointError(error.what, hint=f"remove `{target}` to download it again") from error


def _logged(model: CGD) -> CGD:
    assert model.info is not None
    say_which(model.info)
    return model


def _load_file(path: Path) -> CGD:
    if path.suffix == ".safetensors" and read_header(path).metadata is not None:
        checkpoint, info = load_checkpoint(path)
        model = checkpoint.model()
        model.info = info
        return model
    weights = read_foreign(path)
    if weights.format not in (TORCHVISION, TORCHVISION_OTHERS):
        raise CheckpointError(
            f"`{path}` is in the format of {weights.format.name}, which leaves things unsaid",
            hint=f"convert it first: cgd convert-weights '{path}'",
        )
    return _pooled_model(
        _pooled(read_architecture(weights).backbone), lambda: _trunk(weights.tensors), path
    )


def _load_backbone(backbone: str) -> CGD:
    config = _pooled(backbone)
    size = config.transform.image_size
    return _pooled_model(config, lambda: download_backbone_weights(backbone, size), backbone)


def _pooled(backbone: str) -> CGDConfig:
    """Its pooled descriptors, pictures prepared as for its published weights."""
    return replace(pooled_config(backbone), transform=backbone_transform(backbone))


def _pooled_model(
    config: CGDConfig, read: Callable[[], dict[str, Tensor]], source: str | Path
) -> CGD:
    model = empty_model(config)
    load_strictly(model.backbone, read(), f"the weights of `{source}`")
    model.info = ModelInfo(
        str(source),
        model_fingerprint(model),
        model.config.to_dict(),
        origin={"backbone": str(source), "note": "untrained: pooled descriptors of the backbone"},
    )
    return model.eval()


def _own_config(path: Path) -> CGDConfig | None:
    """The config of one of our files; None for any other."""
    if path.suffix != ".safetensors":
        return None
    header = read_header(path)
    return None if header.metadata is None else header.config()


def _trunk(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("backbone."): value
        for name, value in tensors.items()
        if name.startswith("backbone.")
    }
