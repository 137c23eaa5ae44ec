"""Processes that torchrun started make one index in parts; where one fails, all have failed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_toys import draw_classes, environment

from cgdcli.config import CGDConfig, EmbedConfig, Transform
from cgdcli.embedding import EmbedRequest, embed_images
from cgdcli.embedding.sharing import embed_request
from cgdcli.errors import ConfigError
from cgdcli.index.shards import Shard
from cgdcli.locks import writer_lock

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from gang import start
from test_refreshing import rows_by_path

SMALL = EmbedConfig(batch_size=2, workers=1, engine="torch", device="cpu")


def model():
    import torch

    from cgdcli.model.cgd import CGD

    torch.manual_seed(0)
    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))


def share(folder, parts, config=SMALL):
    """What each process does."""
    request = EmbedRequest([folder / "imgs"], folder / "feats.npy", model(), config=config)
    report = embed_request(request, parts=parts)
    return report.rows, report.embedded, report.parts, len(report.skipped), report.labels


@pytest.fixture
def folder(tmp_path):
    draw_classes(tmp_path / "imgs", "red green", 5)
    (tmp_path / "imgs/green/broken.png").write_bytes(b"no picture")
    return tmp_path


def test_where_one_fails_the_first_does_not_report(folder):
    """It waits; torchrun, seeing the other's exit code, ends it."""
    with writer_lock(Shard(1, 2).path(folder / "feats.npy")):
        first, other = start(2, share, folder / "said", folder, 2)
        other.join(60)
        assert other.exitcode == 1
        end = time.monotonic() + 30
        while not Shard(0, 2).path(folder / "feats.npy").exists() and time.monotonic() < end:
            time.sleep(0.05)
    first.join(1)
    assert first.exitcode is None and not (folder / "said/0.pt").exists()
    first.kill()
    first.join()


@pytest.fixture
def launched(monkeypatch):
    said = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": 3}, "--parts 3 for 4 processes"),
        ({"shard": Shard(0, 4)}, "torchrun started 4"),
    ],
)
def test_what_several_processes_cannot_share(folder, launched, options, words):
    request = EmbedRequest([folder / "imgs"], folder / "feats.npy", model(), config=SMALL)
    with pytest.raises(ConfigError, match=words):
        embed_request(request, **options)


@pytest.mark.slow
def test_torchrun_itself(folder, tmp_path):
    import torch
    from torchvision.models import resnet18

    torch.save(resnet18(weights=None).state_dict(), tmp_path / "trunk.pth")
    line = ("-m", "cgdcli", "embed", "imgs", "-o", "feats.npy", "--engine", "torch", "--device",
            "cpu", "--model", "trunk.pth", "--json")  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *line],
        cwd=folder,
        env=environment(OMP_NUM_THREADS=os.environ["OMP_NUM_THREADS"]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr  # though a picture was skipped: that is no failure
    report = json.loads(ran.stdout)
    assert (report["rows"], report["parts"], len(report["skipped"])) == (10, 2, 1)
    assert ran.stderr.count("10 rows of") == 1 and "Traceback" not in ran.stderr
    config = EmbedConfig(engine="torch", device="cpu")
    embed_images([folder / "imgs"], folder / "one.npy", model=folder / "trunk.pth", config=config)
    assert rows_by_path(folder / "feats.npy") == rows_by_path(folder / "one.npy")
