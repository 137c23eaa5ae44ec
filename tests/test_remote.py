import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cgdcli.errors import ConfigError, DatasetError, OutputError
from cgdcli.remote import address_of, download, facts_of, opened, place_of, reported, shown


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "address",
    ["s3://bucket", "s3://bucket/a b/ü.jpg", "https://host:8080/x.jpg?y=1&z=%2F", "gs://b/c"],
)
def test_address_and_place_name_each_other(address, cache):
    place = place_of(address)
    assert place.is_relative_to(cache / "cgd" / "remote")
    assert address_of(place) == shown(place) == address
    assert place_of(address + "/") == place_of(Path(address)) == place_of(place) == place


@pytest.mark.parametrize("path", ["imgs", "/imgs/a.jpg", "C:/imgs", "row:3", ".", "a:b/c"])
def test_a_path_is_none(path):
    assert place_of(path) == Path(path) and address_of(path) is None and shown(path) == path


def test_a_folder_that_is_called_so_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:", "b").mkdir(parents=True)
    assert place_of(Path("s3:/b")) == Path("s3:/b")


@pytest.mark.parametrize("address", ["s3://", "s3://b//x", "s3://b/../x", "s3://b/" + "x" * 256])
def test_what_no_file_can_be_named_like_is_refused(address):
    with pytest.raises(ConfigError, match="empty name"):
        place_of(address)


def test_facts_are_of_the_tag_else_of_the_second():
    at = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
    tagged = facts_of({"size": 3, "ETag": '"abc"', "LastModified": at})
    assert tagged == facts_of({"size": 3, "etag": "abc"}) != facts_of({"size": 3, "ETag": "abd"})
    assert 0 <= tagged[1] < 2**60
    assert facts_of({"mtime": at}) == facts_of({"mtime": at.replace(microsecond=0)})
    assert facts_of({"size": 3}) == (3, None)


def test_a_copy_that_is_cut_short_is_none(monkeypatch):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/cut/a.bin", b"12345")
    place = place_of("memory://cut/a.bin")

    def cut(self, path, target, **_):
        Path(target).write_bytes(b"123")

    with monkeypatch.context() as patched:
        patched.setattr(type(fs), "get_file", cut)
        with pytest.raises(DatasetError, match="3 bytes of 5"):
            download(place)
    assert list(place.parent.iterdir()) == []
    assert download(place) and place.read_bytes() == b"12345"
    assert (5, place.stat().st_mtime_ns) == facts_of(fs.info("/cut/a.bin"))
    assert not download(place_of("memory://cut/b.bin"))


def test_errors_say_what_to_do():
    with pytest.raises(ConfigError, match="nosuch"):
        opened("nosuch://x/y")
    with pytest.raises(OutputError, match="no space"), reported("s3://b"):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(DatasetError, match="cannot reach `s3://b`: reset"), reported("s3://b"):
        raise ConnectionError("reset\nmore")
    with pytest.raises(FileNotFoundError), reported("s3://b"):
        raise FileNotFoundError
