"""What is kept of pairs by similarity: read back, noticed when old, refused when damaged."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from cgdcli.errors import IndexFileError
from cgdcli.index.calibration import (
    BINS,
    Calibration,
    calibration_of,
    calibration_path,
    save_calibration,
)
from cgdcli.index.store import EmbeddingIndex

sys.path.insert(0, str(Path(__file__).parents[1] / "auditing"))
from made_index import draw, index_of, turned


def counts(**at):
    """`s71=3`: three pairs at 0.71."""
    found = np.zeros(BINS, np.int64)
    for name, count in at.items():
        found[1000 + 10 * int(name[1:])] = count
    return found


def calibration(generation="g", checksum="c"):
    """Of one class are 2 of 2 pairs from .9 on, 9 of 10 from .71, 10 of 20 from .5, 12 in all."""
    pairs, same = counts(s90=2, s71=8, s50=10, s0=80), counts(s90=2, s71=7, s50=1, s0=2)
    return Calibration(pairs, same, 15, 3, 15, generation, checksum)


@pytest.fixture
def index(tmp_path):
    for i in range(2):
        draw(tmp_path / f"imgs/{i}.png", (i, 2, 3))
    return index_of(tmp_path / "f.npy", turned(0, 3), ["0.png", "1.png"], tmp_path / "imgs", "aa")


def kept(index):
    with EmbeddingIndex.open(index) as opened:
        header = opened.header
        save_calibration(index, calibration(header.generation, header.checksum))
    return calibration_path(index)


def test_what_a_similarity_means():
    found = calibration().at(0.71)
    assert (found.precision, found.recall, found.pairs) == (0.9, 9 / 12, 10)
    assert found.similarity == 0.71
    assert calibration().at(0.7105).precision == 1.0  # from the next step on
    assert calibration().at(-1).precision == 12 / 100
    nothing = calibration().at(0.95)
    assert (nothing.precision, nothing.recall, nothing.pairs) == (None, 0, 0)


def test_the_similarity_of_a_share():
    """The smallest: what is above it is as much as can be had."""
    found = [calibration().at_precision(p) for p in (0.5, 0.9, 0.99)]
    assert [m.precision >= p for m, p in zip(found, (0.5, 0.9, 0.99), strict=True)] == [True] * 3
    assert [m.recall for m in found] == [10 / 12, 9 / 12, 2 / 12]
    assert found[1].similarity == pytest.approx(0.501)  # nothing lies between .501 and .71
    none = Calibration(counts(s90=2), counts(s90=1), 3, 2, 3, "g", "c")
    assert none.at_precision(0.9) is None


def test_comes_back_as_it_was(index):
    file = kept(index)
    assert file.name == "f.calibration.json" and file.stat().st_size < 1_000
    with EmbeddingIndex.open(index) as opened:
        found = calibration_of(opened)
    assert (found.pairs == calibration().pairs).all() and (found.same == calibration().same).all()
    assert (found.rows, found.classes, found.asked) == (15, 3, 15)


def test_there_is_none(index, tmp_path):
    with EmbeddingIndex.open(index) as opened:
        assert calibration_of(opened) is None
    np.save(tmp_path / "bare.npy", turned(0, 3))
    with EmbeddingIndex.open(tmp_path / "bare.npy") as opened:
        assert calibration_of(opened) is None


def test_one_of_another_state_is_noticed(index, tmp_path, caplog):
    kept(index)
    index_of(index, turned(0, 4), ["0.png", "1.png"], tmp_path / "imgs", "aa")
    with caplog.at_level(logging.WARNING), EmbeddingIndex.open(index) as opened:
        assert calibration_of(opened) is None
    assert "earlier state" in caplog.text and "--calibrate" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("pairs"),
        lambda values: values.update(same=[[5000, 1]]),
        lambda values: values.update(pairs=[[3, -1]]),
        lambda values: values.update(pairs=7),
        lambda values: values.update(more=1),
    ],
)
def test_a_damaged_one_is_refused(index, change):
    file = kept(index)
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    with EmbeddingIndex.open(index) as opened, pytest.raises(IndexFileError, match="damaged"):
        calibration_of(opened)
    file.write_text("{")
    with EmbeddingIndex.open(index) as opened, pytest.raises(IndexFileError, match="damaged"):
        calibration_of(opened)
