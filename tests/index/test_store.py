"""An index on disk: what comes back, pairs that do not belong together, moves, kills, locks."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cgdcli.errors import IndexFileError, MismatchError, OutputError
from cgdcli.index import pairs
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture, index_path, sidecar
from cgdcli.index.replacing import check_replaceable
from cgdcli.index.rows import npy_header
from cgdcli.index.store import EmbeddingIndex

DIM = 8
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(pairs, "MIXED_PAIR_PATIENCE_SECONDS", 0.0)


def unit(rows, seed=0):
    values = np.random.default_rng(seed).standard_normal((rows, DIM))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def header(**values):
    known = {
        "rows": 0,
        "dim": DIM,
        "model": {"source": "m.safetensors", "fingerprint": "f" * 64},
        "engine": "torch",
        "precision": "fp32",
        "blocks": [("S", 0, 4), ("G", 4, 8)],
        "sources": ["/data"],
    }
    return IndexHeader(**known | values)


def pictures(root, names, labels=None):
    labels = labels or [None] * len(names)
    return [
        Picture(Path(root), name, label, 10 + i, 20 + i, f"{i:064x}")
        for i, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


def build(path, count=5, seed=0, root="/data", names=None, labels=None, **values):
    names = names or [f"{i:02d}.jpg" for i in range(count)]
    with IndexBuilder(path, DIM) as builder:
        rows, entries = unit(len(names), seed), pictures(root, names, labels)
        builder.append(rows[:2], entries[:2])
        builder.append(rows[2:], entries[2:])
        builder.finish(header(**values))
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "feats.npy"


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


# Round trip


def test_everything_comes_back(file):
    names, labels = ["a.jpg", "b/c.jpg", "d.jpg"], ["x", None, "y"]
    with IndexBuilder(file, DIM) as builder:
        builder.append(unit(3), pictures("/data", names, labels))
        builder.skip("/data/broken.jpg", "cut short")
        builder.finish(header())
    index = EmbeddingIndex.open(file)
    assert np.array_equal(index.rows, unit(3)) and len(index) == 3 and index.dim == DIM
    assert dict(index.pictures()) == dict(enumerate(pictures("/data", names, labels)))
    assert [index.picture(i).path for i in range(3)] == names
    assert index.labels() == labels and index.known_labels() == {"x", "y"}
    assert index.skipped() == [("/data/broken.jpg", "cut short")]
    saved = index.header
    assert replace(saved, generation="", checksum="") == header(rows=3)
    assert saved.blocks == [("S", 0, 4), ("G", 4, 8)]
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_index_without_blocks_has_none(file):
    assert EmbeddingIndex.open(build(file, blocks=None)).header.blocks is None


def test_any_sqlite_reads_the_table(file):
    build(file)
    with sqlite3.connect(sidecar(file)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert database.execute("SELECT count(*) FROM pictures").fetchone() == (5,)
        stored = dict(database.execute("SELECT key, value FROM header"))
    assert json.loads(stored["rows"]) == 5 and json.loads(stored["complete"]) is True


def test_two_builds_have_two_generations(file, tmp_path):
    one = EmbeddingIndex.open(build(file)).header
    other = EmbeddingIndex.open(build(tmp_path / "other.npy")).header
    assert one.generation != other.generation and one.checksum == other.checksum


def test_search_is_over_the_rows(file):
    index = EmbeddingIndex.open(build(file))
    similarities, ids = index.search(unit(5)[3:4], 2)
    assert ids[0, 0] == 3 and similarities[0, 0] == pytest.approx(1, abs=1e-6)
    assert 3 not in index.search(unit(5)[3:4], 4, exclude=[{3}])[1]


def test_reading_leaves_nothing_beside_the_files_and_works_in_a_read_only_folder(file):
    build(file)
    for name in ("feats.npy", "feats.sqlite"):
        (file.parent / name).chmod(0o444)
    file.parent.chmod(0o555)
    try:
        index = EmbeddingIndex.open(file)
        assert index.labels() == [None] * 5
    finally:
        file.parent.chmod(0o755)
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


@pytest.mark.parametrize("name", ["feats", "feats.npy", "feats.sqlite"])
def test_an_index_may_be_named_three_ways(file, name):
    build(file)
    assert len(EmbeddingIndex.open(file.parent / name)) == 5
    assert index_path(file.parent / name) == file


def test_rows_alone_are_an_index_without_names(file):
    np.save(file, unit(4).astype(np.float16))
    index = EmbeddingIndex.open(file)
    assert index.header is None and len(index) == 4 and index.rows.dtype == np.float16
    assert index.picture(0) is None and index.file(0) is None
    assert index.labels() == [None] * 4 and index.known_labels() == set()
    assert index.skipped() == [] and index.find_rows(Path("a.jpg"), "0") == ([], False)


def test_what_rows_and_files_say_of_themselves(file, tmp_path):
    build(file, root="/data", labels=["x", None, "y", "", os.fsdecode(b"\xff")])
    with EmbeddingIndex.open(file) as index:
        for label in ("x", "", os.fsdecode(b"\xff")):
            assert index.has_label(label)
        assert not index.has_label("z") and index.roots() == [Path("/data")]
        assert index.among("row < 2").tolist() == [0, 1] and index.proposed_by is None
        assert index.state() == ()
    np.save(tmp_path / "alone.npy", unit(2))
    alone = EmbeddingIndex.open(tmp_path / "alone.npy")
    assert not alone.has_label("x") and alone.roots() == []


# Pairs


def test_rows_of_another_index_are_a_mixed_pair(file, tmp_path):
    build(file)
    other = build(tmp_path / "other.npy", seed=1)
    shutil.copy(other, file)
    with pytest.raises(MismatchError, match="not those that") as caught:
        EmbeddingIndex.open(file)
    assert caught.value.exit_code == 4


def test_a_pair_that_becomes_whole_in_time_is_read(file, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "MIXED_PAIR_PATIENCE_SECONDS", 20.0)
    build(file)
    right = file.read_bytes()
    shutil.copy(build(tmp_path / "other.npy", seed=1), file)
    monkeypatch.setattr(pairs.time, "sleep", lambda _: file.write_bytes(right))
    assert np.array_equal(EmbeddingIndex.open(file).rows, unit(5))


def test_longer_rows_are_an_append_under_way(file):
    build(file)
    longer = np.concatenate([unit(5), unit(3, seed=9)])
    file.write_bytes(npy_header(8, DIM) + longer.tobytes())
    index = EmbeddingIndex.open(file)
    assert len(index) == 5 and np.array_equal(index.rows, unit(5))
    assert len(index.labels()) == 5


@pytest.mark.parametrize("rows", [0, 4])
def test_shorter_rows_are_refused(file, rows):
    build(file)
    np.save(file, unit(5)[:rows])
    with pytest.raises(MismatchError, match="not of one index") as caught:
        EmbeddingIndex.open(file)
    assert str(file) in caught.value.what


def test_rows_of_another_dimension_are_refused(file):
    build(file)
    np.save(file, np.eye(5, 3, dtype=np.float32) + 0)
    with pytest.raises(MismatchError):
        EmbeddingIndex.open(file)


def test_table_without_rows_is_refused(file):
    build(file)
    file.unlink()
    with pytest.raises(MismatchError, match="its rows"):
        EmbeddingIndex.open(file)


@pytest.mark.parametrize("data", [b"", b"text", b"SQLite format 3\0" + b"\0" * 200])
def test_table_that_is_damaged_is_refused(file, data):
    build(file)
    sidecar(file).write_bytes(data)
    with pytest.raises(IndexFileError, match=r"feats\.sqlite"):
        EmbeddingIndex.open(file)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM header WHERE key = 'blocks'",
        "DELETE FROM header WHERE key = 'rows'",
        "INSERT INTO header VALUES ('surprise', '1')",
        "UPDATE header SET value = 'not json' WHERE key = 'model'",
        "UPDATE header SET value = '5' WHERE key = 'blocks'",
        "UPDATE header SET value = '\"x\"' WHERE key = 'rows'",
    ],
)
def test_header_that_is_not_whole_is_refused_in_words(file, change):
    build(file)
    with sqlite3.connect(sidecar(file)) as database:
        database.execute(change)
    database.close()
    with pytest.raises((IndexFileError, MismatchError), match=r"feats\.sqlite"):
        EmbeddingIndex.open(file)


@pytest.mark.parametrize("version", ["0", "2", '"1"', "null"])
def test_another_format_is_refused(file, version):
    build(file)
    with sqlite3.connect(sidecar(file)) as database:
        database.execute("UPDATE header SET value = ? WHERE key = 'format'", (version,))
    database.close()
    with pytest.raises(MismatchError, match="index format"):
        EmbeddingIndex.open(file)


def test_rows_that_are_not_unit_are_refused(file):
    np.save(file, unit(5) * 2)
    with pytest.raises(IndexFileError, match="row 0"):
        EmbeddingIndex.open(file)


def test_missing_index_is_refused(file):
    with pytest.raises(IndexFileError, match=r"feats\.npy"):
        EmbeddingIndex.open(file)


# Where the pictures are


def drawn(folder, names):
    for name in names:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_index_and_pictures_may_move_together(tmp_path):
    names = ["a.jpg", "b/c.jpg"]
    drawn(tmp_path / "old/imgs", names)
    build(tmp_path / "old/feats.npy", names=names, root=tmp_path / "old/imgs")
    (tmp_path / "old").rename(tmp_path / "new")
    index = EmbeddingIndex.open(tmp_path / "new/feats.npy")
    assert index.file(1) == tmp_path / "new/imgs/b/c.jpg"
    found, here = index.find_rows(tmp_path / "new/imgs/b/c.jpg", f"{1:064x}")
    assert (found, here) == ([1], True)


def test_index_may_move_alone(tmp_path):
    drawn(tmp_path / "imgs", ["a.jpg", "b.jpg"])
    build(tmp_path / "feats.npy", names=["a.jpg", "b.jpg"], root=tmp_path / "imgs")
    (tmp_path / "far/away").mkdir(parents=True)
    for name in ("feats.npy", "feats.sqlite"):
        shutil.move(tmp_path / name, tmp_path / "far/away" / name)
    assert EmbeddingIndex.open(tmp_path / "far/away/feats.npy").file(0) == tmp_path / "imgs/a.jpg"


def test_root_that_is_named_is_tried_first(tmp_path):
    for place in ("imgs", "copy"):
        drawn(tmp_path / place, ["a.jpg", "b.jpg"])
    (tmp_path / "copy/b.jpg").unlink()
    build(tmp_path / "feats.npy", names=["a.jpg", "b.jpg"], root=tmp_path / "imgs")
    index = EmbeddingIndex.open(tmp_path / "feats.npy", root=tmp_path / "copy")
    assert index.file(0) == tmp_path / "copy/a.jpg"
    assert index.file(1) == tmp_path / "imgs/b.jpg"


def test_picture_that_is_gone_is_named_where_it_was(tmp_path):
    build(tmp_path / "feats.npy", names=["a.jpg", "b.jpg"], root=tmp_path / "imgs")
    assert EmbeddingIndex.open(tmp_path / "feats.npy").file(1) == tmp_path / "imgs/b.jpg"


def test_copy_elsewhere_is_found_by_content_not_by_place(tmp_path):
    drawn(tmp_path / "imgs", ["a.jpg", "b.jpg"])
    drawn(tmp_path, ["copy.jpg"])
    build(tmp_path / "feats.npy", names=["a.jpg", "b.jpg"], root=tmp_path / "imgs")
    index = EmbeddingIndex.open(tmp_path / "feats.npy")
    assert index.find_rows(tmp_path / "copy.jpg", f"{1:064x}") == ([1], False)
    assert index.find_rows(tmp_path / "copy.jpg", "none") == ([], False)
    assert index.find_rows(tmp_path / "imgs/a.jpg", "changed since") == ([0], True)


def test_paths_that_are_not_utf8_come_back(tmp_path):
    names = [os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"d\xff/\xfe.jpg"), "é.jpg"]
    drawn(tmp_path / "imgs", names)
    build(tmp_path / "feats.npy", names=names, root=tmp_path / "imgs")
    index = EmbeddingIndex.open(tmp_path / "feats.npy")
    assert [picture.path for _, picture in index.pictures()] == names
    for row, name in enumerate(names):
        assert index.file(row).exists()
        assert index.find_rows(tmp_path / "imgs" / name, "no such content") == ([row], True)


def test_folder_that_is_not_utf8_may_hold_index_and_pictures(tmp_path):
    folder = tmp_path / os.fsdecode(b"d\xe9j\xe0")
    drawn(folder, ["a.jpg", "b.jpg"])
    build(folder / "feats.npy", names=["a.jpg", "b.jpg"], root=folder, sources=[str(folder)])
    index = EmbeddingIndex.open(folder / "feats.npy")
    assert index.file(0).exists() and index.header.sources == [str(folder)]


def test_skipped_paths_that_are_not_utf8_come_back(file):
    name = os.fsdecode(b"/d/caf\xe9.jpg")
    with IndexBuilder(file, DIM) as builder:
        builder.append(unit(1), pictures("/data", ["a.jpg"]))
        builder.skip(name, "cut short")
        builder.finish(header())
    assert EmbeddingIndex.open(file).skipped() == [(name, "cut short")]


# Writing


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_abandoned_builder_leaves_nothing(file, error):
    with pytest.raises(error), IndexBuilder(file, DIM) as builder:
        builder.append(unit(3), pictures("/data", ["a", "b", "c"]))
        raise error
    assert files(file.parent) == []


def test_builder_left_without_finish_leaves_nothing(file):
    with IndexBuilder(file, DIM) as builder:
        builder.append(unit(1), pictures("/data", ["a"]))
    assert files(file.parent) == []


def test_abandoned_rebuild_keeps_the_old_index(file):
    build(file)
    before = [path.read_bytes() for path in (file, sidecar(file))]
    with pytest.raises(RuntimeError), IndexBuilder(file, DIM) as builder:
        builder.append(unit(1, seed=5), pictures("/other", ["a"]))
        raise RuntimeError
    assert [path.read_bytes() for path in (file, sidecar(file))] == before
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_rebuild_replaces_both(file):
    build(file)
    build(file, count=3, seed=1)
    assert np.array_equal(EmbeddingIndex.open(file).rows, unit(3, seed=1))


def test_second_writer_is_refused_and_harms_nothing(file):
    with IndexBuilder(file, DIM) as first:
        first.append(unit(3), pictures("/data", ["a", "b", "c"]))
        with pytest.raises(OutputError, match=f"pid {os.getpid()}"), IndexBuilder(file, DIM):
            raise AssertionError("two writers")
        first.finish(header())
    assert len(EmbeddingIndex.open(file)) == 3
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def lock(file, host, pid):
    path = file.with_name(file.name + ".lock")
    path.write_text(json.dumps({"host": host, "pid": pid}))
    return path


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_lock_of_a_dead_process_is_taken_over(file):
    lock(file, socket.gethostname(), dead_pid())
    build(file)
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_lock_of_another_host_is_believed(file):
    left = lock(file, "another-host", dead_pid())
    with pytest.raises(OutputError, match="another-host") as caught:
        build(file)
    assert str(left) in caught.value.hint
    assert files(file.parent) == ["feats.npy.lock"]


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"host": 1}'])
def test_lock_of_a_writer_killed_before_it_could_say_is_taken_over(file, text):
    file.with_name("feats.npy.lock").write_text(text)
    build(file)
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_lock_with_our_own_pid_is_taken_over(file):
    """A container begins again as pid 1 on a host of the same name."""
    lock(file, socket.gethostname(), os.getpid())
    build(file)
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_killed_writer_leaves_the_old_index_and_the_next_one_cleans_up(file):
    build(file)
    code = (
        "import sys, time, numpy as np; from pathlib import Path\n"
        "from cgdcli.index.builder import IndexBuilder\n"
        "from cgdcli.index.records import Picture\n"
        "builder = IndexBuilder(Path(sys.argv[1]), 8).__enter__()\n"
        "pictures = [Picture(Path('/x'), str(i)) for i in range(8)]\n"
        "builder.append(np.eye(8, dtype=np.float32), pictures)\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(files(file.parent)) > 2
    assert len(EmbeddingIndex.open(file)) == 5
    build(file, count=2, seed=3)
    assert files(file.parent) == ["feats.npy", "feats.sqlite"]


def test_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        build(tmp_path / "no/feats.npy")


# Overwriting


def replaceable(file, sources=("/data",), fingerprint="f" * 64, rebuild=False):
    model = {"source": "mine", "fingerprint": fingerprint}
    return check_replaceable(file, header(sources=[*sources], model=model), rebuild=rebuild)


def test_nothing_there_may_be_written(file):
    assert replaceable(file) is False


def test_same_sources_and_model_may_be_refreshed(file):
    build(file, sources=["/b", "/a"])
    assert replaceable(file, sources=["/a", "/b"]) is True


@pytest.mark.parametrize(
    ("values", "words"), [({"sources": ["/other"]}, "/data"), ({"fingerprint": "0" * 64}, "model")]
)
def test_another_index_wants_rebuild(file, values, words):
    build(file)
    with pytest.raises(MismatchError, match=words) as caught:
        replaceable(file, **values)
    assert "--rebuild" in caught.value.hint and caught.value.exit_code == 4
    assert replaceable(file, **values, rebuild=True) is True


@pytest.mark.parametrize("rebuild", [True, False])
@pytest.mark.parametrize("name", ["feats.npy", "feats.sqlite"])
@pytest.mark.parametrize("data", [b"", b"my precious notes", npy_header(0, 8)])
def test_what_is_no_index_is_never_replaced(file, name, data, rebuild):
    (file.parent / name).write_bytes(data)
    with pytest.raises(MismatchError, match="not an index"):
        replaceable(file, rebuild=rebuild)


@pytest.mark.parametrize("rebuild", [True, False])
def test_somebody_elses_database_is_never_replaced(file, rebuild):
    with sqlite3.connect(sidecar(file)) as database:
        database.execute("CREATE TABLE header (key, value)")
        database.execute("INSERT INTO header VALUES ('format', '1')")
    database.close()
    with pytest.raises(MismatchError, match="not an index"):
        replaceable(file, rebuild=rebuild)


@pytest.mark.parametrize("damage", ["cut", "mixed", "rows gone"])
def test_damaged_index_of_ours_may_be_rebuilt_as_its_hint_says(file, tmp_path, damage):
    """A kill between the two renames leaves a mixed pair; there must be a way on from there."""
    build(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "mixed":
        shutil.copy(build(tmp_path / "other.npy", seed=1), file)
    else:
        file.unlink()
    with pytest.raises((MismatchError, IndexFileError)) as caught:
        EmbeddingIndex.open(file)
    assert "embed again" in caught.value.hint
    assert replaceable(file, rebuild=True) is True


def test_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="folder"):
        replaceable(tmp_path)


def test_damage_where_nobody_looked_at_opening_is_said(file):
    build(file, names=[f"{'x' * 200}{i}.jpg" for i in range(400)], labels=["a"] * 400)
    table = file.with_suffix(".sqlite")
    data = bytearray(table.read_bytes())
    for page in range(0, len(data), 4_096):  # leaves of the table, not of the index that is counted
        if data[page] == 0x0D and b"xxxx" in data[page : page + 4_096]:
            data[page : page + 4_096] = b"\xff" * 4_096
    table.write_bytes(data)
    with EmbeddingIndex.open(file) as index:
        for ask in (index.labels, lambda: index.picture(399), lambda: list(index.pictures())):
            with pytest.raises(IndexFileError, match=r"feats\.sqlite.* is damaged"):
                ask()
