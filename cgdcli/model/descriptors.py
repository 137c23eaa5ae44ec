"""Global descriptors: a map of any size becomes one vector.

Shape letters in this file: B pictures, C channels, H and W the map's height and width, R regions.
All of them work in float32 at least, whatever the map's dtype: a cube or a norm taken in bfloat16
moves an embedding by up to 3e-3 in cosine.

Sources: S is SPoC (Babenko & Lempitsky 2015, arXiv 1510.07493), here as the plain mean; M is MAC
and R is R-MAC (Tolias, Sicre & Jegou 2016, arXiv 1511.05879); G is GeM (Radenovic, Tolias & Chum
2018, arXiv 1711.02512); C is CroW, cross-dimensional weighted sum pooling (Kalantidis, Mellina &
Osindero 2016, arXiv 1512.04065); W is GeM with a weight for every place (weighted GeM: Wu, Irie,
Hiramatsu & Kashino 2018, who learn the weights; ours are CroW's, so that W needs no training).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RMAC_SCALES = 3
RMAC_OVERLAP = 0.4
FLOOR = 1e-6


def pool(
    feature_map: Tensor, letter: str, *, p: float | Tensor = 3.0, clamped: bool = False
) -> Tensor:
    """Pool a map by the descriptor called `letter`.

    Args:
        feature_map: (B, C, H, W), any float dtype.
        letter: one of S M G R C W.
        p: exponent of G and W, 1 or more; a learned one is a scalar tensor.
        clamped: take G and W of the map clamped at 1e-6, as with a learned p: for maps that have
            values below 0, where the slope of a root of their sum has no bound.

    Returns:
        (B, C), float32, or float64 for a float64 map; not normalized.

    Raises:
        KeyError: an unknown letter (`config.check_descriptors` words it for users).
    """
    with torch.autocast(feature_map.device.type, enabled=False):
        x = _at_least_float32(feature_map)
        if letter in "GW" and (clamped or isinstance(p, Tensor)):
            weights = spatial_weights(x) if letter == "W" else torch.ones_like(x[:, :1])
            return clamped_mean(x, p, weights)
        return _POOLINGS[letter](x, p)


def spoc(x: Tensor) -> Tensor:
    """S: the mean over places. (B, C, H, W) -> (B, C)."""
    return x.mean((2, 3))


def mac(x: Tensor) -> Tensor:
    """M: the maximum over places; among equal ones the gradient goes to the first, row-major."""
    return x.flatten(2).max(-1).values


def gem(x: Tensor, p: float) -> Tensor:
    """G: the generalized mean, sign(m) |m|^(1/p) with m = mean of sign(x) |x|^p.

    The values are those of the reference at p = 3. Its gradient is 0 * inf = NaN where m = 0 (an
    all-zero channel); here it is 0 there. For a learned p, or a map that is no ReLU's, see
    `clamped_mean`.
    """
    return _signed_root(_signed_power(x, p).mean((2, 3)), p)


def rmac(x: Tensor) -> Tensor:
    """R: maxima of square regions at three scales, each L2-normalized over C, summed (R-MAC).

    Scale l has regions of side 2 min(H, W) / (l + 1), laid out by `rmac_regions`. The paper's
    PCA-whitening of the regions is left out: it is learned apart from the network.
    """
    regions = rmac_regions(x.shape[2], x.shape[3])
    maxima = [mac(x[:, :, top : top + side, left : left + side]) for top, left, side in regions]
    return torch.stack([F.normalize(vector) for vector in maxima]).sum(0)


def rmac_regions(height: int, width: int) -> list[tuple[int, int, int]]:
    """The (top, left, side) of R-MAC's regions on a map of `height` x `width`.

    Scale l = 1, 2, 3 has l regions along the shorter side and l + m along the longer, where m is
    the number that brings the overlap of neighbours at scale 1 nearest to 40 % (0 on a square).
    """
    short, long = min(height, width), max(height, width)
    extra = 0
    if long > short:
        # n regions of side `short` along `long` are (long - short) / (n - 1) apart.
        extra = min(range(1, 7), key=lambda m: abs(1 - (long - short) / m / short - RMAC_OVERLAP))
    regions = []
    for scale in range(1, RMAC_SCALES + 1):
        side = max(1, int(2 * short / (scale + 1)))
        rows = scale + (extra if height > width else 0)
        columns = scale + (extra if width > height else 0)
        regions += [
            (top, left, side)
            for top in _starts(height, side, rows)
            for left in _starts(width, side, columns)
        ]
    return regions


def crow(x: Tensor) -> Tensor:
    """C: sum over places of spatial weight x channel weight x value (CroW).

    Spatial weight: the sum over channels, divided by its L2 norm, square-rooted. Channel weight:
    log(sum of q / q_c), q_c the share of places where channel c is above 0; 0 for a channel that
    is dead. No gradient goes through the weights; an all-zero map gives zeros.
    """
    spatial = spatial_weights(x)
    return (x * spatial).sum((2, 3)) * _channel_weights(x)


def weighted_gem(x: Tensor, p: float) -> Tensor:
    """W: GeM in which places count by CroW's spatial weights, scaled to sum to 1."""
    weights = spatial_weights(x)
    total = weights.sum((2, 3), keepdim=True)
    weights = weights / torch.where(total == 0, 1, total)
    return _signed_root((_signed_power(x, p) * weights).sum((2, 3)), p)


