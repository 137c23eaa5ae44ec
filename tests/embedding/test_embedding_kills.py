"""Embedding killed by SIGKILL, at random moments and between any two renames, loses nothing."""

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_toys import draw

from cgdcli.config import CGDConfig, EmbedConfig, Transform, VectorConfig
from cgdcli.errors import IndexFileError
from cgdcli.index.store import EmbeddingIndex

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and forkserver")

FRESH = ("fresh", "fresh-whitened")
EACH = 40


def embed(folder: str, output: str, dies_at: int | None = None, whiten: bool = False) -> None:
    """What a person does, before and after a kill; in a process of its own.

    Args:
        whiten: to half the columns, in float16, of pictures and their mirror images.
        dies_at: which renaming of a file is the last thing that it does.
    """
    torch.set_num_threads(1)
    from cgdcli.embedding import embed_images
    from cgdcli.index import builder

    builder.SECONDS_BETWEEN_COMMITS = 0.01
    torch.manual_seed(0)
    model = torch.nn.Module.eval(_model())
    if dies_at is not None:
        real, count = Path.replace, [0]

        def replace(path, target):
            real(path, target)
            count[0] += 1
            if count[0] == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        Path.replace = replace
    vectors = VectorConfig(True, (1.0,), True, 8, "float16") if whiten else VectorConfig()
    config = EmbedConfig(4, 1, engine="torch", vectors=vectors)
    embed_images(folder, output, model=model, config=config)


def _model():
    from cgdcli.model.cgd import CGD

    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=16))


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with torch already loaded: fifty starts cost seconds, not minutes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "cgdcli.embedding"])
    return context


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    for label in ("red", "green"):
        for number in range(EACH):
            draw(folder / f"imgs/{label}/{number:03d}.png", label, number)
    (folder / "imgs/green/005.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def grown(folder, processes):
    """The index of the folder before, and the same folder with pictures new, gone and renamed.

    And the same whitened."""
    run(processes, folder / "imgs", folder / "old.npy")
    run(processes, folder / "imgs", folder / "old-whitened.npy")
    imgs = folder / "imgs"
    for number in range(EACH):
        draw(imgs / f"blue/{number:03d}.png", "blue", number)
    for number in range(0, EACH, 3):
        (imgs / f"red/{number:03d}.png").unlink()
    (imgs / "red/001.png").rename(imgs / "red/renamed.png")
    for kind in ("", "-whitened"):
        copy(folder / f"old{kind}.npy", folder / f"refreshed{kind}.npy")
        run(processes, imgs, folder / f"refreshed{kind}.npy")
        run(processes, imgs, folder / f"fresh{kind}.npy")
    return folder


def old_of(refreshed):
    return refreshed.with_name(refreshed.name.replace("refreshed", "old"))


@pytest.fixture(scope="module")
def longest(grown, processes):
    """Seconds within which a kill comes: most of what the whole takes, so that on a busy machine,
    too, something is done before some of them."""
    started = time.monotonic()
    run(processes, grown / "imgs", grown / "timed.npy")
    return max(1.2, 0.9 * (time.monotonic() - started))


def copy(source, target):
    for suffix in (".npy", ".sqlite"):
        shutil.copy(source.with_suffix(suffix), target.with_suffix(suffix))


def run(processes, imgs, output, patience=None, dies_at=None):
    """Seconds of patience, then SIGKILL; None to wait. Whether it was killed."""
    whiten = output.stem.endswith("whitened")
    child = processes.Process(target=embed, args=(str(imgs), str(output), dies_at, whiten))
    child.start()
    child.join(patience)
    if child.is_alive():
        child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def table(file):
    """All that is said of rows, by row, and of skipped pictures."""
    database = sqlite3.connect(file.with_suffix(".sqlite"))
    rows = database.execute(
        "SELECT row, absolute, path, label, size, mtime_ns, sha256 FROM pictures "
        "JOIN roots ON roots.id = pictures.root ORDER BY row"
    ).fetchall()
    skipped = database.execute("SELECT path, reason FROM skipped ORDER BY path").fetchall()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    projection = []
    if "projection" in tables:
        projection = database.execute("SELECT * FROM projection ORDER BY name").fetchall()
    assert bool(projection) == file.stem.endswith("whitened")
    database.close()
    return rows, skipped, projection


def same(one, other):
    assert one.read_bytes() == other.read_bytes()
    assert table(one) == table(other)
    hidden = [path.name for path in one.parent.iterdir() if path.name.startswith(f".{one.stem}.")]
    assert hidden == [] and not one.with_name(one.name + ".lock").exists()
    return True


def valid(file, sizes):
    """What a reader sees: an index, old or new, or none yet."""
    try:
        with EmbeddingIndex.open(file) as index:
            assert len(index) in sizes
    except IndexFileError:
        assert 0 in sizes and not (file.exists() and file.with_suffix(".sqlite").exists())
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("fresh", 25), ("refreshed", 25), ("fresh-whitened", 12), ("refreshed-whitened", 6)],
)
def test_kills_at_random_moments(grown, processes, longest, kind, wanted):
    """Of a first embedding and of a refresh that also drops rows: the same files, byte for byte.

    Whitened, the projection is the same, too: learned when all rows are there, or frozen.
    """
    chance = random.Random(kind)
    output, whole = grown / f"killed-{kind}.npy", grown / f"{kind}.npy"
    rows = len(table(whole)[0])
    sizes = {rows, 0 if kind in FRESH else len(table(old_of(whole))[0])}
    kills = finished = 0
    while kills < wanted or finished < 2:
        if kind not in FRESH:
            copy(old_of(whole), output)
        while run(processes, grown / "imgs", output, chance.uniform(0.02, longest)):
            kills += 1
            assert valid(output, sizes)
        assert same(output, whole)
        finished += 1
        for suffix in (".npy", ".sqlite"):
            output.with_suffix(suffix).unlink()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fresh", "refreshed", "fresh-whitened"])
def test_a_kill_after_any_renaming(grown, processes, kind):
    output, whole = grown / f"renamed-{kind}.npy", grown / f"{kind}.npy"
    rows = len(table(whole)[0])
    sizes = {rows, 0 if kind in FRESH else len(table(old_of(whole))[0])}
    seen = set()
    for dies_at in range(1, 10):
        if kind not in FRESH:
            copy(old_of(whole), output)
        died = run(processes, grown / "imgs", output, dies_at=dies_at)
        assert valid(output, sizes)
        seen.add(len(EmbeddingIndex.open(output)) if output.exists() else 0)
        run(processes, grown / "imgs", output)
        assert same(output, whole)
        for suffix in (".npy", ".sqlite"):
            output.with_suffix(suffix).unlink()
        if not died:
            break
    assert dies_at == 5  # begun, done, rows, table: four renamings
    assert seen == sizes
