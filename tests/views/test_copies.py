"""Copies of hits: their names, all or none of them, nothing replaced unasked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgdcli.errors import OutputError
from cgdcli.reports import Hit, QueryHits
from cgdcli.views.copies import copy_hits


def answer(paths, query="q.jpg", similarity=0.83119):
    hits = tuple(Hit(i, similarity, str(p), None, i) for i, p in enumerate(paths, start=1))
    return QueryHits(query, hits, None, None if query.startswith(("row:", "mean of")) else query)


@pytest.fixture
def pictures(tmp_path):
    """Two of one name, in folders of their own."""
    files = [tmp_path / "imgs/a/x.jpg", tmp_path / "imgs/b/x.jpg"]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes([number]) * 1000)
    return files


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_names_say_rank_and_similarity(tmp_path, pictures):
    done = copy_hits([answer(pictures)], tmp_path / "out")
    assert names(tmp_path / "out") == ["01_0.8312_x.jpg", "02_0.8312_x.jpg"]
    assert (done.copied, done.missing) == (2, ())
    for file, name in zip(pictures, names(tmp_path / "out"), strict=True):
        assert (tmp_path / "out" / name).read_bytes() == file.read_bytes()


def test_ranks_sort_as_names_do(tmp_path, pictures):
    copy_hits([answer(pictures[:1] * 120)], tmp_path / "out")
    found = names(tmp_path / "out")
    assert found[0].startswith("001_") and found[-1].startswith("120_")


def test_a_folder_for_each_of_several_queries(tmp_path, pictures):
    queries = ["imgs/a/x.jpg", "row:3", "mean of x/x.jpg + y.jpg", 'odd?"<name>.png']
    copy_hits([answer(pictures[:1], query=q) for q in queries], tmp_path / "out", several=True)
    folders = ["1_x", "2_row_3", "3_mean of x_x.jpg + y.jpg", "4_odd___name_"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == folders
    assert names(tmp_path / "out/2_row_3") == ["01_0.8312_x.jpg"]


def test_what_is_gone_is_said_and_the_others_are_copied(tmp_path, pictures):
    pictures[0].unlink()
    bare = Hit(3, 0.5, "row:9", None, 9)
    done = copy_hits([QueryHits("q", (*answer(pictures).hits, bare))], tmp_path / "out")
    assert names(tmp_path / "out") == ["02_0.8312_x.jpg"] and done.copied == 1
    assert [m.path for m in done.missing] == [str(pictures[0]), "row:9"]
    assert str(pictures[0]) in done.missing[0].reason and "row 9" in done.missing[1].reason


def test_nothing_is_mixed_or_replaced_unasked(tmp_path, pictures):
    target = tmp_path / "out"
    target.mkdir()
    copy_hits([answer(pictures)], target)  # an empty folder is as good as none
    (target / "mine.txt").write_text("mine")
    (target / "01_0.8312_x.jpg").write_text("mine too")
    with pytest.raises(OutputError, match="not empty") as error:
        copy_hits([answer(pictures)], target)
    assert "--force" in error.value.hint
    assert (target / "01_0.8312_x.jpg").read_text() == "mine too"
    copy_hits([answer(pictures)], target, force=True)
    assert (target / "01_0.8312_x.jpg").read_bytes() == pictures[0].read_bytes()
    assert (target / "mine.txt").read_text() == "mine"
    assert names(target) == ["01_0.8312_x.jpg", "02_0.8312_x.jpg", "mine.txt"]


def test_names_that_are_too_long_or_no_utf_8(tmp_path):
    odd = [os.fsdecode(b"caf\xe9.jpg"), "長" * 80 + ".jpg", "a" * 251 + ".jpg", "n\nl.jpg"]
    for name in odd:
        (tmp_path / name).write_text("x")
    done = copy_hits([answer([tmp_path / name for name in odd])], tmp_path / "out")
    assert done.copied == 4
    for file in (tmp_path / "out").iterdir():
        assert file.suffix == ".jpg" and len(os.fsencode(file.name)) <= 255
    assert (tmp_path / "out" / f"01_0.8312_{odd[0]}").exists()


@pytest.mark.parametrize(
    ("place", "words"), [("no/out", "does not exist"), ("file", "it is a file")]
)
def test_places_that_cannot_be(tmp_path, pictures, place, words):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=words):
        copy_hits([answer(pictures)], tmp_path / place)


def test_a_failure_leaves_nothing(tmp_path, pictures, monkeypatch):
    from cgdcli.views import copies

    calls = []

    def full(path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "fsync_file", full)
    with pytest.raises(OutputError, match="No space left"):
        copy_hits([answer(pictures)], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["imgs"]


def test_a_kill_leaves_no_half_folder(tmp_path):
    """SIGKILL while 400 copies of a megabyte are made: the folder is not there yet."""
    (tmp_path / "big.jpg").write_bytes(os.urandom(1 << 20))
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from cgdcli.reports import Hit, QueryHits\nfrom cgdcli.views.copies import copy_hits\n"
        "hits = tuple(Hit(i, 0.5, 'big.jpg', None, i) for i in range(400))\n"
        "copy_hits([QueryHits('q', hits)], Path('out'))"
    )
    repository = str(Path(__file__).parents[2])
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": repository}
    )
    while not list(tmp_path.glob(".out.*.tmp/*_big.jpg")):
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "out").exists()
    (leftover,) = tmp_path.glob(".out.*.tmp")
    assert 0 < len(list(leftover.iterdir())) < 400
