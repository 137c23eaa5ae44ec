"""A disk that is full, really: nothing that was kept is lost, and the run goes on once there is
room."""

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from test_loop import RESNET, draw, metrics, same, tensors

from cgdcli.errors import OutputError
from cgdcli.training.loop import train
from cgdcli.weights.header import read_header

SMALL = replace(RESNET, epochs=2, evaluations=1)
MB = 1_000_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    yield train(data, SMALL, runs=runs, name="one").run
    shutil.rmtree(runs)


@pytest.fixture
def disk(tmp_path):
    """Makes a file system of so many bytes at a folder, or another size of it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting wants root on Linux; see the tests of the size of files")
    place = tmp_path / "disk"
    place.mkdir()

    def size(count):
        again = "remount," if os.path.ismount(place) else ""
        options = ["-t", "tmpfs", "-o", f"{again}size={count // 4096 * 4096}", "tmpfs", place]
        done = subprocess.run(["mount", *options], check=False, capture_output=True)
        if done.returncode:
            pytest.skip("no file system can be mounted here")
        return place

    yield size
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def file_size():
    """Limits how large a file may become, as a disk quota does; lifted at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(count):
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_whole(run):
    """Every file of it is one that was finished."""
    assert not list(run.glob(".*")) and not list(run.glob("*.lock"))
    torch.load(run / "resume.pt", weights_only=True)
    for file in run.glob("*.safetensors"):
        read_header(file)
        assert all(value.isfinite().all() for value in tensors(file).values())


def check_goes_on(runs, whole):
    run = train(runs=runs, name="one", resume=True).run
    assert same(tensors(run / "last.safetensors"), tensors(whole / "last.safetensors"))
    assert metrics(run) == metrics(whole)
    assert (run / "result.json").is_file() and (run / "report.html").is_file()


# At its largest the run has 45 MB of weights, a state of 180 MB and the next one of 180 MB. So full
# a disk stops it at the first state with an optimizer, and at the second one.
@pytest.mark.parametrize(("room", "epochs"), [(100, 0), (310, 1)])
def test_a_disk_that_fills_up_while_training(disk, data, whole, room, epochs, caplog):
    place = disk(room * MB)
    with pytest.raises(OutputError, match=r"resume.pt.*No space left") as caught:
        train(data, SMALL, runs=place, name="one")
    assert f"cgd train --resume --name one --runs {place}" in caught.value.hint
    assert "MB free" in caplog.text
    check_whole(place / "one")
    assert torch.load(place / "one/resume.pt", weights_only=True)["epoch"] == epochs
    disk(600 * MB)
    check_goes_on(place, whole)


def test_a_disk_that_is_full_at_the_start_leaves_nothing(disk, data):
    place = disk(20 * MB)
    with pytest.raises(OutputError, match=r"resume.pt.*No space left") as caught:
        train(data, SMALL, runs=place / "runs", name="one")
    assert "start again" in caught.value.hint and list(place.iterdir()) == []
    (place / "filler").write_bytes(bytes(shutil.disk_usage(place).free))
    with pytest.raises(OutputError, match=r"config.toml.*No space left"):
        train(data, SMALL, runs=place / "runs", name="one")
    assert [file.name for file in place.iterdir()] == ["filler"]


def test_a_full_disk_where_weights_are_kept(disk, data, whole, monkeypatch):
    """Full between the state and the next weights: the old ones stay."""
    place = disk(600 * MB)
    reports, kept = [], {}

    def fill(report):
        reports.append(report)
        if getattr(report, "epoch", None) == 1 and hasattr(report, "train_seconds"):
            kept["last"] = tensors(place / "one/last.safetensors")
            (place / "filler").write_bytes(bytes(shutil.disk_usage(place).free))

    with pytest.raises(OutputError, match=r"last.safetensors.*No space left"):
        train(data, SMALL, runs=place, name="one", on_report=fill)
    check_whole(place / "one")
    assert same(tensors(place / "one/last.safetensors"), kept["last"])
    (place / "filler").unlink()
    check_goes_on(place, whole)


@pytest.mark.parametrize(
    ("limit", "file"),
    [(100 * MB, "resume.pt"), (10 * MB, "resume.pt"), (100, "config.toml")],
)
def test_a_file_that_may_not_grow(file_size, data, whole, tmp_path, limit, file):
    file_size(limit)
    with pytest.raises(OutputError, match=f"{file}.*too large"):
        train(data, SMALL, runs=tmp_path, name="one")
    file_size(resource.RLIM_INFINITY)
    if limit < 45 * MB:  # not even the first state could be written
        assert list(tmp_path.iterdir()) == []
        return
    check_whole(tmp_path / "one")
    check_goes_on(tmp_path, whole)
    shutil.rmtree(tmp_path)


def test_a_page_that_cannot_be_written_costs_a_warning(data, tmp_path, caplog, monkeypatch):
    from cgdcli.judging import report

    def full(*_):
        raise OutputError("cannot write `report.html`: No space left on device", hint="x")

    monkeypatch.setattr(report, "write_text", full)
    run = train(data, replace(SMALL, epochs=1), runs=tmp_path, name="one").run
    assert "report.html was not written: cannot write" in caplog.text
    assert (run / "result.json").is_file()
    shutil.rmtree(tmp_path)
