"""Weights are rounded so that sums stay: as the method's own plain loop does, and better than each
weight to its nearest level."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cgdcli.config import CGDConfig, StrideMode, Transform
from cgdcli.engines import rounding
from cgdcli.engines.rounding import DAMPING, LEVELS, rounded, with_rounded_weights
from cgdcli.model.cgd import CGD, normalize_pixels

RNG = np.random.default_rng(0)


def layer(outputs=6, inputs=20, places=200):
    """Weights, and what they are given: correlated, as neighbours in a map are."""
    weight = RNG.normal(size=(outputs, inputs))
    given = RNG.normal(size=(places, inputs)) @ RNG.normal(size=(inputs, inputs))
    return weight.astype(np.float32), given.astype(np.float32)


def nearest(weight):
    scale = np.abs(weight).max(1, keepdims=True) / LEVELS
    return np.rint(weight / scale) * scale


def naive(weight, moments):
    """Optimal brain quantization in a fixed order, the inverse reduced after every column."""
    moments = moments.astype(float)
    order = np.argsort(-np.diag(moments), kind="stable")
    left = weight.astype(float)[:, order]
    scale = np.abs(weight).max(1) / LEVELS
    damped = moments[np.ix_(order, order)]
    damped = damped + np.eye(len(damped)) * DAMPING * np.diag(moments).mean()
    inverse = np.linalg.inv(damped)
    levels = np.zeros_like(left)
    for i in range(left.shape[1]):
        levels[:, i] = np.clip(np.rint(left[:, i] / scale), -LEVELS, LEVELS)
        error = (left[:, i] - levels[:, i] * scale) / inverse[i, i]
        left[:, i:] -= error[:, None] * inverse[i, i:]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    levels = levels[:, np.argsort(order)]
    for row, column in enumerate(np.abs(weight).argmax(1)):
        levels[row, column] = LEVELS * np.sign(weight[row, column])
    return levels * scale[:, None]


@pytest.mark.parametrize("block", [1, 7, 128])
def test_it_is_the_plain_loop_whatever_is_told_at_once(monkeypatch, block):
    monkeypatch.setattr(rounding, "_BLOCK", block)
    weight, given = layer()
    found = rounded(weight, given.T @ given)
    wanted = naive(weight, given.T @ given)
    step = np.abs(weight).max(1, keepdims=True) / LEVELS
    # A sum that lies between two levels may go either way in another precision.
    assert (np.abs(found - wanted) < 1e-3 * step).mean() > 0.95


def test_weights_are_on_levels_and_the_largest_stays():
    weight, given = layer()
    found = rounded(weight, given.T @ given)
    levels = found / np.abs(weight).max(1, keepdims=True) * LEVELS
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
    assert np.allclose(np.abs(found).max(1), np.abs(weight).max(1))


def test_sums_stay_better_than_with_each_weight_at_its_nearest():
    weight, given = layer(inputs=64, places=500)
    moments = given[:400].T @ given[:400]
    wanted = given[400:] @ weight.T  # of what the rounding was not found on
    apart = [
        np.square(given[400:] @ w.T - wanted).mean()
        for w in (rounded(weight, moments), nearest(weight))
    ]
    assert apart[0] < 0.7 * apart[1]


def test_dead_channels_and_inputs_that_are_always_zero():
    weight, given = layer()
    weight[2], given[:, 3] = 0, 0
    found = rounded(weight, given.T @ given)
    assert np.isfinite(found).all() and (found[2] == 0).all()
    assert np.isfinite(rounded(weight, np.zeros((20, 20), np.float32))).all()


def test_a_networks_map_stays_and_the_network_itself():
    torch.manual_seed(0)
    config = CGDConfig(
        backbone="mobilenet_v3_small",
        stride=StrideMode.standard,
        transform=Transform(image_size=32),
        embedding_dim=16,
    )
    model = CGD(config).eval()
    before = copy.deepcopy(model.state_dict())
    pixels = RNG.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    copied = with_rounded_weights(model, pixels[:24])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    plain = copy.deepcopy(model)
    for part in plain.backbone.modules():
        if isinstance(part, torch.nn.Conv2d) and part.groups == 1:
            weight = part.weight.detach()
            rows = nearest(weight.flatten(1).numpy())
            part.weight.data = torch.from_numpy(rows).view_as(weight)
    images = normalize_pixels(torch.from_numpy(pixels[24:]), config)
    with torch.inference_mode():
        wanted, found, other = (m.backbone(images).flatten(1) for m in (model, copied, plain))
    assert 0 < F.mse_loss(found, wanted) < 0.7 * F.mse_loss(other, wanted)
