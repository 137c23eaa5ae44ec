"""Duplicates of an index: what is grouped, what is kept, and what is never to go."""

import os
import shutil

import numpy as np
import pytest
from made_index import draw, index_of, turned

from cgdcli.auditing import duplicates
from cgdcli.auditing.duplicates import find_duplicates
from cgdcli.config import DuplicatesConfig
from cgdcli.errors import ConfigError, DatasetError

NEAR = DuplicatesConfig(threshold=0.95)  # 18.2 degrees


def found(index, config=NEAR, **options):
    return find_duplicates(index, config, **options)


def names(images):
    return [os.path.basename(image.path) for image in images]  # noqa: PTH119


@pytest.fixture
def folder(tmp_path):
    """Pictures of ascending size, so that each is another file: 0.png to 5.png."""
    for i in range(6):
        draw(tmp_path / f"imgs/{i}.png", (10 * i, 90, 20), (40 + 30 * i, 40))
    return tmp_path


def made(folder, degrees, files=None, labels=None):
    files = files or [f"{i}.png" for i in range(len(degrees))]
    return index_of(folder / "f.npy", turned(*degrees), files, folder / "imgs", labels)


def test_groups_with_their_smallest_and_largest(folder):
    report = found(made(folder, [0, 10, 90, 94, 180, 40]))
    assert [sorted(names(g.images)) for g in report.groups] == [["2.png", "3.png"],
                                                               ["0.png", "1.png"]]  # fmt: skip
    first, second = report.groups
    cos = np.cos(np.deg2rad([4, 10]))
    assert [first.smallest, second.smallest] == pytest.approx(cos, abs=1e-6)
    assert not first.chain and not first.exact and not first.leaks
    assert (report.rows, report.threshold, report.spare) == (6, 0.95, 2)


def test_the_larger_file_is_kept_and_the_other_says_how_like_it_is(folder):
    (group,) = found(made(folder, [0, 10])).groups
    assert names(group.images) == ["1.png", "0.png"]
    kept, other = group.images
    assert kept.bytes > other.bytes and kept.kept and not kept.spare and kept.of_row == 1
    assert other.spare and other.of_row == 1
    assert other.similarity == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)


def test_of_a_chain_whoever_goes_is_like_one_that_is_kept(folder):
    """0, 15, 30, 45 degrees: neighbours are alike, others are not. The largest file, of 45, is
    kept for 30, and of the rest that of 15 for 0."""
    (group,) = found(made(folder, [0, 15, 30, 45])).groups
    assert group.chain and group.smallest == pytest.approx(np.cos(np.deg2rad(45)), abs=1e-6)
    assert names(group.images) == ["3.png", "2.png", "1.png", "0.png"]
    assert [image.kept for image in group.images] == [True, False, True, False]
    assert all(image.similarity >= 0.95 for image in group.images)


def test_a_chain_that_is_too_long_has_nothing_to_go(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "LONGEST_CHAIN", 3)
    report = found(made(folder, [0, 15, 30, 45, 100, 105]))
    assert [g.too_long for g in report.groups] == [False, True]
    long = report.groups[1]
    assert not long.spare and not any(image.kept for image in long.images)
    assert len(long.images) == 4 and report.spare == 1


def test_exact_copies_in_such_a_chain_are_told_and_its_splits_are_no_leak(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "LONGEST_CHAIN", 3)
    for split in ("train", "test"):
        (folder / "imgs" / split).mkdir()
        shutil.copy(folder / "imgs/4.png", folder / "imgs" / split / "copy.png")
    draw(folder / "imgs/train/other.png", (9, 9, 9))
    files = ["0.png", "1.png", "train/copy.png", "test/copy.png", "train/other.png"]
    report = found(made(folder, [0, 15, 30, 30, 45], files))
    assert [(g.exact, g.leaks, g.too_long) for g in report.groups] == [
        (True, True, False),
        (False, False, True),
    ]
    assert report.leaks == 1 and report.spare == 1
    assert names(report.groups[0].spare) == ["copy.png"]
    assert len(report.groups[1].images) == 5


def test_many_that_are_all_alike_are_no_chain(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "LONGEST_CHAIN", 3)
    (group,) = found(made(folder, [0, 1, 2, 3, 4])).groups
    assert not group.chain and not group.too_long and len(group.spare) == 4


def test_the_same_bytes_are_a_group_whatever_their_rows(folder):
    shutil.copy(folder / "imgs/0.png", folder / "imgs/copy.png")
    report = found(made(folder, [0, 90, 45], ["0.png", "1.png", "copy.png"]))
    (group,) = report.groups
    assert group.exact and not group.chain and names(group.images) == ["0.png", "copy.png"]
    assert names(group.spare) == ["copy.png"]


def test_exact_copies_come_before_others(folder):
    shutil.copy(folder / "imgs/5.png", folder / "imgs/copy.png")
    files = ["0.png", "1.png", "5.png", "copy.png"]
    report = found(made(folder, [0, 0.1, 90, 92], files))
    assert [g.exact for g in report.groups] == [True, False]


# Splits


