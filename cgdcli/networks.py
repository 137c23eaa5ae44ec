"""The network that a job is given: a `CGD` as it is, or one to load."""

from pathlib import Path

from cgdcli.model.cgd import CGD
from cgdcli.reports import ModelInfo
from cgdcli.weights.checkpoint import model_fingerprint
from cgdcli.weights.loading import load_model

Model = CGD | str | Path | None


def as_model(model: Model) -> CGD:
    """A `CGD` as it is, anything else through `load_model`."""
    return model if isinstance(model, CGD) else load_model(model)


def model_info(model: CGD) -> ModelInfo:
    """What a model is, its fingerprint taken from its weights as they are now."""
    found = model_fingerprint(model)
    if model.info is not None and model.info.fingerprint == found:
        return model.info
    return ModelInfo("a model in memory", found, model.config.to_dict())
