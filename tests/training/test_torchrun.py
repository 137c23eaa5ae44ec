"""The example for Slurm, and with it torchrun itself: `srun` and `scontrol` are stood in for."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_toys import draw_classes, environment
from test_distributed import near, same_figures

from cgdcli.config import Precision, TrainConfig

SCRIPT = Path(__file__).parents[2] / "examples/slurm_train.sh"
OPTIONS = {
    "image_size": 32,
    "embedding_dim": 16,
    "batch_size": 8,
    "per_class": 2,
    "epochs": 6,
    "learning_rate": 1e-5,
    "margin": 3.0,  # more than a distance: hinges near 0 tell sums in another order apart
    "precision": Precision.fp32,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine"),
]


@pytest.fixture
def cluster(tmp_path):
    """A folder with data, weights, and one machine of a cluster to submit to."""
    from torchvision.models import resnet18

    tools = tmp_path / "bin"
    tools.mkdir()
    for name, does in {
        "srun": 'exec "$@"',
        "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >> scontrol.txt; fi',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{does}\n")
        (tools / name).chmod(0o755)
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "trunk.pth")
    draw_classes(tmp_path / "data/train", "red green blue yellow", 6)
    draw_classes(tmp_path / "data/test", "red blue", 3, first=20)
    (tmp_path / "data/train/red/3.png").write_bytes(b"no picture")
    return tmp_path


def submit(cluster, processes):
    """The script as Slurm would start it, with that many GPUs (here: processes on the CPU)."""
    options = OPTIONS | {"backbone_weights": "trunk.pth", "device": "cpu"}
    words = [w for name, v in options.items() for w in (f"--{name.replace('_', '-')}", str(v))]
    said = {
        "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-1]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": str(processes),
        "SLURM_CPUS_PER_TASK": str(processes),
        "PORT": "0",
    }
    with (cluster / "said.txt").open("a") as log:
        return subprocess.Popen(
            [str(SCRIPT), "data", "big", *words],
            cwd=cluster,
            env=environment(**said),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(text, cluster, job, seconds=120):
    end = time.monotonic() + seconds
    while text not in (cluster / "said.txt").read_text():
        assert job.poll() is None and time.monotonic() < end, (cluster / "said.txt").read_text()
        time.sleep(0.1)


def test_a_job_that_is_stopped_goes_on_with_another_number_of_processes(cluster, monkeypatch):
    from cgdcli.training.loop import train

    job, run = submit(cluster, 2), cluster / "runs/big"
    wait_for("epoch 1/6", cluster, job)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 143
    said = (cluster / "said.txt").read_text()
    assert (cluster / "scontrol.txt").read_text() == "requeue 77\n"
    assert "2 processes" in said and said.count("stopped by SIGTERM") == 1
    assert "torchrun ... -m cgdcli train --resume --name big" in said
    assert not (run / "result.json").exists() and not (run / "run.lock").exists()

    assert submit(cluster, 1).wait(120) == 0
    said = (cluster / "said.txt").read_text()
    assert said.count("warning: skipped 1 picture that could not be read") == 1
    assert said.count("epoch 6/6") == 1 and said.count("epoch 1/6  loss") == 1
    assert submit(cluster, 3).wait(30) == 0 and "has finished" in (cluster / "said.txt").read_text()

    monkeypatch.chdir(cluster)
    config = replace(TrainConfig(**OPTIONS), backbone_weights="trunk.pth")
    alone = train("data", config, runs="runs", name="alone").run
    assert near(run / "last.safetensors", alone / "last.safetensors")
    assert same_figures(run, alone)
