"""Locks of this machine and of others; how an index keeps them: tests/index/test_store.py."""

import json
import os
import time

import pytest

from cgdcli import locks
from cgdcli.errors import OutputError
from cgdcli.locks import lock_of, writer_lock, writer_of


@pytest.fixture
def foreign(tmp_path):
    """A lock that another host left."""
    lock_of(tmp_path / "x").write_text(json.dumps({"host": "another-host", "pid": 77}))
    return tmp_path / "x"


def silent_for(target, seconds):
    then = time.time() - seconds
    os.utime(lock_of(target), (then, then))


def test_another_host_that_shows_itself_is_believed(foreign):
    silent_for(foreign, locks.SILENT - 30)
    assert writer_of(foreign) == "pid 77 on another-host"
    with pytest.raises(OutputError, match="another-host") as caught, writer_lock(foreign):
        pass
    assert "2 minutes" in caught.value.hint and str(lock_of(foreign)) in caught.value.hint
    assert "77" in lock_of(foreign).read_text()


def test_another_host_that_was_long_silent_is_taken_over(foreign, monkeypatch):
    """As of a container that was killed, and began again under another name."""
    silent_for(foreign, locks.SILENT + 5)
    assert writer_of(foreign) is None
    monkeypatch.setattr(locks, "_SETTLED", 0)
    with writer_lock(foreign):
        assert json.loads(lock_of(foreign).read_text())["pid"] == os.getpid()
    assert list(foreign.parent.iterdir()) == []


def test_a_lock_that_another_host_took_over_meanwhile_stays_its_own(tmp_path):
    with writer_lock(tmp_path / "x"):  # and was frozen for so long that it was taken for gone
        lock_of(tmp_path / "x").write_text(json.dumps({"host": "another-host", "pid": 77}))
    assert writer_of(tmp_path / "x") == "pid 77 on another-host"


def test_who_was_taken_for_gone_learns_of_it(tmp_path, monkeypatch):
    """It went on writing beside the other, and touched the other's lock for it."""
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    with writer_lock(tmp_path / "x", "the run") as held:
        held.check()
        lock_of(tmp_path / "x").write_text(json.dumps({"host": "another-host", "pid": 77}))
        silent_for(tmp_path / "x", 1000)
        with pytest.raises(OutputError, match=r"the run is being written .*pid 77 on another-host"):
            held.check()
        time.sleep(0.2)
        assert time.time() - lock_of(tmp_path / "x").stat().st_mtime > 900
    with writer_lock(tmp_path / "y") as held:
        lock_of(tmp_path / "y").unlink()  # as the hint says: nobody's, so far
        held.check()


def test_of_two_that_take_over_at_once_one_gives_way(foreign, monkeypatch):
    silent_for(foreign, locks.SILENT + 5)
    theirs = json.dumps({"host": "a-third", "pid": 5})
    monkeypatch.setattr(locks.time, "sleep", lambda _: lock_of(foreign).write_text(theirs))
    with pytest.raises(OutputError, match="pid 5 on a-third"), writer_lock(foreign):
        pass
    assert lock_of(foreign).read_text() == theirs


def test_asking_does_not_count_as_a_sign_of_life(foreign):
    silent_for(foreign, locks.SILENT - 30)
    before = lock_of(foreign).stat().st_mtime
    writer_of(foreign)
    assert lock_of(foreign).stat().st_mtime == before


def test_whoever_holds_a_lock_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    with writer_lock(tmp_path / "x"):
        silent_for(tmp_path / "x", 1000)
        lock, deadline = lock_of(tmp_path / "x"), time.monotonic() + 10
        while time.time() - lock.stat().st_mtime > 500 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - lock.stat().st_mtime < 500
