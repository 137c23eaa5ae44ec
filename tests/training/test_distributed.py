"""Several real processes train as one: files, reports, failures, stopping and going on."""

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_toys import contents
from gang import gang, start
from test_loop import RESNET, draw, metrics, tensors

from cgdcli.config import CGDConfig, Precision, TrainConfig, Transform
from cgdcli.datasets.table import ImageTable
from cgdcli.errors import ConfigError, DatasetError, OutputError, TrainingError
from cgdcli.launch import Launch
from cgdcli.model.cgd import CGD
from cgdcli.reports import EpochReport
from cgdcli.training import distributed
from cgdcli.training.batches import shared_batches
from cgdcli.training.distributed import Processes, joined
from cgdcli.training.learner import Learner
from cgdcli.training.loop import Trainer, train

# Given weights keep their statistics: from scratch, rounding alone would grow without bound.
# A margin wider than any distance, so that no hinge of the triplet's ends near 0, where sums in
# another order tell.
SHORT = replace(RESNET, epochs=2, batch_size=7, learning_rate=1e-4, margin=3.0)


# Parts


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_parts_are_everything_once_and_even(size):
    for count in (*range(20), 64, 130):
        parts = [Processes(Launch(rank, size)).part(count) for rank in range(size)]
        assert [place for part in parts for place in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def table(classes, each=4):
    labels = tuple(f"{i % classes:02d}" for i in range(classes * each))
    return ImageTable(tuple(Path(str(i)) for i in range(len(labels))), labels)


@pytest.mark.parametrize(
    ("batch_size", "classes", "size", "words"),
    [(8, 9, 8, "--batch-size 9 or more"), (64, 3, 12, "at most 11 processes, or raise --per")],
)
def test_more_processes_than_pictures_in_a_step_are_refused(batch_size, classes, size, words):
    config = TrainConfig(batch_size=batch_size, per_class=4)
    with pytest.raises(ConfigError, match=f"too few for {size} processes") as caught:
        shared_batches(table(classes), config, batch_size, Processes(Launch(0, size)))
    assert words in caught.value.hint
    fewer = Processes(Launch(0, size - 1))
    batches = shared_batches(table(classes), config, batch_size, fewer)
    assert min(map(len, batches.epoch(1))) >= fewer.size


# What they say to each other


def talk():
    """Everything that needs no network, in one start of three processes."""
    said = {}
    with joined() as processes:
        number = processes.rank
        said["gathered"] = processes.gather(f"from {number}")
        said["on first"] = processes.gather_on_first(number)
        said["sizes"] = processes.sizes(10 * number)
        said["from the first"] = processes.on_first(lambda: [os.getpid(), number])
        said["pids"] = processes.gather(os.getpid())
        layer = torch.nn.BatchNorm1d(4)
        torch.nn.init.constant_(layer.weight, number)
        processes.spread(layer)
        said["weight"] = layer.weight.tolist()

        def fails():
            if number:
                raise DatasetError(f"nothing in {number}", hint="look")
            return "fine"

        said["together"] = caught(lambda: processes.together(fails))
        said["first fails"] = caught(lambda: processes.on_first(refuse))
        said["together again"] = processes.together(lambda: number)
    return said


def refuse():
    raise OutputError("it is full", hint="make room")


def caught(do):
    try:
        do()
    except Exception as error:
        return caught_as(error)
    return None


def caught_as(error):
    return type(error).__name__, error.what, error.hint, error.everywhere


def test_what_one_knows_all_know_and_where_one_fails_all_fail(tmp_path):
    said = gang(3, talk, tmp_path)
    for rank, one in enumerate(said):
        assert one["gathered"] == ["from 0", "from 1", "from 2"]
        assert one["on first"] == ([] if rank else [0, 1, 2])
        assert one["sizes"] == (0, 10, 20)
        assert one["from the first"] == [one["pids"][0], 0]
        assert one["weight"] == [0, 0, 0, 0]
        kind, what, hint, everywhere = one["together"]
        assert (kind, hint, everywhere) == ("DatasetError", "look", True)
        assert what.startswith("nothing in 1 (process 1 of 3, on ")  # the lowest rank's
        assert one["first fails"] == ("OutputError", "it is full", "make room", True)
        assert one["together again"] == rank


# Steps


NETWORK = CGDConfig(embedding_dim=12, classes=4, transform=Transform(image_size=32))


def steps(count, folder):
    """Four steps at once, and two, a new learner with their state, two more."""
    config = TrainConfig(image_size=32, embedding_dim=12, warm=0.2, learning_rate=1e-3)
    with joined() as processes:

        def learner():
            torch.manual_seed(0)
            made = Learner(CGD(NETWORK), config, steps=count, precision=Precision.fp32,
                           processes=processes)  # fmt: skip
            made.to_training()
            return made

        def step(made, number):
            generator = torch.Generator().manual_seed(number)
            pixels = torch.randint(0, 256, (9, 32, 32, 3), generator=generator).byte()
            part = list(processes.part(9))
            made.step(pixels[part], torch.tensor([i % 4 for i in part]), number)

        whole, first, second = learner(), learner(), learner()
        for number in range(count):
            step(whole, number)
        for number in range(count // 2):
            step(first, number)
        second.restore(first.state())
        for number in range(count // 2, count):
            step(second, number)
        flat = [
            torch.cat([t.flatten().float() for t in made.model.state_dict().values()])
            for made in (whole, second)
        ]
        return torch.equal(*flat), float(flat[0].double().sum())


@pytest.mark.slow
def test_a_restored_state_goes_on_bit_for_bit_with_three_processes(tmp_path):
    """Three: of two, sums do not depend on the order. And all three hold the same weights."""
    found = gang(3, steps, tmp_path, 4, tmp_path)
    assert [same for same, _ in found] == [True] * 3
    assert len({total for _, total in found}) == 1


# Runs

BROKEN = [*(f"train/c0{c}/1.png" for c in range(0, 10, 2)), "test/c21/2.png"]


def to_the_end(data, config, runs, name, resume=False):
    """A run's reports in this process; what its clock says of them is no part of it."""
    seen = []
    if resume:
        report = train(runs=runs, name=name, resume=True, on_report=seen.append)
    else:
        report = train(data, config, runs=runs, name=name, on_report=seen.append)
    return report, [item for item in seen if isinstance(item, EpochReport)]


def to_the_end_and_half_way(data, config, runs):
    """Two runs: a whole one, and one of which a signal ends the last process in an epoch."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    found = to_the_end(data, config, runs, "whole")
    with joined() as processes:
        trainer = Trainer(data, config, runs=runs, name="half", resume=False, processes=processes)
        ended = None
        try:
            for report in trainer.reports():
                if getattr(report, "epoch", 0) == 2 and processes.rank == 1:
                    signal.raise_signal(signal.SIGINT)
        except (KeyboardInterrupt, TrainingError) as error:
            ended = str(error) or type(error).__name__
    return *found, ended


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "trunk.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten classes, of which two are held out, and a test split; some pictures are broken."""
    folder = tmp_path_factory.mktemp("data")
    draw(folder / "train", 10)
    draw(folder / "test", 3, first=20)
    for broken in BROKEN:
        (folder / broken).write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def runs(data, weights, tmp_path_factory):
    """Folder of the runs of one process and of two, and what each process of the two reported."""
    folder = tmp_path_factory.mktemp("runs")
    config = replace(SHORT, backbone_weights=str(weights))
    one = to_the_end(data, config, folder, "one")
    two = gang(2, to_the_end_and_half_way, folder / "said", data, config, folder)
    return folder, one, two


def near(one, other):
    """Two checkpoints of the same run, as near as sums in another order let them be."""
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys()
    for part in ("backbone.", "branches.", "classifier."):
        names = [n for n in one if n.startswith(part) and one[n].is_floating_point()]
        a, b = (torch.cat([t[n].flatten() for n in names]) for t in (one, other))
        # 1.0e-4 on an EPYC without AVX-512; test_joint compares gradients in float64.
        assert (a - b).norm() < 5e-4 * b.norm(), part
    return True


def same_figures(one, other):
    """Rows of metrics.csv: losses nearly, what was judged to the last digit."""
    for row, wanted in zip(metrics(one), metrics(other), strict=True):
        for name, value in wanted.items():
            if name.startswith(("recall", "is_best", "epoch", "learning")):
                assert row[name] == value, name
            else:
                assert float(row[name] or 0) == pytest.approx(float(value or 0), rel=1e-3), name
    return True


def test_two_processes_end_where_one_does(runs):
    folder, (report, _), _ = runs
    assert near(folder / "whole/last.safetensors", folder / "one/last.safetensors")
    assert same_figures(folder / "whole", folder / "one")
    for ran in report, *(two[0] for two in runs[2]):
        assert ran.test.recall == report.test.recall
        assert ran.test.map_at_r == pytest.approx(report.test.map_at_r, rel=1e-6)
        assert (ran.best_epoch, ran.judged_on) == (report.best_epoch, "held-out classes")


def test_what_is_judged_before_training_is_the_same_to_the_last_bit(runs):
    _, (_, alone), two = runs
    for _, epochs, _ in two:
        assert epochs[0].evaluation == alone[0].evaluation


def test_every_process_reports_the_same(runs):
    two = runs[2]
    assert two[0][0] == two[1][0]
    for one, other in zip(two[0][1], two[1][1], strict=True):
        clock = {"images_per_second": None, "train_seconds": 0.0}
        assert replace(one, **clock) == replace(other, **clock)


def test_pictures_that_any_process_skipped_are_reported(runs, data):
    _, (alone, _), two = runs
    broken = {image.path for image in alone.skipped}
    assert broken == {str(data / path) for path in BROKEN}
    for report, *_ in two:
        assert {image.path for image in report.skipped} == broken
        assert all(image.reason for image in report.skipped)


def test_the_folder_of_a_run_is_the_same(runs):
    folder = runs[0]
    assert contents(folder / "whole").keys() == contents(folder / "one").keys()


def test_a_signal_to_one_process_stops_all_after_the_same_step(runs):
    folder, _, two = runs
    (*_, first), (*_, second) = two
    assert first.startswith("the run was told to stop") and "--resume" in first
    assert second == "KeyboardInterrupt"
    state = torch.load(folder / "half/resume.pt", weights_only=True)
    assert state["epoch"] == 1 and state["partial"]["steps"] == 1


@pytest.mark.parametrize("size", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(runs, size, tmp_path):
    folder = runs[0]
    shutil.copytree(folder / "half", tmp_path / "half")
    if size == 1:
        report, _ = to_the_end(None, None, tmp_path, "half", True)
    else:
        (report, _), *_ = gang(
            size, to_the_end, tmp_path / "said", None, None, tmp_path, "half", True
        )
    assert near(tmp_path / "half/last.safetensors", folder / "one/last.safetensors")
    assert same_figures(tmp_path / "half", folder / "one")
    assert report.test.recall == runs[1][0].test.recall
    assert len(report.skipped) == len(BROKEN)


def in_a_folder_of_its_own(data, config, folder):
    """Machines without a shared folder: each has the data, the first one alone the weights."""
    os.chdir(folder / os.environ["RANK"])
    if os.environ["RANK"] == "2":  # whose environment says something else
        config = replace(config, epochs=3, batch_size=5, seed=1)
    report = train(data, config, runs="runs", name="run")
    return report, sorted(path.name for path in Path().iterdir())


def test_the_first_process_alone_reads_weights_and_writes(weights, tmp_path):
    """And without test pictures; of three processes' two a step, one has only broken ones."""
    data = draw(tmp_path / "data", 3, each=2)
    for file in (data / "c01").iterdir():
        file.write_bytes(b"no picture")
    for rank in "012":
        (tmp_path / rank).mkdir()
    shutil.copy(weights, tmp_path / "0/trunk.pth")
    config = replace(RESNET, epochs=1, batch_size=6, backbone_weights="trunk.pth")
    ends = gang(3, in_a_folder_of_its_own, tmp_path / "said", data, config, tmp_path)
    assert [there for _, there in ends] == [["runs", "trunk.pth"], [], []]
    report = ends[0][0]
    assert all(one == report for one, _ in ends)
    assert report.test is None and report.judged_on == "train"
    assert report.evaluation.queries == 4 and len(report.skipped) == 2
    assert (tmp_path / "0/runs/run/report.html").is_file()


# What goes wrong


def end(data, config, runs, folder, faults):
    """How `train` ends in this process, and how many seconds after another one's fault."""
    fault, step = faults.get(os.environ["RANK"]), Learner.step
    distributed._SECONDS_TO_A_SIGNAL = 0.1  # nobody will send one

    def faulty(self, pixels, labels, number, sizes):
        if number == 2 and fault:
            (folder / "fault").touch()
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("no more of it")
        return step(self, pixels, labels, number, sizes)

    Learner.step = faulty
    try:
        return train(data, config, runs=runs, name="run")
    except Exception as error:
        return caught_as(error), time.time() - (folder / "fault").stat().st_mtime


@pytest.mark.parametrize(("rank", "fault"), [(0, "killed"), (1, "raises")])
def test_where_one_process_ends_the_others_end_soon(data, tmp_path, rank, fault):
    runs, faults = tmp_path / "runs", {str(rank): fault}
    members = start(2, end, tmp_path / "said", data, RESNET, runs, tmp_path, faults)
    for member in members:
        member.join(60)
    assert members[1 - rank].exitcode == 0
    (kind, what, _, everywhere), seconds = torch.load(
        tmp_path / f"said/{1 - rank}.pt", weights_only=False
    )
    assert (kind, what) == ("TrainingError", "another process of this run has ended")
    assert everywhere and seconds < 20


def other_folders(one, other, config, runs):
    return caught(lambda: train(one if os.environ["RANK"] == "0" else other, config, runs=runs))


def test_processes_that_see_other_pictures_are_refused_before_there_is_a_run(data, tmp_path):
    other = shutil.copytree(data, tmp_path / "other")
    (other / "train/c03/1.png").unlink()
    runs = tmp_path / "runs"
    for kind, what, hint, everywhere in gang(
        2, other_folders, tmp_path / "said", data, other, SHORT, runs
    ):
        assert kind == "MismatchError" and "process 1 finds other pictures" in what
        assert everywhere and "every machine" in hint
    assert not runs.exists()
