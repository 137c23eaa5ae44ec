"""Every malformed file is refused in words by every command that reads weights."""

import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from cli_toys import environment
from corpus import CORPUS, small_state

from cgdcli.errors import CheckpointError
from cgdcli.weights.reading import read_content

COMMANDS = {
    "convert": lambda path: ("convert-weights", path, "-o", path.with_name("new.safetensors")),
    "plan": lambda path: ("convert-weights", path, "--plan"),
    "inspect": lambda path: ("inspect", path),
    "model": lambda path: ("profile", path),
}


def test_the_corpus_is_large_and_each_name_is_there_once():
    assert len(CORPUS) >= 60
    assert len({broken.name for broken in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("command", ["convert", "plan", "inspect"])
@pytest.mark.parametrize("broken", CORPUS, ids=lambda b: b.name)
def test_is_refused(broken, command, cgd, tmp_path):
    path, marker = tmp_path / f"old{broken.suffix}", tmp_path / "executed"
    broken.build(path, marker)
    before = path.read_bytes()
    ran = cgd(*COMMANDS[command](path))
    if command == "inspect" and broken.inspectable:
        assert ran.code == 0
    else:
        assert ran.code in (1, 4)
        assert ran.err.startswith("error: ") and "\nhint: " in ran.err
        assert broken.word in ran.err
        assert "Traceback" not in ran.err
        assert ran.out == "" or command == "plan"
    assert not marker.exists()
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    "name", ["code-zip", "zip-of-zeros", "tensor-terabytes", "cyclic", "empty", "zip-cut-0.5"]
)
def test_is_refused_as_a_model_too(name, cgd, tmp_path):
    broken = next(b for b in CORPUS if b.name == name)
    path = tmp_path / f"old{broken.suffix}"
    broken.build(path, tmp_path / "executed")
    ran = cgd(*COMMANDS["model"](path))
    assert ran.code in (1, 4) and "hint: " in ran.err and "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["code-zip", "code-legacy", "code-protocol-0", "code-inst"])
def test_the_markers_of_the_corpus_would_appear(name, tmp_path):
    """So that their absence above means something."""
    broken = next(b for b in CORPUS if b.name == name)
    path, marker = tmp_path / "old.pth", tmp_path / "executed"
    broken.build(path, marker)
    script = f"import pickle, torch; torch.load({str(path)!r}, weights_only=False)"
    if name in ("code-protocol-0", "code-inst"):
        script = f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert marker.exists()


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_byte_of_a_zip_passes(seed, tmp_path):
    """torch.save's zip holds its table twice over and a CRC of each entry: any flip is seen, or
    is in bytes that mean nothing (padding, dates), and then the tensors are the same."""
    torch.save(small_state(), tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    rng = np.random.default_rng(seed)
    path = tmp_path / "old.pth"
    refused = 0
    for place in rng.integers(0, len(data), 60):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            content = read_content(path)
        except CheckpointError as error:
            assert error.hint
            refused += 1
        else:
            assert all(torch.equal(content[n], t) for n, t in small_state().items())
    assert refused > 40


@pytest.mark.parametrize("name", ["code-zip", "code-protocol-0"])
def test_no_way_on_for_an_attack(name, cgd, tmp_path):
    broken = next(b for b in CORPUS if b.name == name)
    broken.build(tmp_path / "old.pth", tmp_path / "executed")
    said = cgd("convert-weights", tmp_path / "old.pth").err
    assert "do not load it" in said and "plain.pth" not in said


BOMBS = ["header-terabytes", "header-gigabytes", "tensor-terabytes", "zip-of-zeros", "zip-sizes",
         "storage-claims", "expanded-view", "pickle-bytes", "pickle-deep", "pickle-deep-in-zip",
         "pickle-doubling", "json-deep"]  # fmt: skip
# What a conversion may hold beyond a process that only refuses an empty file.
ALLOWED = 64 << 20


# Each file is refused by a child of one process that has loaded everything: its largest resident
# set, as itself reads it at its end, begins with what is loaded, and so does that of the first one.
REFUSE = """
import os, pathlib, sys
from cgdcli.cli import main
import torch, cgdcli.conversion
for path in sys.argv[1:]:
    if os.fork() == 0:
        code = main(["convert-weights", path])
        status = pathlib.Path("/proc/self/status").read_text().splitlines()
        peak = next(x for x in status if x.startswith("VmHWM"))
        print(code, peak.split()[1], flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Peak bytes of a process that refuses a file: one of no bytes (""), and each bomb."""
    folder, files = tmp_path_factory.mktemp("bombs"), {"": "old.pth"}
    (folder / "old.pth").write_bytes(b"")
    for name in BOMBS:
        broken = next(b for b in CORPUS if b.name == name)
        files[name] = f"{name}{broken.suffix}"
        broken.build(folder / files[name], folder / "executed")
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, *files.values()],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = [line.split() for line in done.stdout.splitlines()]
    assert all(code in ("1", "4") for code, _ in found), done.stderr
    yield {name: int(peak) << 10 for name, (_, peak) in zip(files, found, strict=True)}
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_memory(name, peaks):
    assert peaks[name] < peaks[""] + ALLOWED


def test_a_pipe_is_refused_and_not_waited_for(cgd, tmp_path):
    os.mkfifo(tmp_path / "old.pth")
    for command in ("convert", "plan", "inspect"):
        ran = cgd(*COMMANDS[command](tmp_path / "old.pth"))
        assert ran.code == 1 and "no regular file" in ran.err


def test_links_are_followed_and_loops_refused(cgd, tmp_path):
    torch.save({}, tmp_path / "real.pth")
    (tmp_path / "link.pth").symlink_to("real.pth")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    (tmp_path / "gone.pth").symlink_to("nowhere.pth")
    assert "empty dict" in cgd("convert-weights", tmp_path / "link.pth").err
    for name in ("loop.pth", "gone.pth"):
        ran = cgd("convert-weights", tmp_path / name)
        assert ran.code == 1 and name in ran.err and "hint: " in ran.err
        assert cgd("inspect", tmp_path / name).code == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(cgd, tmp_path):
    torch.save({}, tmp_path / "old.pth")
    (tmp_path / "old.pth").chmod(0)
    ran = cgd("convert-weights", tmp_path / "old.pth")
    assert ran.code == 1 and "Permission denied" in ran.err


def test_limits_of_this_process_are_untouched():
    """Reading must not raise the recursion or memory limits of whoever calls it."""
    assert sys.getrecursionlimit() <= 10_000
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
