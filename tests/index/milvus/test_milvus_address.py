"""What is an address of Milvus, and what is a file or an address of another kind."""

from pathlib import Path

import pytest

from cgdcli.errors import ConfigError
from cgdcli.index.milvus.address import milvus_address
from cgdcli.remote import shown


@pytest.mark.parametrize(
    ("given", "uri", "collection"),
    [
        ("http://host:19530/gallery", "http://host:19530", "gallery"),
        ("https://host/Gallery_2/", "https://host", "Gallery_2"),
        (Path("http://host:19530/gallery"), "http://host:19530", "gallery"),  # http:/host
    ],
)
def test_a_server(given, uri, collection):
    address = milvus_address(given)
    assert (address.uri, address.collection, address.file) == (uri, collection, None)
    assert str(address) == f"{uri}/{collection}"
    assert shown(address.place) == str(address)


@pytest.mark.parametrize(("given", "name"), [("gallery.db", "cgd"), ("gallery.db/mine", "mine")])
def test_the_embedded_form(given, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = milvus_address(given)
    assert (address.uri, address.collection) == (str(tmp_path / "gallery.db"), name)
    assert address.file == Path("gallery.db") and str(address) == given


@pytest.mark.parametrize(
    "given",
    ["feats.npy", "feats", "s3://bucket/feats", "https://host/feats.npy", "https://host/a/b",
     "http://host:19530", "gallery.db/no-name", "gallery.db/a/b"],
)  # fmt: skip
def test_what_is_none(given):
    assert milvus_address(given) is None


def test_a_file_is_none(tmp_path):
    (tmp_path / "gallery.db").write_bytes(b"SQLite format 3")
    assert milvus_address(tmp_path / "gallery.db") is None


def test_credentials_are_refused_and_not_shown():
    with pytest.raises(ConfigError, match="holds credentials") as caught:
        milvus_address("http://me:secret@host:19530/gallery")
    assert "secret" not in str(caught.value) and "MILVUS_TOKEN" in caught.value.hint


def test_a_name_that_is_too_long():
    with pytest.raises(ConfigError, match="201 letters"):
        milvus_address("http://host/" + "a" * 201)
