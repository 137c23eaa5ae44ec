"""The golden weight rule (`golden/weights_rule.json`), and the reference's checkpoints."""

import json
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
PICTURES = sorted((GOLDEN / "pictures").iterdir())
M64 = (1 << 64) - 1


@cache
def outputs() -> dict:
    return json.loads((GOLDEN / "reference_outputs.json").read_text())


@cache
def checkpoints() -> dict:
    return json.loads((GOLDEN / "reference_checkpoints.json").read_text())


def _integers(seed: int, count: int) -> np.ndarray:
    i = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.int64) - 8388608


def noise(name: str, count: int) -> np.ndarray:
    return (_integers(zlib.crc32(name.encode()), count) + 0.5) / 8388608 * math.sqrt(3)


@cache
def rule_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor by the rule: float32, or int64 for `num_batches_tracked`."""
    last = name.rsplit(".", 1)[-1]
    count = math.prod(shape)
    if last == "num_batches_tracked":
        return torch.tensor(7)
    if last in ("total_ops", "total_params"):
        return torch.zeros(shape, dtype=torch.float64)
    n = noise(name, count)
    if last in ("running_mean", "bias"):
        values = 0.1 * n
    elif last == "running_var":
        values = 1 + 0.1 * np.abs(n)
    elif len(shape) == 1:
        values = 1 + 0.1 * n
    else:
        fan_in = math.prod(shape[1:])
        k = _integers(zlib.crc32(name.encode()), count).reshape(shape[0], fan_in) + 0.5
        if shape[1] != 3:
            k = k - k.sum(1, keepdims=True) / fan_in
        values = k / 8388608 * math.sqrt(3) * math.sqrt(2 / fan_in)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def state_dict(model: str) -> dict[str, torch.Tensor]:
    """The clean state_dict of a golden model, such as `resnet18_SG_256_21`."""
    clean = checkpoints()["models"][model]["clean"]
    return {name: rule_tensor(name, tuple(shape)) for name, shape, _ in clean}


def polluted(model: str, version: str) -> dict[str, torch.Tensor]:
    """The same after thop `version` has run over the model: its keys, in its order."""
    keys = checkpoints()["models"][model]["after_profile"][version]
    clean = state_dict(model)
    return {key: clean.get(key, torch.zeros(1, dtype=torch.float64)) for key in keys}


def config_state_dict(config: dict) -> dict[str, torch.Tensor]:
    """A reference-style state_dict for one of the 19 golden configurations."""
    from cgdcli.config import CGDConfig
    from cgdcli.model.cgd import meta_model

    names = {"resnext50": "resnext50_32x4d"}
    ours = meta_model(
        CGDConfig(
            backbone=names.get(config["backbone"], config["backbone"]),
            descriptors=config["gd_config"],
            embedding_dim=config["feature_dim"],
            classes=config["num_classes"],
        )
    ).state_dict()
    return {
        reference_name(name): rule_tensor(reference_name(name), tuple(value.shape))
        for name, value in ours.items()
    }


def reference_name(name: str) -> str:
    """Our name in the reference's words; written apart from the product's table on purpose."""
    for ours, theirs in (
        ("backbone.conv1.", "features.0."),
        ("backbone.bn1.", "features.1."),
        ("backbone.layer1.", "features.4."),
        ("backbone.layer2.", "features.5."),
        ("backbone.layer3.", "features.6."),
        ("backbone.layer4.", "features.7."),
        ("classifier.batch_norm.", "auxiliary_module.0."),
        ("classifier.linear.", "auxiliary_module.1."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    assert name.startswith("branches.")
    return f"main_modules.{name.split('.')[1]}.0.weight"
