"""Pairs by similarity against a loop over all of them, and what is kept of an index."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judgements import clustered

from cgdcli.errors import DatasetError
from cgdcli.index.calibration import BINS, calibration_of
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.store import EmbeddingIndex
from cgdcli.judging import calibrating
from cgdcli.judging.calibrating import calibrate_index, count_pairs

sys.path.insert(0, str(Path(__file__).parents[1] / "auditing"))
from made_index import draw, index_of


def naive(rows, labels):
    """Every pair once, in float64; bins of 0.001."""
    pairs, same = np.zeros(BINS, int), np.zeros(BINS, int)
    wide = rows.astype(np.float64)
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            place = min(max(int((wide[i] @ wide[j] + 1) * 1000), 0), BINS - 1)
            pairs[place] += 1
            same[place] += labels[i] == labels[j]
    return pairs, same


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_counts_are_those_of_all_pairs(seed, count):
    rng = np.random.default_rng(seed)
    rows, _ = clustered(classes=count, each=1, seed=seed % 1000)
    labels = rng.integers(0, 5, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating, "BLOCK_A", 7)
        patch.setattr(calibrating, "BLOCK_B", 16)
        pairs, same, asked = count_pairs(PartedRows([rows[:9], rows[9:]]), labels)
    expected = naive(rows, labels)
    assert asked == count and pairs.sum() == count * (count - 1) // 2
    # A pair within a float32's error of a step may fall on its other side.
    for found, wanted in zip((pairs, same), expected, strict=True):
        assert np.abs(np.cumsum(found - wanted)).sum() <= 1
    assert same.sum() == expected[1].sum()


def test_a_sample_is_some_rows_with_every_other():
    rows, names = clustered(classes=20, each=10)
    labels = np.array([int(name[1:]) for name in names])
    pairs, same, asked = count_pairs(rows, labels, exact_rows=100, sampled_rows=50)
    assert asked == 50 and pairs.sum() == 50 * 199 and same.sum() == 50 * 9
    every, every_same, _ = count_pairs(rows, labels)
    for one, other in ((pairs, every), (same, every_same)):  # the same curve, nearly
        a, b = (np.cumsum(x) / x.sum() for x in (one, other))
        assert np.abs(a - b).max() < 0.06


@pytest.fixture
def index(tmp_path):
    rows, labels = clustered(classes=8, each=4, spread=1.2)
    names = [f"{i}.png" for i in range(32)]
    for i, name in enumerate(names):
        draw(tmp_path / "imgs" / name, (i, 2, 3))
    return index_of(tmp_path / "f.npy", rows, names, tmp_path / "imgs", labels)


def test_the_report_is_what_the_pairs_say_and_is_kept(index):
    report = calibrate_index(index)
    assert (report.rows, report.classes, report.asked) == (32, 8, 32)
    assert (report.pairs, report.same) == (32 * 31 // 2, 8 * 6)
    rows, labels = np.load(index).astype(np.float64), np.repeat(np.arange(8), 4)
    i, j = np.triu_indices(32, 1)
    scores, shares = (rows @ rows.T)[i, j], labels[i] == labels[j]
    assert [p.precision for p in report.points] == [0.5, 0.75, 0.9, 0.95, 0.99]
    for point in report.points:
        above = scores >= point.similarity
        assert point.pairs == above.sum() and shares[above].mean() >= point.precision
        assert point.recall == pytest.approx(shares[above].sum() / 48)
        below = scores >= point.similarity - 0.001
        assert shares[below].mean() < point.precision  # the smallest such
    with EmbeddingIndex.open(index) as opened:
        found = calibration_of(opened)
    assert found.at(report.points[0].similarity).pairs == report.points[0].pairs
    assert report.file == str(index.with_name("f.calibration.json"))


def test_a_share_that_is_never_reached(tmp_path):
    rows = np.eye(4, 8, dtype=np.float32)
    for i in range(4):
        draw(tmp_path / f"imgs/{i}.png", (i, 2, 3))
    names = [f"{i}.png" for i in range(4)]
    index = index_of(tmp_path / "f.npy", rows, names, tmp_path / "imgs", "aabb")
    assert all(p.similarity is None and p.recall is None for p in calibrate_index(index).points)


def test_labels_that_say_nothing_are_refused(tmp_path, index):
    rows = np.load(index)[:3]
    one = index_of(tmp_path / "g.npy", rows, ["0.png", "1.png", "2.png"], tmp_path / "imgs", "abc")
    with pytest.raises(DatasetError, match="no two rows"):
        calibrate_index(one)
    np.save(tmp_path / "bare.npy", rows)
    with pytest.raises(DatasetError, match="has a label"):
        calibrate_index(tmp_path / "bare.npy")
    assert not list(tmp_path.glob("*.json"))


def test_of_an_index_in_parts_it_is_of_the_whole_and_old_once_a_part_is_new(tmp_path, caplog):
    rows, labels = clustered(classes=4, each=4)
    names = [f"{i}.png" for i in range(16)]
    for i, name in enumerate(names):
        draw(tmp_path / "imgs" / name, (i, 2, 3))

    def part(number, places):
        file = tmp_path / f"p.0000{number}-of-00002.npy"
        some = [names[i] for i in places], tmp_path / "imgs", [labels[i] for i in places]
        index_of(file, rows[places], *some, part=[number, 2])

    part(0, list(range(0, 16, 2)))
    part(1, list(range(1, 16, 2)))
    report = calibrate_index(tmp_path / "p.npy")
    assert report.file == str(tmp_path / "p.calibration.json")
    assert (report.pairs, report.same) == (16 * 15 // 2, 4 * 6)
    with EmbeddingIndex.open(tmp_path / "p.npy") as opened:
        assert calibration_of(opened).pairs.sum() == report.pairs
    part(1, list(range(3, 16, 2)))
    with EmbeddingIndex.open(tmp_path / "p.npy") as opened:
        assert calibration_of(opened) is None
    assert "earlier state" in caplog.text
