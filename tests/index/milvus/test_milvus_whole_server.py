"""A whole Milvus server (2.3.5, the last that comes as a package), killed and restarted."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_whole_server(tmp_path):
    try:  # not by its name: this folder has it, too
        importlib.metadata.version("milvus")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no Milvus server here (pip install milvus==2.3.5)")
    alone = [shutil.which("unshare") or "unshare", "-n"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace may be made here, and the server listens everywhere")
    script = Path(__file__).with_name("whole_server.py")
    done = subprocess.run(
        [*alone, sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    print(done.stdout[-4_000:])
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-4_000:]
