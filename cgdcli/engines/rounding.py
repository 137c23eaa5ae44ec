"""Which way each weight is rounded to 8 bits: so that a layer's sums stay, not each weight.

Rounding every weight to its nearest level is what costs an int8 network most: with nothing else
quantized, a ResNet-18's rows are off by 6e-4 in cosine, rounded as here by 5e-5 (120 photographs
of cars that no rounding was found on). The method is GPTQ (Frantar, Ashkboos, Hoefler & Alistarh
2022, arXiv 2210.17323), for convolutions: each column of weights in turn is rounded, and those not
rounded yet are moved to make up for the error, by the second moments of what the layer is given.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cgdcli.engines import Rows
from cgdcli.model.cgd import CGD, normalize_pixels

# The largest of 8 bits with a sign; -128 is not used, so that scales are symmetric.
LEVELS = 127
# Of the mean second moment, added to each: what the pictures say nothing of stays where it is.
DAMPING = 0.01
# Columns whose errors are passed on within before the rest is told, for speed.
_BLOCK = 128
# Places of a map that are looked at, evenly spaced; neighbours are given nearly the same.
_PLACES = 400
# Pictures are enough: 1600 places of a 7 x 7 map for 4608 weights a channel, with the damping.
_PICTURES = 32
_PICTURES_AT_ONCE = 16


def with_rounded_weights(model: CGD, pixels: NDArray[np.uint8]) -> CGD:
    """A copy whose convolutions have weights on the levels that int8 has, by output channel.

    A norm folded into a convolution scales a channel, and its levels with it, so that who quantizes
    the copy by the largest weight of each channel finds these levels. Convolutions in groups stay.

    Args:
        pixels: what the network will be given, uint8 (N, H, W, 3), resized already.
    """
    copied = copy.deepcopy(model).cpu().eval()
    layers = [
        layer
        for layer in copied.backbone.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
    ]
    some = np.unique(np.linspace(0, len(pixels) - 1, _PICTURES).astype(int))
    moments = _second_moments(copied, layers, pixels[some])
    with torch.no_grad():
        for layer in layers:
            weight = layer.weight
            rows = rounded(weight.flatten(1).numpy(), moments.pop(layer).numpy())
            weight.copy_(torch.from_numpy(rows).view_as(weight))
    return copied


def rounded(weight: Rows, moments: Rows) -> Rows:
    """Weights (O, I) on the levels n s, n = -127 ... 127, s that of the largest of each row.

    NumPy, not PyTorch: of steps so small, threads that wait for each other take three quarters.

    Args:
        moments: (I, I), the sum over what the layer is given of x x^T.

    Returns:
        Those that make sum |W x - W' x|^2 small; the largest of each row is at level 127 still.
    """
    scale = np.maximum(np.abs(weight).max(1) / LEVELS, np.finfo(np.float32).tiny)
    order = np.argsort(-moments.diagonal(), kind="stable")
    passed_on = _inverse_root(moments[np.ix_(order, order)])
    left = np.asfortranarray(weight[:, order])
    levels = np.empty_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        stop = min(start + _BLOCK, left.shape[1])
        block, errors = left[:, start:stop], np.empty_like(left[:, start:stop])
        for i in range(stop - start):
            row = passed_on[start + i, start:stop]
            level = np.clip(np.rint(block[:, i] / scale), -LEVELS, LEVELS)
            levels[:, start + i] = level
            errors[:, i] = (block[:, i] - level * scale) / row[i]
            block[:, i + 1 :] -= errors[:, i, None] * row[i + 1 :]
        left[:, stop:] -= errors @ passed_on[start:stop, stop:]
    levels = levels[:, np.argsort(order)]
    largest = np.abs(weight).argmax(1)[:, None]
    np.put_along_axis(
        levels, largest, LEVELS * np.sign(np.take_along_axis(weight, largest, 1)), axis=1
    )
    return np.ascontiguousarray(levels * scale[:, None])


def _inverse_root(moments: Rows) -> Rows:
    """The upper Cholesky factor of the inverse, whose row i says how an error in column i is made
    up for by those after it. In float64: moments are nearly singular."""
    wide = torch.from_numpy(moments).double()
    mean = float(wide.diagonal().mean())
    wide = wide + torch.eye(len(wide), dtype=wide.dtype) * (DAMPING * mean if mean else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(wide))
    upper: Rows = torch.linalg.cholesky(inverse, upper=True).float().numpy()
    return upper


def _second_moments(
    model: CGD, layers: list[nn.Conv2d], pixels: NDArray[np.uint8]
) -> dict[nn.Conv2d, Tensor]:
    moments: dict[nn.Conv2d, Tensor] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        columns = _columns(layer, given[0])
        moments[layer] = moments.get(layer, torch.zeros(())) + columns.T @ columns

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.inference_mode():
            for start in range(0, len(pixels), _PICTURES_AT_ONCE):
                given = torch.from_numpy(pixels[start : start + _PICTURES_AT_ONCE])
                model.backbone(normalize_pixels(given, model.config))
    finally:
        for hook in hooks:
            hook.remove()
    return moments


def _columns(layer: nn.Conv2d, given: Tensor) -> Tensor:
    """What each sum of a convolution is over, (places, I), at some of its places."""
    padding = layer.padding
    assert isinstance(padding, tuple)
    patches = F.unfold(given, layer.kernel_size, layer.dilation, padding, layer.stride)
    step = max(1, patches.shape[2] // _PLACES)
    return patches[:, :, ::step].transpose(1, 2).flatten(0, 1)
