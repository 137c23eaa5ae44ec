"""Every letter against a naive loop written from its paper, and against the reference's figures."""

import math

import numpy as np
import pytest
import torch
from reference import outputs

from cgdcli.config import DESCRIPTOR_NAMES
from cgdcli.model.descriptors import pool, rmac_regions

LETTERS = "".join(DESCRIPTOR_NAMES)
HEADS = outputs()["small"]["global_descriptors_head"]
SIZES = [(1, 1), (1, 4), (2, 2), (3, 3), (4, 7), (7, 4), (7, 7), (14, 14), (5, 20), (13, 9)]


def root(value, p):
    return math.copysign(abs(value) ** (1 / p), value)


def power(value, p):
    return math.copysign(abs(value) ** p, value)


def naive_spoc(x, p):
    return [sum(v for line in channel for v in line) / channel.size for channel in x]


def naive_mac(x, p):
    return [max(v for line in channel for v in line) for channel in x]


def naive_gem(x, p):
    return [root(sum(power(v, p) for v in channel.ravel()) / channel.size, p) for channel in x]


def naive_regions(height, width):
    """Tolias et al. 2016, section 3.2, with the floor of the authors' code."""
    short, long = min(height, width), max(height, width)
    extra, best = 0, math.inf
    for m in range(1, 7) if long != short else ():
        step = (long - short) / m
        distance = abs((short * short - short * step) / (short * short) - 0.4)
        if distance < best:
            extra, best = m, distance
    for scale in (1, 2, 3):
        side = max(1, math.floor(2 * short / (scale + 1)))
        down = scale + (extra if height > width else 0)
        across = scale + (extra if width > height else 0)
        for i in range(down):
            for j in range(across):
                top = math.floor(i * (height - side) / (down - 1)) if down > 1 else 0
                left = math.floor(j * (width - side) / (across - 1)) if across > 1 else 0
                yield top, left, side


def naive_rmac(x, p):
    total = np.zeros(len(x))
    for top, left, side in naive_regions(*x.shape[1:]):
        vector = np.array([c[top : top + side, left : left + side].max() for c in x])
        norm = math.sqrt(sum(v * v for v in vector))
        total += vector / norm if norm else 0
    return total


def naive_spatial(x):
    """CroW (2016), section 4: square root of the channel sum over its L2 norm (a = b = 2)."""
    _, height, width = x.shape
    summed = [[max(0.0, sum(c[i, j] for c in x)) for j in range(width)] for i in range(height)]
    norm = math.sqrt(sum(v * v for line in summed for v in line))
    return np.array([[math.sqrt(v / norm) if norm else 0.0 for v in line] for line in summed])


def naive_crow(x, p):
    spatial = naive_spatial(x)
    shares = [sum(v > 0 for v in channel.ravel()) / channel.size for channel in x]
    weights = [math.log(sum(shares) / share) if share else 0.0 for share in shares]
    return [w * sum((c * spatial).ravel()) for w, c in zip(weights, x, strict=True)]


def naive_weighted_gem(x, p):
    spatial = naive_spatial(x)
    weights = spatial / (spatial.sum() or 1)
    return [
        root(sum(w * power(v, p) for w, v in zip(weights.ravel(), c.ravel(), strict=True)), p)
        for c in x
    ]


NAIVE = {
    "S": naive_spoc,
    "M": naive_mac,
    "G": naive_gem,
    "R": naive_rmac,
    "C": naive_crow,
    "W": naive_weighted_gem,
}


def maps(kind, height, width, channels=5):
    seed = [height, width, len(kind)]
    x = np.random.default_rng(seed).standard_normal((2, channels, height, width))
    if kind == "signed":
        return x
    x = np.maximum(x, 0)
    if kind == "dead channel":
        x[:, 2] = 0
    return x


