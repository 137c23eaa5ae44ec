"""Pictures from a web server, stdin and the clipboard: a real server, real bytes."""

import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from PIL import Image, ImageGrab

from cgdcli.errors import DatasetError
from cgdcli.images import incoming
from cgdcli.images.incoming import is_elsewhere, received


def png():
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 40)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = {
                "/a.png": png(),
                "/long": b"x" * 5_000,
                "/empty": b"",
                "/caf%C3%A9%20%2F.png?a=b&c": png(),
                "/broken": b"2000\r\nxy",
            }.get(self.path)
            self.send_response(200 if found is not None else 404)
            if self.path == "/broken":
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_picture_of_a_web_server(server):
    assert received(f"{server}/a.png").read_bytes() == png()


def test_what_a_web_server_has_not(server):
    with pytest.raises(DatasetError, match="Not Found"):
        received(f"{server}/b.png")
    with pytest.raises(DatasetError, match="is empty"):
        received(f"{server}/empty")


def test_an_address_as_it_is_typed(server):
    assert received(f"{server}/café %2F.png?a=b&c").read_bytes() == png()


@pytest.mark.parametrize(
    "address", ["http://a b/c.png", "http://h:port/a.png", "http://[::1/a.png"]
)
def test_what_is_no_address(address):
    with pytest.raises(DatasetError, match="cannot get the query"):
        received(address)


def test_an_answer_that_breaks_off(server):
    with pytest.raises(DatasetError, match="cannot get the query"):
        received(f"{server}/broken")


def test_a_picture_at_an_address_is_the_one_that_is_there_now(monkeypatch, tmp_path):
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    for data in (b"one", b"another"):
        fs.pipe_file("/in/a.png", data)
        assert received("memory://in/a.png").read_bytes() == data
    with pytest.raises(DatasetError, match="is a folder"):
        received("memory://in")
    fs.rm("/", recursive=True)
    with pytest.raises(DatasetError, match="nothing is at"):
        received("memory://in/a.png")


def test_a_web_server_that_is_not_there():
    with pytest.raises(DatasetError, match="Connection refused"):
        received("http://127.0.0.1:9/a.png")


def test_no_endless_answer_is_kept(server, monkeypatch):
    monkeypatch.setattr(incoming, "MOST_BYTES", 4_999)
    with pytest.raises(DatasetError, match="is larger than"):
        received(f"{server}/long")


@pytest.mark.parametrize("data", [png(), b""])
def test_stdin(data, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    if data:
        assert received("-").read_bytes() == data
    else:
        with pytest.raises(DatasetError, match="is empty"):
            received("-")


def test_the_clipboard(monkeypatch, tmp_path):
    monkeypatch.setattr(ImageGrab, "grabclipboard", lambda: Image.new("RGB", (4, 4), (1, 2, 3)))
    with Image.open(received("clipboard")) as found:
        assert found.getpixel((0, 0)) == (1, 2, 3)
    monkeypatch.setattr(ImageGrab, "grabclipboard", lambda: [str(tmp_path / "a.png")])
    assert received("clipboard") == tmp_path / "a.png"
    monkeypatch.setattr(ImageGrab, "grabclipboard", lambda: None)
    with pytest.raises(DatasetError, match="no picture is in the clipboard"):
        received("clipboard")


def test_what_is_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-", "clipboard", "http://h/a", "https://h/a.png?x=1", "s3://b/a.png"):
        assert is_elsewhere(name), name
    (tmp_path / "clipboard").touch()
    for name in ("clipboard", "a.png", "C:/a.png", "row:3"):
        assert not is_elsewhere(name), name
