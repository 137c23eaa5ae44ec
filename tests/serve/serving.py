"""A real server in a thread, and questions to it."""

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import uvicorn

from cgdcli.config import ServeConfig
from cgdcli.serve.app import make_app
from cgdcli.serve.searching import Searching


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    data: bytes
    headers: dict

    @property
    def json(self):
        return json.loads(self.data)


class Served:
    """A server's address, and questions to it."""

    def __init__(self, port, searching):
        self.address, self.searching = f"http://127.0.0.1:{port}", searching

    def get(self, path, data=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, data, named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Reply(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read(), dict(error.headers))


@contextlib.contextmanager
def served(index, model=None, **settings):
    """The server of an index, on a free port of the loopback."""
    config = ServeConfig(**settings)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Searching(index, model=model, config=config) as searching,
    ):
        server = uvicorn.Server(uvicorn.Config(make_app(searching), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Served(listener.getsockname()[1], searching)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
