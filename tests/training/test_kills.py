"""Runs killed by SIGKILL at random moments end as if they had never been stopped."""

import csv
import multiprocessing
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from cli_toys import draw_classes

from cgdcli.config import Cache, Precision, StrideMode, TrainConfig
from cgdcli.weights.header import read_header

KILLS = 20
CONFIG = TrainConfig(
    backbone="shufflenet_v2_x0_5",
    stride=StrideMode.standard,
    image_size=32,
    embedding_dim=16,
    backbone_weights="none",
    precision=Precision.fp32,
    epochs=24,
    batch_size=8,
    per_class=2,
    learning_rate=1e-3,
    evaluations=8,
    workers=2,
    cache=Cache.disk,
)


def begin_or_go_on(data: str, runs: str) -> None:
    """What a person does: start, and after a kill resume; in a process of its own."""
    torch.set_num_threads(1)
    from cgdcli.training.loop import train
    from cgdcli.training.run import STATE_FILE

    if (Path(runs) / "one" / STATE_FILE).is_file():
        train(runs=runs, name="one", resume=True)
        return
    shutil.rmtree(Path(runs) / "one", ignore_errors=True)  # killed before there was a state
    train(data, CONFIG, runs=runs, name="one")


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with torch already loaded: twenty starts cost seconds, not minutes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "cgdcli.training.loop"])
    return context


def run(processes, data, runs, patience, by=signal.SIGKILL):
    """Seconds of patience, then a signal; None to wait. Whether it ended by that."""
    child = processes.Process(target=begin_or_go_on, args=(str(data), str(runs)))
    child.start()
    child.join(patience)
    killed = child.is_alive()
    if killed:
        os.kill(child.pid, by)
    child.join()
    assert child.exitcode in ((-by, 0) if killed else (0,))  # it may have come to its end meanwhile
    return child.exitcode != 0


def metrics(folder):
    with (folder / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        del row["images_per_second"], row["train_seconds"]
    return rows


def tensors(folder):
    """The bytes of the last checkpoint behind its header, which tells the run's place."""
    file = folder / "last.safetensors"
    return file.read_bytes()[read_header(file).data_start :]


def state(folder):
    found = torch.load(folder / "resume.pt", weights_only=True)
    return {name: found[name] for name in ("epoch", "model", "objective", "optimizer", "average")}


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and forkserver")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_twenty_kills_change_nothing(processes, tmp_path, by):
    """Nor twenty SIGTERMs; that those cost no step: test_loop."""
    data = draw_classes(tmp_path / "data", "red green blue yellow", 6)
    whole = tmp_path / "whole"
    assert not run(processes, data, whole, None)
    draw = random.Random(20)
    kills = finished = 0
    while kills < KILLS or not finished:
        broken = tmp_path / f"broken{finished}"
        if run(processes, data, broken, draw.uniform(0.1, 0.9) if kills < KILLS else None, by):
            kills += 1
            for path in broken.rglob("[bl]*.safetensors"):  # whole at any moment
                read_header(path)
            continue
        finished += 1
        assert tensors(broken / "one") == tensors(whole / "one")
        assert metrics(broken / "one") == metrics(whole / "one")
        assert equal(state(broken / "one"), state(whole / "one"))
        # Of a kill in the middle of writing nothing is left.
        assert not list(broken.rglob(".*.tmp"))
    assert kills == KILLS