def test_all_letters_have_a_naive_twin():
    assert set(NAIVE) == set(LETTERS)


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("kind", ["after a ReLU", "dead channel", "signed"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_letter_is_its_naive_loop(letter, kind, size):
    x = maps(kind, *size)
    found = pool(torch.from_numpy(x), letter)
    expected = np.array([NAIVE[letter](one, 3.0) for one in x])
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("letter", "GW")
@pytest.mark.parametrize("p", [1.0, 2.5, 3.0, 7.0])
def test_exponent_is_p(letter, p):
    x = maps("signed", 4, 5)
    found = pool(torch.from_numpy(x), letter, p=p).numpy()
    assert np.abs(found - [NAIVE[letter](one, p) for one in x]).max() < 1e-12


def test_gem_with_p_1_is_spoc():
    x = torch.from_numpy(maps("signed", 6, 6))
    assert torch.allclose(pool(x, "G", p=1.0), pool(x, "S"), atol=1e-14)


def test_regions_of_a_square_are_one_four_and_nine():
    sides = [side for _, _, side in rmac_regions(14, 14)]
    assert sides == [14] + [9] * 4 + [7] * 9


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_regions_lie_inside_and_cover_the_map(size):
    covered = np.zeros(size, dtype=bool)
    regions = rmac_regions(*size)
    assert regions == list(naive_regions(*size))
    for top, left, side in regions:
        assert 0 <= top <= size[0] - side and 0 <= left <= size[1] - side
        covered[top : top + side, left : left + side] = True
    assert covered.all()


def test_regions_of_a_turned_map_are_turned():
    turned = {(left, top, side) for top, left, side in rmac_regions(6, 11)}
    assert set(rmac_regions(11, 6)) == turned


@pytest.mark.parametrize("letter", LETTERS)
def test_all_zero_map_gives_zeros_and_finite_gradients(letter):
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    pooled = pool(x, letter)
    pooled.sum().backward()
    assert (pooled == 0).all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradient_at_a_dead_channel_is_finite(letter, dtype):
    x = torch.from_numpy(maps("dead channel", 5, 6)).to(dtype).requires_grad_()
    pool(x, letter).square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def numbers(values):
    """Golden lists hold `NaN` and `inf` as text."""
    return np.array(values, dtype=object).astype(np.float64)


@pytest.mark.parametrize("letter", "SMG")
@pytest.mark.parametrize("case", HEADS, ids=lambda c: c["case"])
def test_values_and_gradients_are_the_references(case, letter):
    x = torch.tensor(case["input"], requires_grad=True)
    pooled = pool(x, letter)
    pooled.sum().backward()
    value, slope = numbers(case[letter]["value"]), numbers(case[letter]["grad_of_sum"])
    assert np.allclose(pooled.detach().numpy(), value, rtol=2e-6, atol=0)
    undefined = np.isnan(slope)
    assert (x.grad.numpy()[undefined] == 0).all()
    # The cube of 1e-14 is a denormal with few digits, so its root's slope is only near.
    rtol = 2e-3 if "denormal" in case["case"] else 1e-5
    assert np.allclose(x.grad.numpy()[~undefined], slope[~undefined], rtol=rtol, atol=1e-7)


def test_reference_has_nan_gradients_that_the_test_above_sees():
    assert any(np.isnan(numbers(case["G"]["grad_of_sum"])).any() for case in HEADS)


def test_gem_behind_a_relu_has_no_gradient_at_a_dead_channel():
    facts = outputs()["small"]["gem_gradient_facts"]
    assert facts["relu(inplace=False) then G, channel 2 all zero"]["grad_at_map_channel2_is_nan"]
    x = torch.tensor([[[[0.3, 0.9], [0.5, 0.7]], [[-0.2, -0.4], [-0.8, 0.0]]]], requires_grad=True)
    feature_map = x.relu()
    feature_map.retain_grad()
    pool(feature_map, "G").sum().backward()
    assert (feature_map.grad[:, 1] == 0).all()
    assert (feature_map.grad[:, 0] > 0).all()
    assert torch.equal(x.grad, feature_map.grad)


def test_equal_maxima_send_the_gradient_to_the_first():
    x = torch.tensor([[[[1.0, 5.0], [5.0, 5.0]], [[2.0, 2.0], [2.0, 2.0]]]], requires_grad=True)
    pool(x, "M").sum().backward()
    assert x.grad.tolist() == [[[[0, 1], [0, 0]], [[1, 0], [0, 0]]]]


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_result_is_float32_whatever_the_map(letter, dtype):
    x = torch.from_numpy(maps("after a ReLU", 7, 7)).to(dtype)
    found = pool(x, letter)
    assert found.dtype == torch.float32
    assert torch.allclose(found, pool(x.double(), letter).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("letter", LETTERS)
def test_autocast_changes_nothing(letter):
    x = torch.from_numpy(maps("after a ReLU", 7, 7)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pool(x, letter)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, pool(x, letter))


def test_no_gradient_goes_through_the_weights_of_crow():
    x = maps("after a ReLU", 3, 4)
    given = torch.from_numpy(x).requires_grad_()
    pool(given, "C").sum().backward()
    shares = (x > 0).mean((2, 3))
    for one, grad, share in zip(x, given.grad.numpy(), shares, strict=True):
        channel = np.log(share.sum() / share)
        assert np.abs(grad - channel[:, None, None] * naive_spatial(one)).max() < 1e-12


def test_no_gradient_goes_through_the_weights_of_weighted_gem():
    x = maps("after a ReLU", 3, 4)[:1]
    given = torch.from_numpy(x).requires_grad_()
    pooled = pool(given, "W")
    pooled.sum().backward()
    weights = naive_spatial(x[0]) / naive_spatial(x[0]).sum()
    slope = weights * x[0] ** 2 / pooled.detach().numpy()[0][:, None, None] ** 2
    assert np.abs(given.grad.numpy()[0] - slope).max() < 1e-12


@pytest.mark.parametrize("letter", "SMGR")
def test_gradient_is_the_numerical_one(letter):
    x = torch.from_numpy(maps("signed", 4, 3)).abs().add(0.1).requires_grad_()  # no ties
    assert torch.autograd.gradcheck(lambda m: pool(m, letter), x)


def test_unknown_letter_is_a_key_error():
    with pytest.raises(KeyError):
        pool(torch.zeros(1, 1, 1, 1), "X")


@pytest.mark.parametrize("letter", ["G", "W"])
def test_on_a_signed_map_the_clamped_mean_has_bounded_gradients(letter):
    """Where values above and below 0 cancel, the cube root's slope has no bound."""
    x = torch.tensor([[[[1.0, -1.0 + 1e-6], [0.5, -0.5]]]])
    found = {}
    for clamped in (False, True):
        at = x.clone().requires_grad_()
        pool(at, letter, clamped=clamped).sum().backward()
        found[clamped] = at.grad.abs().max().item()
    assert found[True] <= 1
    assert letter == "W" or found[False] > 1000


@pytest.mark.parametrize("letter", ["G", "W"])
def test_of_a_map_above_zero_the_clamped_mean_is_the_usual_one(letter):
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.01
    assert torch.allclose(pool(x, letter, clamped=True), pool(x, letter), rtol=1e-5)