def clamped_mean(x: Tensor, p: float | Tensor, weights: Tensor) -> Tensor:
    """The generalized mean of the map clamped at 1e-6, as Radenovic et al. 2018 take it:
    (weighted mean of max(x, 1e-6)^p)^(1/p). p may have a gradient.

    By logarithms: 1e-6 to the power of 7 is 0 in float32, and the gradient of its root infinite.

    Args:
        weights: (B, 1, H, W), 0 or more, of any sum; all the same where all are 0.
    """
    logs = x.clamp(min=FLOOR).log().flatten(2)
    shares = weights.clamp(min=torch.finfo(x.dtype).tiny).log().flatten(2)
    mean = torch.logsumexp(p * logs + shares, 2) - torch.logsumexp(shares, 2)
    return (mean / p).exp()


def spatial_weights(x: Tensor) -> Tensor:
    """CroW's weight of every place, (B, 1, H, W), without gradient; zeros for an all-zero map."""
    total = x.detach().sum(1, keepdim=True).clamp(min=0)
    norm = total.square().sum((2, 3), keepdim=True).sqrt()
    return (total / torch.where(norm == 0, 1, norm)).sqrt()


def _channel_weights(x: Tensor) -> Tensor:
    """(B, C), without gradient: rare channels count more, like idf."""
    share = (x.detach() > 0).to(x.dtype).mean((2, 3))
    total = share.sum(1, keepdim=True)
    return torch.where(share > 0, (total / torch.where(share > 0, share, 1)).log(), 0)


def _starts(length: int, side: int, count: int) -> list[int]:
    if count == 1 or length <= side:
        return [0] * count
    return [int(i * (length - side) / (count - 1)) for i in range(count)]


def _signed_power(x: Tensor, p: float) -> Tensor:
    return x * x * x if p == 3 else x.sign() * x.abs().pow(p)


def _signed_root(m: Tensor, p: float) -> Tensor:
    # The root's slope is infinite at 0; there a constant is put in its place, whose slope is 0.
    zero = m == 0
    root = torch.where(zero, 1, m.abs()).pow(1 / p)
    return torch.where(zero, 0, m.sign() * root)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


_POOLINGS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "S": lambda x, p: spoc(x),
    "M": lambda x, p: mac(x),
    "G": gem,
    "R": lambda x, p: rmac(x),
    "C": lambda x, p: crow(x),
    "W": weighted_gem,
}
