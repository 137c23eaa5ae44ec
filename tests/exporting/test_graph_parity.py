"""Neighbours are compared as a naive loop does, but for those that are as near."""

import numpy as np

from cgdcli.exporting.parity import same_neighbours
from cgdcli.exporting.pictures import drawn_pictures, noise

RNG = np.random.default_rng(0)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def nearest(rows):
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -9)
    return similarities.argmax(axis=1)


def test_the_share_is_that_of_a_naive_loop():
    exact = unit(RNG.normal(size=(40, 8)))
    found = unit(exact + 0.2 * RNG.normal(size=(40, 8)))
    share = same_neighbours(exact, found)
    assert share == np.mean(nearest(exact) == nearest(found))
    assert 0 < share < 1
    assert same_neighbours(exact, exact) == 1


def test_one_of_two_equal_pictures_is_as_good_as_the_other():
    rows = unit(RNG.normal(size=(3, 8)))
    exact = np.concatenate([rows, rows[:1], rows[:1]])
    found = unit(exact + 1e-7 * RNG.normal(size=exact.shape))
    assert same_neighbours(exact, found) == 1


def test_drawn_pictures_are_the_same_every_time_and_differ():
    first, again = (np.stack(list(drawn_pictures(20, 32))) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == (20, 32, 32, 3)
    assert np.array_equal(first, again)
    assert len(np.unique(first.reshape(20, -1), axis=0)) == 20


def test_noise_holds_black_and_white_where_there_is_room():
    pixels = noise(5, 32)
    assert pixels.shape == (5, 32, 32, 3) and not pixels[3].any() and (pixels[4] == 255).all()
    assert noise(2, 32).min(axis=(1, 2, 3)).max() < noise(2, 32).max(axis=(1, 2, 3)).min()