def test_leaks_are_marked_counted_and_first(folder):
    for name in ("train/a/1.png", "test/a/2.png", "val/a/3.png", "train/a/4.png"):
        side = 600 if "1.png" in name else 60  # of a leak the picture of train goes, however large
        draw(folder / "imgs" / name, (len(name), int(name[-5]) * 20, 7), (side, side))
    shutil.copy(folder / "imgs/3.png", folder / "imgs/copy.png")
    files = ["train/a/1.png", "test/a/2.png", "train/a/4.png", "val/a/3.png", "0.png", "1.png"]
    files += ["3.png", "copy.png"]
    index = made(folder, [0, 12, 90, 180, 182, 91, 45, 45], files)
    report = found(index)
    assert [g.splits for g in report.groups] == [("test", "train"), (), ("train",), ("val",)]
    assert [g.exact for g in report.groups] == [False, True, False, False]
    assert report.leaks == 1 and report.split_by == "folders"
    assert report.splits == {"test": 1, "train": 2, "val": 1}
    assert names(report.groups[0].spare) == ["1.png"]  # of test one is kept, of train one goes
    assert report.groups[0].images[0].split == "test"


def test_the_embedded_folders_may_be_the_splits(folder):
    for split in ("train", "test"):
        draw(folder / split / "a/1.png", (5, 5, len(split)), (50, 50))
    from cgdcli.index.builder import IndexBuilder
    from cgdcli.index.records import IndexHeader, Picture

    with IndexBuilder(folder / "f.npy", 8) as builder:
        builder.append(turned(0, 3), [Picture(folder / s, "a/1.png") for s in ("train", "test")])
        builder.finish(IndexHeader(0, 8, {"fingerprint": "f"}, "torch", "fp32", None, []))
    assert found(folder / "f.npy").groups[0].splits == ("test", "train")


def test_a_table_says_the_splits(folder):
    index = made(folder, [0, 3, 90, 93])
    table = folder / "t.csv"
    words = enumerate(["train", "val", "train", "train"])
    rows = "".join(f"imgs/{i}.png,x,{split}\n" for i, split in words)
    table.write_text(f"path,label,split\n{rows}")
    report = found(index, splits=table)
    assert [g.splits for g in report.groups] == [("train", "val"), ("train",)]
    assert report.leaks == 1 and report.split_by == str(table)
    assert found(index).leaks == 0 and found(index).split_by is None


def test_splits_of_other_pictures_are_refused(folder):
    index = made(folder, [0, 3])
    (folder / "t.csv").write_text("path,label,split\nx.png,x,train\ny.png,x,test\n")
    with pytest.raises(DatasetError, match="none of them"):
        found(index, splits=folder / "t.csv")
    (folder / "t.csv").write_text("path,label\nimgs/0.png,x\nimgs/1.png,y\n")
    with pytest.raises(DatasetError, match="does not divide"):
        found(index, splits=folder / "t.csv")


# Files that are not as they were


def test_a_file_that_is_gone_or_changed_is_not_kept_for_another(folder):
    index = made(folder, [0, 1, 2, 3])
    (folder / "imgs/3.png").unlink()
    draw(folder / "imgs/2.png", (1, 2, 3), (500, 500))
    (group,) = found(index).groups
    assert [(i.state, i.kept, i.spare) for i in group.images] == [
        ("", True, False), ("", False, True), ("gone", False, False), ("changed", False, False),
    ]  # fmt: skip
    assert names(group.images)[:2] == ["1.png", "0.png"]


def test_the_only_one_that_is_left_stays(folder):
    index = made(folder, [0, 1])
    (folder / "imgs/1.png").unlink()
    assert not found(index).groups[0].spare


def test_a_link_goes_before_its_file(folder):
    (folder / "imgs/a.png").symlink_to("5.png")
    (group,) = found(made(folder, [0, 0], ["a.png", "5.png"])).groups
    assert names(group.spare) == ["a.png"]


def test_one_file_by_two_ways_is_not_to_go(folder):
    (folder / "imgs/sub").mkdir()
    shutil.move(folder / "imgs/5.png", folder / "imgs/sub/5.png")
    (folder / "imgs/way").symlink_to("sub")
    report = found(made(folder, [0, 0], ["sub/5.png", "way/5.png"]))
    assert [i.state for i in report.groups[0].images] == ["", "same file"] and not report.spare


# What an index may be


def test_an_array_alone_names_rows(folder):
    np.save(folder / "bare.npy", turned(0, 90, 1))
    (group,) = found(folder / "bare.npy").groups
    assert [i.path for i in group.images] == ["row:0", "row:2"] and names(group.spare) == ["row:2"]


def test_nothing_and_an_empty_index(folder):
    assert found(made(folder, [0, 90, 180])).groups == ()
    np.save(folder / "none.npy", np.empty((0, 8), np.float32))
    assert found(folder / "none.npy").groups == ()


@pytest.mark.parametrize("threshold", [0, 1.01, float("nan")])
def test_a_threshold_is_a_cosine(threshold):
    with pytest.raises(ConfigError, match="--threshold"):
        DuplicatesConfig(threshold)


def test_a_pair_at_the_threshold_is_no_chain(folder):
    """A float32 product may be below what joined the two."""
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((2, 512))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[1] = (rows[0] + 0.2 * rows[1]) / np.linalg.norm(rows[0] + 0.2 * rows[1])
    exact = float(np.vecdot(*rows.astype(np.float64)))
    index = index_of(folder / "f.npy", rows, ["0.png", "1.png"], folder / "imgs")
    (group,) = found(index, DuplicatesConfig(threshold=exact)).groups
    assert not group.chain and len(group.spare) == 1
