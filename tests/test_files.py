"""Outputs are written whole or not at all, and refused before any work is done."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgdcli.errors import OutputError
from cgdcli.files import atomic_files, atomic_path, check_output, write_text


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_text_is_written_as_utf8_and_replaces(tmp_path):
    for text in ("one é", "two"):
        write_text(tmp_path / "x.txt", text)
        assert (tmp_path / "x.txt").read_bytes() == text.encode()
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_any_exception_keeps_the_old_file(tmp_path, error):
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(error), atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "x.txt").read_text() == "old" and names(tmp_path) == ["x.txt"]


def test_temporary_file_lies_beside_the_target_and_is_hidden(tmp_path):
    with atomic_path(tmp_path / "x.txt") as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".")
        temporary.write_text("new")
        assert not (tmp_path / "x.txt").exists()


def test_folder_that_is_missing_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "no/x.txt", "")


def test_good_output_passes(tmp_path):
    check_output(tmp_path / "new.npy")
    write_text(tmp_path / "old.npy", "")
    check_output(tmp_path / "old.npy", force=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [("no/x.npy", "does not exist"), ("folder", "is a folder"), ("old.npy", "exists")],
)
def test_bad_output_is_refused_with_the_remedy(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "old.npy", "")
    with pytest.raises(OutputError, match=words) as caught:
        check_output(tmp_path / name, what="index")
    assert str(tmp_path / name) in caught.value.what and "index" in caught.value.what
    assert caught.value.hint


# ---- files that mean something only together


def write_pair(folder, text):
    with atomic_files(folder / "m.xml", folder / "m.bin") as temporary:
        for name in ("m.xml", "m.bin"):
            (temporary / name).write_text(text)


def test_a_pair_is_written_and_replaced(tmp_path):
    for text in ("one", "two"):
        write_pair(tmp_path, text)
        assert [(tmp_path / n).read_text() for n in names(tmp_path)] == [text, text]
        assert names(tmp_path) == ["m.bin", "m.xml"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_any_exception_keeps_the_old_pair(tmp_path, error):
    write_pair(tmp_path, "old")
    with pytest.raises(error), atomic_files(tmp_path / "m.xml", tmp_path / "m.bin") as temporary:
        (temporary / "m.xml").write_text("half")
        raise error
    assert names(tmp_path) == ["m.bin", "m.xml"]
    assert (tmp_path / "m.xml").read_text() == (tmp_path / "m.bin").read_text() == "old"


def test_a_pair_of_which_one_was_not_written_keeps_the_old_one(tmp_path):
    write_pair(tmp_path, "old")
    with (
        pytest.raises(OutputError, match=r"m\.xml"),
        atomic_files(tmp_path / "m.xml", tmp_path / "m.bin") as temporary,
    ):
        (temporary / "m.xml").write_text("new")
    assert (tmp_path / "m.xml").read_text() == (tmp_path / "m.bin").read_text() == "old"


def test_a_kill_leaves_no_torn_pair(tmp_path):
    """A process that writes pair after pair, killed at random moments: whoever finds the .xml
    finds its .bin."""
    code = (
        "import sys; from pathlib import Path; from cgdcli.files import atomic_files\n"
        "folder, number = Path(sys.argv[1]), int(sys.argv[2])\n"
        "while True:\n"
        "    number += 1\n"
        "    with atomic_files(folder / 'm.xml', folder / 'm.bin') as new:\n"
        "        for name in ('m.xml', 'm.bin'):\n"
        "            (new / name).write_text(str(number))\n"
        "    print(number, flush=True)\n"
    )
    rng, found = random.Random(0), []
    for turn in range(12):
        running = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(1000 * turn)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
        )
        with running.stdout:
            assert int(running.stdout.readline()) == 1000 * turn + 1
            time.sleep(rng.uniform(0, 0.02))
            running.kill()
            running.wait()
        if (tmp_path / "m.xml").exists():
            assert (tmp_path / "m.xml").read_text() == (tmp_path / "m.bin").read_text()
            found.append(turn)
    assert found
