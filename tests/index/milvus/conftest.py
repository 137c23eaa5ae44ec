import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def lite_server(tmp_path_factory):
    """One for all tests that do not kill it; each takes a collection of its own.

    CGD_TESTS_MILVUS names the port on loopback of another server to be tested with, a whole one
    (test_milvus_whole_server.py).
    """
    from galleries import LiteServer, Server

    if "CGD_TESTS_MILVUS" in os.environ:
        yield Server(int(os.environ["CGD_TESTS_MILVUS"]))
        return
    server = LiteServer(tmp_path_factory.mktemp("milvus") / "data").start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Where locks of senders are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MILVUS_TOKEN", "MILVUS_DB_NAME"):
        monkeypatch.delenv(name, raising=False)
