"""Servers that are down, silent, or no Milvus; the embedded form that another process has."""

import socket
import subprocess
import sys
import threading
import time

import pytest
from galleries import Wire, build

from cgdcli.config import MilvusConfig
from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.milvus.server import open_server

QUICK = MilvusConfig(connect_seconds=1.0)


def fake(answer):
    """A TCP server that accepts and does nothing, hangs up, or talks of other things."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def run():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            kept.append(client)
            if answer is None:
                client.close()
            elif answer:
                client.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return listener


@pytest.mark.parametrize("answer", [b"", None, b"HTTP/1.1 200 OK\r\n\r\nhello"])
def test_what_is_no_milvus_is_said_in_time(answer):
    with fake(answer) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/gallery"
        started = time.monotonic()
        with pytest.raises(IndexFileError, match="no Milvus server answers") as caught:
            open_server(milvus_address(address), QUICK)
        assert time.monotonic() - started < 5
    assert address in caught.value.what and "nothing is lost" in caught.value.hint


def test_a_server_that_is_down():
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = milvus_address(f"http://127.0.0.1:{bound.getsockname()[1]}/gallery")
        started = time.monotonic()
        with pytest.raises(IndexFileError, match="no Milvus server answers"):
            open_server(address)  # with the patience that users have
        assert time.monotonic() - started < 10


def test_an_alias_is_never_taken_for_none_where_no_answer_comes(lite_server):
    """A sender would remove what it stands for."""
    wire = Wire(lite_server.port)
    impatient = MilvusConfig(request_seconds=0.5)
    with open_server(milvus_address(wire.address("nobody")), impatient) as server:
        assert server.behind("nobody") is None
        has, server.has = server.has, lambda name: True
        assert server.behind("nobody") is None  # as of a collection: the server says no
        wire.stall()
        with pytest.raises(IndexFileError, match="failed"):
            server.behind("nobody")
        server.has = has
        wire.cut()
        with pytest.raises(IndexFileError, match="failed"):
            server.behind("nobody")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ConfigError, match="pymilvus is not installed") as caught:
        open_server(milvus_address("http://127.0.0.1:1/gallery"))
    assert caught.value.hint == "pip install 'cgdcli[milvus]'"


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "photos.db").mkdir()
    (tmp_path / "photos.db/a.jpg").write_bytes(b"")
    with pytest.raises(MismatchError, match="not one of Milvus Lite's"):
        open_server(milvus_address(tmp_path / "photos.db"))
    with pytest.raises(IndexFileError, match="no folder"):
        open_server(milvus_address(tmp_path / "none/gallery.db"))


def test_the_embedded_form_serves_one_process_at_a_time(tmp_path):
    from cgdcli.index.milvus.sending import send_to_milvus

    folder = tmp_path / "gallery.db"
    send_to_milvus(build(tmp_path / "feats.npy", 5), folder)
    code = (
        "import sys; from milvus_lite.db import MilvusLite; db = MilvusLite(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"  # this process has let go of it
        with pytest.raises(IndexFileError, match="open in another process") as caught:
            open_server(milvus_address(folder))
        assert "milvus-lite server" in caught.value.hint
        other.stdin.close()
        other.wait()
    with open_server(milvus_address(folder)) as server:
        assert server.embedded and server.has("cgd")
