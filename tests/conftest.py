import atexit
import contextlib
import fcntl
import logging
import os
import pickle
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

# Workers of pytest-xdist share the cores; torch reads it once, when it is imported.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, 2 // _WORKERS)))
sys.path.insert(0, str(Path(__file__).parent))


# absl, which other packages log by, closes the stream that it was imported with when logging is set
# up anew, as pymilvus does; and that may be pytest's, after which every test of the process fails.
with contextlib.suppress(ImportError):
    import absl.logging

    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


def _in_memory():
    """A folder that no disk is behind, where there is much room; None without one.

    Every run and index is forced to the disk: a third of the time of the tests of training.
    """
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 8 * 2**30:
        return None
    folder = tempfile.mkdtemp(prefix="cgd-tests-", dir=memory)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# Of pytest's `tmp_path`; given, what a failed test left there stays.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and (memory := _in_memory()):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = memory

# Compiled networks of the tests are not the user's; the processes of pytest-xdist share them.
if "CGD_TESTS_CACHE" not in os.environ:
    os.environ["CGD_TESTS_CACHE"] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="cgd-")
    atexit.register(shutil.rmtree, os.environ["CGD_TESTS_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def pytorch_unless_marked(request, monkeypatch):
    """A network is compiled by OpenVINO in seconds, and every test has another: `auto` is PyTorch.

    Real processes choose for themselves: the toy of tests/cli is embedded by OpenVINO.
    """
    if request.node.get_closest_marker("openvino") is None:
        monkeypatch.setattr("cgdcli.engines.choosing.is_installed", lambda: False)


@pytest.fixture(autouse=True)
def the_librarys_log_is_heard(monkeypatch):
    """A command that ran before in this process has the log for its own: `caplog` hears nothing."""
    logger = logging.getLogger("cgdcli")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.manager._clear_cache()  # of levels that were asked for


# What follows serves tests/cli: one tiny model for the whole session, trained by a real process.

# Two threads that spin on two shared cores wait for each other thirty times longer than they work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent / "cli"))


@dataclass(frozen=True)
class Toy:
    """A folder in which the four lines have been run, and how each of them ended."""

    folder: Path
    ran: dict

    @property
    def run(self) -> Path:
        return next((self.folder / "runs").iterdir())

    @property
    def model(self) -> Path:
        return self.run / "last.safetensors"

    @property
    def index(self) -> Path:
        return self.folder / "feats.npy"

    def copy_index(self, folder: Path) -> Path:
        """The index alone, elsewhere; the pictures and the model stay where they are."""
        for suffix in (".npy", ".sqlite"):
            shutil.copy(self.index.with_suffix(suffix), folder)
        return folder / self.index.name


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The four lines of the README, one after the other, in a fresh folder, as real processes.

    Once for all processes of pytest-xdist: the folder is to be read only, and takes 25 s to make.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "toy"
    with (shared / "toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ran.pickle").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            (folder / "ran.pickle").write_bytes(pickle.dumps(_four_lines(folder)))
    return Toy(folder, pickle.loads((folder / "ran.pickle").read_bytes()))


def _four_lines(folder):
    import torch
    from cli_toys import TINY, draw, draw_classes, process
    from reference import polluted

    draw_classes(folder / "data", "red green blue yellow", 3)
    draw_classes(folder / "imgs", "red green blue", 3, first=10)
    draw(folder / "query.jpg", "red", 50)
    torch.save(polluted("resnet18_SG_256_21", "0.0.31.post2005241907"), folder / "old.pth")
    return {
        "train": process("train", "data/", *TINY, "--epochs", "1", cwd=folder),
        "embed": process("embed", "imgs/", "-o", "feats.npy", cwd=folder),
        "search": process("search", "query.jpg", "--index", "feats.npy", cwd=folder),
        "convert-weights": process("convert-weights", "old.pth", cwd=folder),
    }


@pytest.fixture
def cgd(capfd, monkeypatch):
    """`cgd(...)` in this process, through `main`, which includes the error handling."""
    from cli_toys import Ran

    for name in list(os.environ):
        if name.startswith("CGD_") or name in ("NO_COLOR", "CLICOLOR_FORCE"):
            monkeypatch.delenv(name)

    def run(*arguments):
        from cgdcli.cli import main

        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def in_toy(toy, monkeypatch):
    """The toy, with its folder as the current one; to be read only."""
    monkeypatch.chdir(toy.folder)
    return toy


@pytest.fixture(scope="session")
def s3_server():
    """The address of a real server, in a thread."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path):
    """An empty bucket, this process's environment for it, and an empty cache."""
    from bucket import KEYS, Bucket
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bucket(s3_server, f"b{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium of the system; pages are looked at in nothing else."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        reason = "no Chromium on this machine (Debian: apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=quiet)
        yield started
        started.close()
