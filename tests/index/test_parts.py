"""An index in parts is one index: what it answers, and which parts do not belong together."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from test_store import build, header, unit

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index import pairs
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.parts import PartedIndex
from cgdcli.index.records import Picture
from cgdcli.index.rows import check_unit_rows, open_rows, sampled_checksum
from cgdcli.index.shards import shards
from cgdcli.index.store import EmbeddingIndex

OF = 4
NAMES = [f"{label}/{i}.jpg" for label in ("a", "b", "c") for i in range(5)]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(pairs, "MIXED_PAIR_PATIENCE_SECONDS", 0.0)


def write(path, names, root, **values):
    rows = unit(len(NAMES))
    with IndexBuilder(path, rows.shape[1]) as builder:
        builder.begin()
        for i, name in enumerate(NAMES):
            if name in names:
                file = Picture(root, name, name[0], 10 + i, 20 + i, f"{i % 12:064x}")
                builder.append(rows[i : i + 1], [file])
        builder.skip(f"broken beside {path.name}", "is broken")
        builder.finish(header(**values))


@pytest.fixture
def folder(tmp_path):
    """feats.npy in four parts, one of them empty, and one.npy with the same rows."""
    imgs = tmp_path / "imgs"
    for name in NAMES:
        (imgs / name).parent.mkdir(parents=True, exist_ok=True)
        (imgs / name).write_bytes(name.encode())
    parts = [NAMES[:4], [], NAMES[4:5], NAMES[5:]]
    for shard, names in zip(shards(OF), parts, strict=True):
        write(shard.path(tmp_path / "feats.npy"), names, imgs, part=[shard.part, OF])
    write(tmp_path / "one.npy", NAMES, imgs)
    return tmp_path


def part(folder, number, of=OF):
    return folder / f"feats.{number:05d}-of-{of:05d}.npy"


def answers(index, folder):
    """All that an index is asked; rows are in the same order here, parts being cut from it."""
    files = [folder / "imgs" / name for name in ("a/3.jpg", "b/4.jpg", "c/4.jpg")]
    return {
        "rows": np.asarray(index.rows).tobytes(),
        "len": len(index),
        "dim": index.dim,
        "pictures": list(index.pictures()),
        "picture": [index.picture(row) for row in range(len(index))],
        "labels": index.labels(),
        "known": index.known_labels(),
        "has": [index.has_label(label) for label in ("a", "nobody")],
        "roots": index.roots(),
        "files": [index.file(row) for row in range(len(index))],
        "by place": [index.find_rows(file, "0" * 64) for file in files],
        "by content": index.find_rows(Path("elsewhere.jpg"), f"{1:064x}"),
        "hits": [a.tolist() for a in index.search(unit(3, 9), 6, exclude=[{0}, set(), {14}])],
    }


@pytest.mark.parametrize(
    "name",
    ["feats.npy", "feats", "feats.sqlite", "feats.00002-of-00004.npy", "feats.00001-of-00004",
     "feats.00003-of-00004.sqlite", "feats.?????-of-00004.npy", "feats.*-of-00004.npy"],
)  # fmt: skip
def test_any_name_opens_all_parts_and_answers_as_one_index(folder, name):
    with (
        EmbeddingIndex.open(folder / name) as found,
        EmbeddingIndex.open(folder / "one.npy") as one,
    ):
        assert isinstance(found, PartedIndex) and not isinstance(one, PartedIndex)
        assert answers(found, folder) == answers(one, folder)
        assert len(answers(one, folder)["by content"][0]) == 2  # in two parts
        assert found.path == folder / "feats.npy"
        assert found.header.rows == len(NAMES) and found.header.part is None
        assert len(found.skipped()) == OF
        assert all(isinstance(p, np.memmap) for p in found.rows.parts if len(p))


def test_pictures_are_looked_for_under_root(folder):
    shutil.move(folder / "imgs", folder / "moved")
    with EmbeddingIndex.open(folder / "feats.npy", root=folder / "moved") as index:
        assert index.file(14) == folder / "moved/c/4.jpg"


def test_the_generation_is_another_once_a_part_is(folder):
    with EmbeddingIndex.open(folder / "feats.npy") as index:
        before = index.header.generation
    write(part(folder, 1), NAMES[:1], folder / "imgs", part=[1, OF])
    with EmbeddingIndex.open(folder / "feats.npy") as index:
        assert index.header.generation != before and len(index) == len(NAMES) + 1


@pytest.mark.parametrize("ending", [".npy", ".sqlite"])
def test_a_missing_part_is_named(folder, ending):
    part(folder, 2).with_suffix(ending).unlink()
    for name in ("feats.npy", "feats.00000-of-00004.npy"):
        with pytest.raises(MismatchError, match=r"1 of them .*feats.00002-of-00004") as caught:
            EmbeddingIndex.open(folder / name)
    assert caught.value.exit_code == 4 and "--shard 2/4" in caught.value.hint


def test_a_part_under_way_is_said(folder):
    part(folder, 2).unlink()
    with (
        IndexBuilder(part(folder, 2), 8),
        pytest.raises(MismatchError, match="one is being written"),
    ):
        EmbeddingIndex.open(folder / "feats.npy")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": {"source": "x", "fingerprint": "e" * 64}}, "model, e.* and f"),
        ({"precision": "bf16"}, "precision, bf16 and fp32"),
        ({"blocks": None}, "blocks"),
        ({"labels": "none"}, "labels"),
        ({"sources": ["/other"], "relative_sources": ["../other"]}, "source, /other and /data"),
    ],
)
def test_parts_of_two_indexes_are_refused_by_name(folder, values, words):
    write(part(folder, 2), NAMES[:1], folder / "imgs", part=[2, OF], **values)
    message = f"feats.00002-of-00004.npy` and `feats.00000-of-00004.npy.*{words}"
    with pytest.raises(MismatchError, match=message) as caught:
        EmbeddingIndex.open(folder / "feats.npy")
    assert caught.value.exit_code == 4


def test_another_engine_or_place_of_the_model_is_no_difference(folder):
    model = header().model | {"path": "/elsewhere/m.safetensors"}
    write(part(folder, 2), NAMES[4:5], folder / "imgs", part=[2, OF], engine="x", model=model)
    assert len(EmbeddingIndex.open(folder / "feats.npy")) == len(NAMES)


def test_a_renamed_part_is_refused(folder):
    for suffix in (".npy", ".sqlite"):
        shutil.copy(part(folder, 3).with_suffix(suffix), part(folder, 2).with_suffix(suffix))
    with pytest.raises(MismatchError, match="says that it is part 3 of 4, not part 2 of 4"):
        EmbeddingIndex.open(folder / "feats.npy")
    build(part(folder, 0, 1))
    with pytest.raises(MismatchError, match="a whole index"):
        EmbeddingIndex.open(part(folder, 0, 1))


def test_parts_of_two_numbers_are_refused_unless_one_is_named(folder):
    shutil.copy(part(folder, 0), part(folder, 0, 2))
    with pytest.raises(MismatchError, match="in parts of 2 and of 4"):
        EmbeddingIndex.open(folder / "feats.npy")
    assert len(EmbeddingIndex.open(part(folder, 0))) == len(NAMES)
    with pytest.raises(MismatchError, match=r"feats\.00000-of-00002\.npy"):
        EmbeddingIndex.open(part(folder, 0, 2))


def test_a_damaged_part_is_named_and_the_others_are_let_go(folder):
    data = bytearray(part(folder, 3).read_bytes())
    data[-4:] = b"\0\0\xc0\x7f"
    part(folder, 3).write_bytes(data)
    with sqlite3.connect(part(folder, 3).with_suffix(".sqlite")) as database:
        sums = sampled_checksum(open_rows(part(folder, 3)))
        database.execute("UPDATE header SET value = ? WHERE key = 'checksum'", (f'"{sums}"',))
    database.close()
    with pytest.raises(IndexFileError, match=r"feats\.00003-of-00004\.npy` is not finite"):
        EmbeddingIndex.open(folder / "feats.npy")


def test_many_parts_are_checked_no_longer_than_one(monkeypatch):
    monkeypatch.setattr("cgdcli.index.rows.CHECK_ALL_VALUES", 400)
    monkeypatch.setattr("cgdcli.index.rows.CHECK_SAMPLE_ROWS", 8)
    rows = unit(40)
    rows[1] *= 2  # among all, not among the sample of a fourth
    check_unit_rows(Path("x"), rows, share=4)
    with pytest.raises(IndexFileError, match="row 1 "):
        check_unit_rows(Path("x"), rows)
