"""The network that a job is given: known by what its file says, loaded when it must be.

Nothing here imports torch before it must: with the network compiled before (`engines.
openvino_engine`), embedding needs none of it, and torch with torchvision costs seconds and 0.8 GB.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Union

from cgdcli.config import CGDConfig
from cgdcli.reports import ModelInfo
from cgdcli.weights.sources import checkpoint_info, model_source, say_which

if TYPE_CHECKING:
    from cgdcli.model.cgd import CGD

Model = Union["CGD", str, Path, None]


class Network:
    """A model by what is known of it; its tensors are read when they are asked for.

    Attributes:
        info: what it is, its fingerprint that of its tensors.
    """

    def __init__(self, info: ModelInfo, model: "CGD | None" = None) -> None:
        self.info = info
        self.config = CGDConfig.from_dict(info.config)
        self._given = model

    @cached_property
    def model(self) -> "CGD":
        """The network itself, in eval mode.

        Raises:
            CheckpointError: its file cannot be read.
        """
        if self._given is not None:
            return self._given
        from cgdcli.weights.checkpoint import load_checkpoint

        checkpoint, info = load_checkpoint(Path(self.info.source))
        model = checkpoint.model()
        model.info = info
        return model

    @property
    def fingerprint(self) -> str:
        """What identifies the embeddings that it makes."""
        return self.info.fingerprint

    @cached_property
    def embedding_dim(self) -> int:
        """Length of an embedding; that of pooled descriptors is known once they are loaded."""
        return self.config.embedding_dim or self.model.embedding_dim

    @property
    def blocks(self) -> list[tuple[str, int, int]]:
        """Columns of each branch in the embedding: (letter, start, stop)."""
        return self.config.blocks(self.embedding_dim)


def known_network(model: Model) -> Network:
    """What is meant by `model`: a `CGD`, or what `weights.loading.load_model` takes.

    Raises:
        CheckpointError: nothing is found, or it cannot be read.
        MismatchError: the file was changed after it was written.
    """
    if model is None or isinstance(model, str | Path):
        found = model_source(model)
        info = checkpoint_info(found) if isinstance(found, Path) else None
        if info is not None:
            say_which(info)
            return Network(info)
        model = found
    network = as_model(model)
    return Network(model_info(network), network)


def as_model(model: Model) -> "CGD":
    """A `CGD` as it is, anything else through `load_model`."""
    from cgdcli.model.cgd import CGD
    from cgdcli.weights.loading import load_model

    return model if isinstance(model, CGD) else load_model(model)


def model_info(model: "CGD") -> ModelInfo:
    """What a model is, its fingerprint taken from its weights as they are now."""
    from cgdcli.weights.checkpoint import model_fingerprint

    found = model_fingerprint(model)
    if model.info is not None and model.info.fingerprint == found:
        return model.info
    return ModelInfo("a model in memory", found, model.config.to_dict())
