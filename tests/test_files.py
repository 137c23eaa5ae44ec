"""Outputs are written whole or not at all, and refused before any work is done."""

import pytest

from cgdcli.errors import OutputError
from cgdcli.files import atomic_path, check_output, write_text


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
