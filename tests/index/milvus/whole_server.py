"""Run in a network namespace of its own, as root there: a whole Milvus server, and tests with it.

The server of the `milvus` package listens on every interface, whatever it is told; here there is
none but loopback.
"""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from galleries import Server, build, unit

from cgdcli.config import MilvusConfig
from cgdcli.errors import CGDError
from cgdcli.index.milvus.sending import send_to_milvus
from cgdcli.index.store import EmbeddingIndex

PORT, ROWS, DIM = 19530, 3_000, 64
CODE = f"import milvus, sys; sys.argv[1:] += ['--proxy-port', '{PORT}']; sys.exit(milvus.main())"


def loopback_up():
    get, put, is_up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get, request), 16)
        fcntl.ioctl(any_socket, put, struct.pack("16sh14x", b"lo", flags | is_up))


def until_free(port):
    """Connections of a server that was killed hold its port for a minute, and it takes another."""
    while True:
        try:
            with socket.socket() as probe:
                probe.bind(("", port))
                return
        except OSError:
            time.sleep(0.5)


class WholeServer(Server):
    """Started again whenever it ends: it does so by itself where its former self is remembered."""

    def __init__(self, folder):
        super().__init__(PORT)
        self.folder, self.wanted, self.process = folder, True, None
        self.thread = threading.Thread(target=self._supervise)
        self.thread.start()

    def _supervise(self):
        while self.wanted:
            until_free(PORT)
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, "--data", str(self.folder)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.process.wait()
            self.kill()  # what it had started

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self):
        self.wanted = False
        self.kill()
        self.thread.join()


def until_it_works(what, seconds=400):
    """Give the same command again; whatever it says in between is in words."""
    deadline, said = time.monotonic() + seconds, []
    while True:
        try:
            return what(), said
        except CGDError as error:
            said += [] if error.what in said else [error.what]
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def killed_midway(server, folder):
    file, address = build(folder / "feats.npy", ROWS, dim=DIM), server.address("killed")
    config = MilvusConfig(batch_bytes=100 * (4 * DIM + 300))

    kills = []

    def on_progress(done, total, _):
        if done >= 1_500 and not kills:
            server.kill()
            kills.append(done)

    report, said = until_it_works(
        lambda: send_to_milvus(file, address, config=config, on_progress=on_progress)
    )
    assert report.continued == 1_500
    print(f"killed after 1500 of {ROWS} rows: {report.continued} had been kept; said: {said}")
    with EmbeddingIndex.open(file) as here:
        server.kill()
        there, _ = until_it_works(lambda: EmbeddingIndex.open(address))
        count, said = until_it_works(lambda: there.server.count(there.collection))
        assert count == ROWS
        assert dict(there.pictures()) == dict(here.pictures())
        asked = unit(20, 9, DIM)
        a, b = here.search(asked, 10), there.search(asked, 10)
        recall = (a[1] == b[1]).mean()
        print(f"killed and restarted again: {count} rows, recall {recall}; said: {said}")
        assert recall > 0.9


def main(folder):
    loopback_up()
    server = WholeServer(folder / "data")
    try:
        from cgdcli.index.milvus.address import milvus_address
        from cgdcli.index.milvus.server import open_server

        until_it_works(lambda: open_server(milvus_address(server.address())).close())
        os.environ["CGD_TESTS_MILVUS"] = str(PORT)
        here = Path(__file__).parent
        words = "socket and not embedded or lost_midway or newer or somebody or never_comes"
        names = ("test_milvus_opened.py", "test_milvus_sending.py")
        killed_midway(server, folder)
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-k", words,
                            *(str(here / name) for name in names)])  # fmt: skip
        assert code == 0
    finally:
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
