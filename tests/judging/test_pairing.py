"""Two indexes of the same pictures: matched, paired, and refused where they share too few."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from judgements import clustered, judgement
from test_intervals import naive

from cgdcli.errors import DatasetError, MismatchError
from cgdcli.judging import pairing
from cgdcli.judging.pairing import compare_index_quality

sys.path.insert(0, str(Path(__file__).parents[1] / "auditing"))
from made_index import draw, index_of

ROWS, LABELS = clustered(classes=6, each=5, spread=1.7, seed=1)
BETTER, _ = clustered(classes=6, each=5, spread=0.5, seed=2)
NAMES = [f"{label}/{i}.png" for i, label in enumerate(LABELS)]


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        draw(tmp_path / "imgs" / name, (7 * i, 200, 3))
    return tmp_path


def made(folder, name, rows, order, root="imgs", labels=LABELS):
    names = [NAMES[i] for i in order]
    return index_of(folder / name, rows[order], names, folder / root, [labels[i] for i in order])


def test_the_difference_is_that_of_the_queries_whatever_the_order(folder):
    every = np.arange(30)
    a = made(folder, "a.npy", ROWS, every)
    b = made(folder, "b.npy", BETTER, np.random.default_rng(0).permutation(30))
    report = compare_index_quality(a, b)
    first, second = judgement(ROWS, LABELS), judgement(BETTER, LABELS)
    values = [second.scores.hits[:, i].astype(float) - first.scores.hits[:, i] for i in range(4)]
    values.append(second.scores.average_precision - first.scores.average_precision)
    assert [d.name for d in report.differences] == ["Recall@1", "Recall@2", "Recall@4", "Recall@8",
                                                    "mAP@R"]  # fmt: skip
    for found, each in zip(report.differences, values, strict=True):
        expected = naive(each.tolist(), LABELS)
        assert (found.difference, found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert report.differences[-1].low > 0  # the clusters are tighter
    assert (report.queries, report.classes, report.matched_by) == (30, 6, "path")


def test_rows_that_are_paired_are_not_copied(folder, monkeypatch):
    """Of a million rows each index would take 2 GB."""
    seen = []
    real = pairing.judge_labelled
    monkeypatch.setattr(
        pairing, "judge_labelled", lambda rows, *more: seen.append(rows) or real(rows, *more)
    )
    a = made(folder, "a.npy", ROWS, np.arange(30))
    compare_index_quality(a, made(folder, "b.npy", BETTER, np.arange(29, -1, -1)))
    assert [np.shares_memory(one.rows.rows, one.index.rows) for one in seen] == [True, True]


def test_only_what_both_have_is_compared(folder):
    """Queries and gallery: rows of one alone would make its task harder."""
    a = made(folder, "a.npy", ROWS, np.arange(0, 24))
    b = made(folder, "b.npy", BETTER, np.arange(6, 30))
    report = compare_index_quality(a, b)
    assert (report.queries, report.gallery) == (18, 18)
    assert (report.only_first, report.only_second) == (6, 6)
    part = judgement(ROWS[6:24], LABELS[6:24]).report
    assert report.differences[0].first == pytest.approx(part.recall[1])


def test_a_moved_copy_is_matched_below_its_root_and_a_renamed_one_by_content(folder):
    every = np.arange(30)
    a = made(folder, "a.npy", ROWS, every)
    shutil.copytree(folder / "imgs", folder / "moved")
    b = made(folder, "b.npy", BETTER, every, "moved")
    assert compare_index_quality(a, b).matched_by == "path"
    names = [f"r{i}.png" for i in range(30)]
    (folder / "renamed").mkdir()
    for old, new in zip(NAMES, names, strict=True):
        shutil.copy(folder / "imgs" / old, folder / "renamed" / new)
    c = index_of(folder / "c.npy", BETTER, names, folder / "renamed", LABELS)
    report = compare_index_quality(a, c)
    assert report.matched_by == "content" and report.queries == 30
    assert report.differences == compare_index_quality(a, b).differences


def test_what_has_another_label_or_content_is_left_out(folder):
    every = np.arange(30)
    a = made(folder, "a.npy", ROWS, every)
    other = ["c5" if i == 0 else label for i, label in enumerate(LABELS)]
    draw(folder / "imgs" / NAMES[1], (1, 1, 1), (99, 99))
    b = made(folder, "b.npy", BETTER, every, labels=other)
    report = compare_index_quality(a, b)
    assert (report.relabelled, report.only_first, report.only_second) == (1, 1, 1)
    assert report.queries == 28


def test_too_few_in_both_are_refused_with_counts(folder):
    a = made(folder, "a.npy", ROWS, np.arange(0, 20))
    b = made(folder, "b.npy", BETTER, np.arange(16, 30))
    with pytest.raises(MismatchError, match=r"20 labelled pictures.* 14; 4 are in both"):
        compare_index_quality(a, b)
    none = made(folder, "none.npy", BETTER, np.arange(20, 30))
    with pytest.raises(MismatchError, match="0 are in both"):
        compare_index_quality(a, none)


def test_an_index_of_a_part_is_enough(folder):
    a = made(folder, "a.npy", ROWS, np.arange(30))
    b = made(folder, "b.npy", BETTER, np.arange(10))
    assert compare_index_quality(a, b).queries == 10


def test_roles_are_those_of_both(folder):
    every = np.arange(30)
    a, b = made(folder, "a.npy", ROWS, every), made(folder, "b.npy", BETTER, every[::-1])
    lines = "".join(f"{n},{i % 2},{int(i % 3 == 0)},{int(i % 3 != 0)}\n"
                    for i, n in enumerate(NAMES))  # fmt: skip
    (folder / "t.csv").write_text("path,scene,is_query,is_gallery\n" + lines)
    report = compare_index_quality(a, b, table=folder / "t.csv", ignore_same="scene")
    assert (report.queries, report.gallery, report.ignore_same) == (10, 20, "scene")
    same = compare_index_quality(a, a, table=folder / "t.csv")
    assert all(d.difference == d.low == d.high == 0 for d in same.differences)


def test_labels_are_wanted(folder):
    a = made(folder, "a.npy", ROWS, np.arange(30))
    np.save(folder / "bare.npy", ROWS)
    with pytest.raises(DatasetError, match=r"no row of .*bare"):
        compare_index_quality(a, folder / "bare.npy")
