"""A reduced precision is taken once it finds what fp32 finds, and refused with the figure."""

import threading
import time

import numpy as np
import pytest
from cli_toys import draw

from cgdcli.config import CGDConfig, EmbedConfig, EmbedPrecision, Transform
from cgdcli.embedding.parity import chosen_precision, compare_rows
from cgdcli.errors import MismatchError
from cgdcli.streaming import embed_files

RNG = np.random.default_rng(0)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_figures_are_those_of_a_naive_loop():
    exact = unit(RNG.normal(size=(30, 8)))
    reduced = unit(exact + 0.2 * RNG.normal(size=(30, 8)))
    found = compare_rows(exact, reduced)
    cosines = [
        float(a.astype(float) @ b.astype(float)) for a, b in zip(exact, reduced, strict=True)
    ]
    nearest = []
    for rows in (exact, reduced):
        similarity = rows @ rows.T
        np.fill_diagonal(similarity, -9)
        nearest.append(similarity.argmax(axis=1))
    assert found.pictures == 30
    assert found.cosine_min == pytest.approx(min(cosines))
    assert found.cosine_mean == pytest.approx(np.mean(cosines))
    assert found.neighbours == np.mean(nearest[0] == nearest[1]) < 1


def test_the_same_rows_agree():
    rows = unit(RNG.normal(size=(25, 8)))
    assert compare_rows(rows, rows).neighbours == 1


class Fake:
    """Rows of a picture's mean colours, in a precision with noise of its own."""

    name, parallel, on_cpu = "fake", 1, True
    config = CGDConfig(transform=Transform(image_size=32))

    def __init__(self, precision, noise):
        self.precision, self.noise = precision, noise if precision is EmbedPrecision.bf16 else 0.0
        self.rng = np.random.default_rng(0)

    def embed(self, pixels):
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1) - 100
        spread = pixels.reshape(len(pixels), -1)[:, :40].astype(float) - 100
        rows = np.concatenate([means, spread], axis=1)
        return unit(rows + self.noise * self.rng.normal(size=rows.shape))


@pytest.fixture
def files(tmp_path):
    return [draw(tmp_path / f"{n}.png", ["red", "green", "blue"][n % 3], n) for n in range(40)]


def choose(files, precision, noise):
    config = EmbedConfig(precision=precision, batch_size=4)
    return chosen_precision(lambda p: Fake(p, noise), files, config, [EmbedPrecision.bf16])


def test_fp32_is_taken_unasked(files):
    precision, parity = choose(files, EmbedPrecision.fp32, 1e9)
    assert (precision, parity) == (EmbedPrecision.fp32, None)


def test_a_precision_that_agrees_is_taken_and_its_figures_are_known(files):
    precision, parity = choose(files, EmbedPrecision.bf16, 1e-6)
    assert precision is EmbedPrecision.bf16
    assert parity.to_dict()["neighbours"] == 1.0 and parity.pictures == 40


def test_one_that_does_not_is_refused_with_the_figure_or_left_by_auto(files):
    with pytest.raises(MismatchError, match=r"fp32's for \d+\.\d %") as caught:
        choose(files, EmbedPrecision.bf16, 1e3)
    assert caught.value.exit_code == 4 and "--precision auto" in caught.value.hint
    precision, parity = choose(files, EmbedPrecision.auto, 1e3)
    assert (precision, parity) == (EmbedPrecision.fp32, None)


def test_what_was_shown_before_is_not_asked_again(files):
    """Of the index that is refreshed; `auto` stays with what it took then."""
    figures = choose(files, EmbedPrecision.bf16, 1e-6)[1].to_dict()

    def again(precision, before):
        config = EmbedConfig(precision=precision, batch_size=4)
        return chosen_precision(
            lambda p: Fake(p, 1e3), files, config, [EmbedPrecision.bf16], before
        )

    for asked in (EmbedPrecision.bf16, EmbedPrecision.auto):
        precision, parity = again(asked, ("bf16", figures))
        assert (precision, parity.to_dict()) == (EmbedPrecision.bf16, figures)
    precision, parity = again(EmbedPrecision.auto, ("fp32", None))
    assert (precision, parity) == (EmbedPrecision.fp32, None)
    with pytest.raises(MismatchError, match="does not find"):
        again(EmbedPrecision.bf16, ("fp32", None))


def test_where_nothing_can_be_chosen_no_picture_is_embedded(files):
    config = EmbedConfig(precision=EmbedPrecision.auto)
    assert chosen_precision(None, files, config, []) == (EmbedPrecision.fp32, None)


def test_few_pictures_say_nothing(files):
    with pytest.raises(MismatchError, match="too few"):
        choose(files[:5], EmbedPrecision.bf16, 0.0)
    assert choose(files[:5], EmbedPrecision.auto, 0.0)[0] is EmbedPrecision.fp32


@pytest.mark.parametrize(("workers", "most"), [(0, 3), (1, 1), (2, 2), (9, 3)])
def test_workers_bound_the_threads_of_an_engine_that_takes_several(files, workers, most):
    engine, names = Fake(EmbedPrecision.fp32, 0.0), set()
    engine.parallel, real = 3, engine.embed

    def embed(pixels):
        names.add(threading.current_thread().name)
        time.sleep(0.05)  # so that every thread there is gets one of the ten blocks
        return real(pixels)

    engine.embed = embed
    assert len(list(embed_files(engine, files, batch_size=4, workers=workers))) == 10
    assert len(names) == most
