"""What each of several processes of one command says: all that is said is said once."""

import pytest
from cli_toys import check_failure

USAGE = ("train", "data", "--margin", "-3")


@pytest.fixture
def started(monkeypatch):
    """As torchrun starts a process: `rank` of four, two on a machine."""

    def start(rank):
        said = {"RANK": rank, "WORLD_SIZE": 4, "LOCAL_RANK": rank % 2, "LOCAL_WORLD_SIZE": 2,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}  # fmt: skip
        for name, value in said.items():
            monkeypatch.setenv(name, str(value))

    return start


@pytest.mark.parametrize("arguments", [USAGE, ("train", "data", "--what"), ("train", "a", "b")])
def test_wrong_usage_is_said_once_a_machine(cgd, started, arguments):
    for rank in range(4):
        started(rank)
        ran = cgd(*arguments)
        assert ran.code == 2
        if rank % 2:
            assert ran.err == ran.out == ""
        else:
            check_failure(ran, 2)
            assert ("process 2: " in ran.err) == (rank == 2)


def test_settings_are_printed_once(cgd, started):
    started(1)
    assert cgd("train", "data", "--print-config").out == ""
    started(0)
    assert "epochs" in cgd("train", "data", "--print-config").out


@pytest.mark.parametrize(("rank", "everywhere"), [(0, True), (0, False), (1, True), (3, False)])
def test_a_failure_of_all_is_said_by_the_first_and_of_one_by_itself(
    cgd, started, monkeypatch, rank, everywhere
):
    from cgdcli.errors import DatasetError
    from cgdcli.training import loop

    def fail(*_, **options):
        error = DatasetError("no pictures in there", hint="draw some")
        error.everywhere = everywhere
        raise error

    monkeypatch.setattr(loop, "train", fail)
    started(rank)
    ran = cgd("train", "data")
    assert ran.code == 1
    if rank and everywhere:
        assert ran.err == ""
    else:
        check_failure(ran, 1, "process 3: no pictures" if rank else "no pictures")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, "SIGTERM"])
def test_a_signal_to_all_is_told_of_once(cgd, started, monkeypatch, stop):
    from cgdcli import cli
    from cgdcli.training import loop

    def stopped(*_, **options):
        raise stop if stop is KeyboardInterrupt else cli.Terminated

    monkeypatch.setattr(loop, "train", stopped)
    for rank in range(2):
        started(rank)
        ran = cgd("train", "data")
        assert ran.code == (130 if stop is KeyboardInterrupt else 143)
        assert ("stopped by" in ran.err) == (rank == 0) and ran.out == ""


def test_pictures_that_were_skipped_are_no_failure_to_a_launcher(cgd, started, monkeypatch):
    from pathlib import Path

    from cgdcli.reports import SkippedImage, TrainReport
    from cgdcli.training import loop

    report = TrainReport(Path("runs/a"), Path("runs/a/last.safetensors"), None, 1, 1.0, "train",
                         None, None, (SkippedImage("x.jpg", "is broken"),))  # fmt: skip
    monkeypatch.setattr(loop, "train", lambda *_, **options: report)
    assert cgd("train", "data").code == 3
    started(0)
    ran = cgd("train", "data")
    assert ran.code == 0 and "warning: skipped 1 picture" in ran.err
    started(1)
    assert cgd("train", "data").err == ""
