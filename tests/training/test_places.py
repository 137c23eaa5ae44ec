"""Where a run keeps decoded pictures: said, the same result, gone at its end."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_loop import CONFIG, metrics, same, tensors

from cgdcli.config import Cache
from cgdcli.errors import OutputError
from cgdcli.images.cache import Place
from cgdcli.images.filestore import NAME
from cgdcli.reports import StartReport
from cgdcli.training import places
from cgdcli.training.loop import Trainer, train
from cgdcli.training.places import choose_place, open_store, place_words

SMALL = replace(CONFIG, epochs=2, evaluations=1)
FILE = NAME.format("")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Large enough JPEGs to be reduced."""
    folder = tmp_path_factory.mktemp("data")
    for c in range(3):
        (folder / f"c{c}").mkdir()
        for i in range(3):
            rng = np.random.default_rng([c, i])
            colours = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
            picture = Image.fromarray(colours).resize((240, 200))
            picture.save(folder / f"c{c}" / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A run that keeps no pictures."""
    runs = tmp_path_factory.mktemp("runs")
    yield train(data, replace(SMALL, cache=Cache.none), runs=runs, name="one").run
    shutil.rmtree(runs)


def start(reports):
    report = next(reports)
    assert isinstance(report, StartReport)
    return " ".join(report.notes)


def test_memory_changes_nothing(data, plain, tmp_path):
    run = train(data, replace(SMALL, cache=Cache.memory), runs=tmp_path, name="one").run
    assert same(tensors(run / "last.safetensors"), tensors(plain / "last.safetensors"))
    assert metrics(run) == metrics(plain)
    shutil.rmtree(tmp_path)


def test_a_file_changes_nothing_and_is_taken_up_again(data, plain, tmp_path):
    """Stopped in the second epoch with some pictures kept, then resumed."""
    config = replace(SMALL, cache=Cache.disk)
    reports = Trainer(data, config, runs=tmp_path, name="one", resume=False).reports()
    assert "kept in a file of the run" in start(reports)
    while getattr(next(reports), "epoch", 0) < 2:
        pass
    reports.close()
    kept = (tmp_path / "one" / FILE).stat()
    assert kept.st_size > 9 * 3 * 64 * 64
    trainer = Trainer(None, None, runs=tmp_path, name="one", resume=True)
    reports = trainer.reports()
    next(reports)
    assert len(trainer.reader.pictures.store._entries) == 9
    list(reports)
    run = tmp_path / "one"
    assert not (run / FILE).exists()
    assert same(tensors(run / "last.safetensors"), tensors(plain / "last.safetensors"))
    assert metrics(run) == metrics(plain)
    shutil.rmtree(tmp_path)


def test_another_place_on_resume_removes_the_file_at_the_end(data, plain, tmp_path):
    config = replace(SMALL, cache=Cache.disk)
    reports = Trainer(data, config, runs=tmp_path, name="one", resume=False).reports()
    start(reports), next(reports), next(reports)
    reports.close()
    assert (tmp_path / "one" / FILE).exists()
    run = train(runs=tmp_path, name="one", resume=True, changes={"cache": "none"}).run
    assert not (run / FILE).exists() and metrics(run) == metrics(plain)
    shutil.rmtree(tmp_path)


def test_what_does_not_fit_is_said(data, tmp_path, monkeypatch, caplog):
    from cgdcli.datasets.folders import read_class_folders

    table = read_class_folders(data)
    monkeypatch.setattr(places, "free_memory", lambda: 1_000)
    monkeypatch.setattr(places, "_free_disk", lambda run: 1_000)

    def place(cache):
        config = replace(CONFIG, cache=cache)
        found = choose_place(config, table, 64, tmp_path / "run")
        return found.kind, place_words(found, config)

    kind, words = place(Cache.auto)
    assert kind is Cache.none and "do not fit" in words
    kind, words = place(Cache.none)
    assert kind is Cache.none and "do not fit" not in words
    with pytest.raises(OutputError, match="--cache disk: the pictures take"):
        place(Cache.disk)
    assert place(Cache.memory)[0] is Cache.memory and "GB are free" in caplog.text


def test_a_run_that_is_not_there_yet_knows_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=7))
    assert places._free_disk(tmp_path / "a/b/run") == 7
    (tmp_path / FILE).write_bytes(bytes(1_000))
    assert places._free_disk(tmp_path) == 1_007
    assert place_words(Place(Cache.disk, 3 * 10**9), CONFIG).count("3.0 GB") == 1


def test_processes_of_one_machine_share_what_is_free(data, tmp_path, monkeypatch):
    from cgdcli.datasets.folders import read_class_folders

    table = read_class_folders(data)
    enough = 4 * 9 * 4 * 77 * 64  # a quarter of it holds nine pictures of 240 x 200 px at 64
    monkeypatch.setattr(places, "free_memory", lambda: enough)
    monkeypatch.setattr(places, "_free_disk", lambda run: 0)
    assert choose_place(CONFIG, table, 64, tmp_path).kind is Cache.memory
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_place(CONFIG, table, 64, tmp_path).kind is Cache.none


def test_a_machine_that_does_not_see_the_folder_decodes_anew(tmp_path, caplog):
    place = Place(Cache.disk, 1)
    assert open_store(place, tmp_path / "gone", 64, rank=3) is None
    assert "is not on this machine" in caplog.text
    with pytest.raises(OutputError, match="cannot be kept"):
        open_store(place, tmp_path / "gone", 64)
    store = open_store(place, tmp_path, 64, rank=3)
    assert store.path.name == "pictures3.cache"
