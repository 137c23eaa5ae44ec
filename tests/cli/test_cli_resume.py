"""`cgd train --resume`: options beside it, and two processes at one run."""

import shutil
import subprocess
import sys

import pytest
from cli_toys import SMALL, check_failure, draw_classes, environment

from cgdcli.config import MAY_CHANGE

RUN = (*SMALL, "--batch-size", "4", "--per-class", "2", "--embedding-dim", "16", "--name", "one")
GO_ON = ("train", "--resume", "--name", "one")


@pytest.fixture
def stopped(cgd, tmp_path, monkeypatch):
    """A run of one epoch, stopped before it; the current folder."""
    from cgdcli.training.loop import Trainer

    def interrupted(self, *_):
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red blue", 2)
    whole = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    assert cgd("train", "data", *RUN, "--epochs", "1").code == 130
    monkeypatch.setattr(Trainer, "_epoch", whole)
    return tmp_path


def test_the_command_of_the_start_with_resume_goes_on(cgd, stopped, monkeypatch):
    """What a job script says each time; the environment, which is there for new runs, is not
    asked."""
    monkeypatch.setenv("CGD_TRAIN_MARGIN", "0.7")
    ran = cgd("train", "data", *RUN, "--epochs", "1", "--resume")
    assert ran.code == 0, ran.err


def test_another_setting_is_refused_then_forced(cgd, stopped):
    ran = cgd(*GO_ON, "--epochs", "2", "--margin", "0.2")
    check_failure(ran, 4, "runs/one", "--epochs 1 -> 2", "--margin 0.1 -> 0.2")
    ran = cgd(*GO_ON, "--epochs", "2", "--margin", "0.2", "--force")
    assert ran.code == 0 and "going on with what changed: --epochs 1 -> 2" in ran.err


def test_another_setting_in_a_file_is_refused_too(cgd, stopped):
    (stopped / "r.toml").write_text("epochs = 1\nmargin = 0.3\n")
    check_failure(cgd(*GO_ON, "--config", "r.toml"), 4, "--margin 0.1 -> 0.3")
    (stopped / "r.toml").write_text("epoch = 1\n")
    check_failure(cgd(*GO_ON, "--config", "r.toml"), 2, "'epoch'")
    shutil.copy("runs/one/config.toml", "r.toml")
    assert cgd(*GO_ON, "--config", "r.toml").code == 0


def test_what_cannot_be_changed_is_wrong_usage(cgd, stopped):
    check_failure(
        cgd(*GO_ON, "--backbone", "resnet34"), 2, "--backbone", "shufflenet_v2_x0_5 -> resnet34"
    )


def test_force_alone_replaces_no_run(cgd, stopped):
    check_failure(cgd("train", "data", *RUN, "--force"), 2, "--force", "--resume")


def test_help_says_what_may_change(cgd):
    said = " ".join(cgd("train", "--help").out.split())
    named = ", ".join(f"--{name}" for name in sorted(MAY_CHANGE))
    assert f"{named} may change; others want --force" in said and "--device" in named


def test_two_processes_at_one_run(cgd, tmp_path, monkeypatch):
    """The second (this one) is refused, new or resumed; the first is not disturbed."""
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red blue", 2)
    first = subprocess.Popen(
        [sys.executable, "-m", "cgdcli", "train", "data", *RUN, "--epochs", "400"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in first.stderr:
            if line.startswith("epoch 1/"):
                break
        for options in (("data", *RUN), ("--resume", "--name", "one"), ("--resume",)):
            ran = cgd("train", *options)
            check_failure(ran, 1, "runs/one", f"pid {first.pid}")
            assert "run.lock" in ran.err or "another --name" in ran.err
        assert first.poll() is None
        assert "epoch" in next(first.stderr)
    finally:
        first.kill()
        first.communicate()
    # The lock that a killed process left behind stops nobody.
    assert (tmp_path / "runs/one/run.lock").exists()
    check_failure(cgd("train", "--resume", "--backbone", "resnet34"), 2, "--backbone")
