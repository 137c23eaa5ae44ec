"""Indexes to send, and real servers on loopback to send them to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture

DIM = 8
ROOT = Path("/data")


def unit(rows, seed=0, dim=DIM):
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def pictures(rows, root=ROOT):
    """Odd ones first: what Milvus has no word for, and what a filter is to be told with care."""
    odd = [
        Picture(root, "front/a.jpg", "007", 10, 1, f"{0:064x}"),
        Picture(root, "front/b.jpg", None, None, None, None),
        Picture(root, 'back/100%_[x]*?\\ "q"\n.jpg', 'say "hi"\\', 30, 3, f"{2:064x}"),
        Picture(root, os.fsdecode(b"back/\xff.jpg"), os.fsdecode(b"\xfe"), 40, 4, f"{3:064x}"),
        Picture(root, "漢/ü.jpg", "", 0, -5, f"{4:064x}"),
    ]
    plain = [
        Picture(root, f"d{i % 7}/{i}.jpg", f"{i % 5:03d}", 10 * i, i, f"{i:064x}")
        for i in range(len(odd), rows)
    ]
    return (odd + plain)[:rows]


def build(path, rows=60, seed=0, dim=DIM, vectors=None, entries=None, **values):
    """An index of random rows, of which two pairs are equal."""
    if vectors is None:
        vectors = unit(rows, seed, dim)
        vectors[rows // 2] = vectors[3]
    known = {
        "rows": 0,
        "dim": dim,
        "model": {"source": "m.safetensors", "fingerprint": "f" * 64},
        "engine": "torch",
        "precision": "fp32",
        "blocks": [("S", 0, dim // 2), ("G", dim // 2, dim)],
        "sources": ["/data"],
    }
    for file in (path, path.with_suffix(".sqlite")):
        file.unlink(missing_ok=True)
    with IndexBuilder(path, dim) as builder:
        builder.append(vectors, entries or pictures(rows))
        builder.skip("/data/broken.jpg", "cut short")
        builder.finish(IndexHeader(**known | values))
    return path


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """One that runs on loopback."""

    def __init__(self, port):
        self.port = port

    def address(self, collection="gallery"):
        return f"http://127.0.0.1:{self.port}/{collection}"


class LiteServer(Server):
    """`milvus-lite server` on loopback alone: unless told it listens on every interface."""

    def __init__(self, folder):
        super().__init__(free_port())
        self.folder, self.process = folder, None

    def start(self, wait=True):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.folder),
             "--host", "127.0.0.1", "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while wait and not self.listens():
            assert self.process.poll() is None
            time.sleep(0.05)
        return self

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Wire:
    """A TCP proxy on loopback: passes everything on until it is told to stall or to cut."""

    def __init__(self, port):
        self.behind, self.mode = port, "pass"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self, collection="gallery"):
        return f"http://127.0.0.1:{self.port}/{collection}"

    def stall(self):
        self.mode = "stall"

    def cut(self):
        self.mode = "cut"
        for one in [self.listener, *self.pairs]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # `close` alone waits for whoever reads
            one.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.behind))
            self.pairs += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source, target):
        try:
            while data := source.recv(65_536):
                while self.mode == "stall":
                    time.sleep(0.05)
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            one.close()
