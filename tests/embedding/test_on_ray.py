"""Parts as tasks of a real local Ray cluster, one of whose workers is killed in the middle."""

import json
import os
import signal
import socket
import sqlite3
import threading
import time

import pytest
import torch
from cli_toys import check_failure, picture

from cgdcli.config import EmbedConfig, EmbedPrecision
from cgdcli.embedding import EmbedRequest
from cgdcli.embedding.on_ray import embed_on_ray, release_of_the_dead
from cgdcli.embedding.sharding import embed_parts
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.index.records import PART, hidden, sidecar
from cgdcli.index.shards import Shard, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.locks import lock_of

ray = pytest.importorskip("ray")

EACH = 40
# As many a pass and as many threads everywhere: then rows are the same to the bit.
CONFIG = EmbedConfig(batch_size=4, workers=1, device="cpu")


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine, not nice to the tests beside them: they would never be done."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             logging_level="error")  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures that take a while to read, and a checkpoint that takes none."""
    from cgdcli.config import CGDConfig, Transform
    from cgdcli.model.cgd import CGD
    from cgdcli.weights.checkpoint import Checkpoint

    folder = tmp_path_factory.mktemp("ray")
    for label in ("red", "green"):
        (folder / "imgs" / label).mkdir(parents=True)
        first = folder / "imgs" / label / "0.png"
        picture(label, 0, size=(2400, 1800)).save(first)
        for number in range(1, EACH):
            os.link(first, first.with_name(f"{number}.png"))
    torch.manual_seed(0)
    model = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))
    Checkpoint(model.config, model.state_dict()).save(folder / "m.safetensors")
    return folder


def committed(part):
    """Rows that an unfinished part has on the disk."""
    table = hidden(sidecar(part), PART)
    if not table.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{table}?mode=ro", uri=True) as database:
            (rows,) = database.execute("SELECT value FROM building WHERE key = 'rows'").fetchone()
        return int(json.loads(rows))
    except (sqlite3.Error, TypeError):
        return 0
    finally:
        if "database" in locals():
            database.close()


def kill_a_worker(whole, killed):
    """The one that has brought rows to the disk first, by the pid in its lock."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for shard in shards(2):
            part = shard.path(whole)
            rows = committed(part)
            if rows:
                pid = json.loads(lock_of(part).read_text())["pid"]
                assert pid != os.getpid()
                os.kill(pid, signal.SIGKILL)
                killed.append((shard, rows))
                return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.openvino
def test_a_worker_that_is_killed_loses_nothing(cluster, folder, monkeypatch):
    monkeypatch.chdir(folder)
    request = EmbedRequest([folder / "imgs"], folder / "one.npy", "m.safetensors", config=CONFIG)
    embed_parts(request, 2)
    killed = []
    killer = threading.Thread(target=kill_a_worker, args=(folder / "feats.npy", killed))
    killer.start()
    given = EmbedRequest([folder / "imgs"], folder / "feats.npy", "m.safetensors", config=CONFIG)
    report = embed_on_ray(given, 2)
    killer.join()
    ((shard, rows),) = killed
    assert report.continued >= rows > 0
    assert report.embedded + report.continued == report.rows == 2 * EACH
    for shard in shards(2):
        ours, alone = shard.path(folder / "feats.npy"), shard.path(folder / "one.npy")
        assert ours.read_bytes() == alone.read_bytes()
        with EmbeddingIndex.open_one(ours) as a, EmbeddingIndex.open_one(alone) as b:
            assert list(a.pictures()) == list(b.pictures())


def test_what_a_worker_refuses_is_refused_here(cluster, folder, tmp_path):
    request = EmbedRequest([tmp_path / "nothing"], tmp_path / "f.npy", folder / "m.safetensors")
    with pytest.raises(DatasetError, match="nothing` does not exist"):
        embed_on_ray(request, 1)
    auto = EmbedRequest(
        [folder], tmp_path / "f.npy", config=EmbedConfig(precision=EmbedPrecision.auto)
    )
    with pytest.raises(ConfigError, match="--precision auto"):
        embed_on_ray(auto, 2)


def test_the_lock_of_a_machine_that_the_cluster_lost_is_removed(monkeypatch, tmp_path):
    part = Shard(0, 2).path(tmp_path / "f.npy")
    nodes = [(True, "here"), (False, "gone"), (False, "back"), (True, "back")]
    told = [{"Alive": alive, "NodeManagerHostname": name} for alive, name in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: told)
    for host, stays in {"gone": False, "back": True, "here": True, "a stranger": True}.items():
        lock_of(part).write_text(json.dumps({"host": host, "pid": 1}))
        release_of_the_dead(part)
        assert lock_of(part).exists() == stays, host
    lock_of(part).write_text("")
    release_of_the_dead(part)


def test_a_cluster_that_is_not_there_is_said(cgd, folder, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    ray.shutdown()
    ran = cgd("embed", folder / "imgs", "-o", tmp_path / "f.npy", "--ray", nobody, "--model",
              folder / "m.safetensors")  # fmt: skip
    check_failure(ran, 2, nobody)


def test_without_ray_the_extra_is_named(monkeypatch, folder, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        embed_on_ray(EmbedRequest([folder], tmp_path / "f.npy", folder / "m.safetensors"))
    assert "cgdcli[ray]" in caught.value.hint
