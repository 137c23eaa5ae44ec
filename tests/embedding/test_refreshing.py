"""An index is brought to what is found now, and nothing that was done is done twice."""

import os
import shutil
import sqlite3

import numpy as np
import pytest
import torch
from cli_toys import draw

from cgdcli import embed_images, search_images
from cgdcli.config import CGDConfig, EmbedConfig, SearchConfig, Transform
from cgdcli.engines.torch_engine import TorchEngine
from cgdcli.errors import DatasetError, MismatchError, OutputError
from cgdcli.index import builder as building
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD

SMALL = EmbedConfig(batch_size=2, workers=1, engine="torch")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))


@pytest.fixture
def imgs(tmp_path):
    for number in range(3):
        draw(tmp_path / f"imgs/red/{number}.png", "red", number)
        draw(tmp_path / f"imgs/green/{number}.png", "green", number)
    return tmp_path / "imgs"


@pytest.fixture
def embed(model, imgs):
    def run(name="f.npy", **options):
        config = options.pop("config", SMALL)
        return embed_images(imgs, imgs.parent / name, model=model, config=config, **options)

    return run


@pytest.fixture
def embedded(monkeypatch):
    """How many pictures the engine was given."""
    given = []
    real = TorchEngine.embed

    def counted(engine, pixels):
        given.append(len(pixels))
        return real(engine, pixels)

    monkeypatch.setattr(TorchEngine, "embed", counted)
    return given


def rows_by_path(file):
    with EmbeddingIndex.open(file) as index:
        return {picture.path: index.rows[row].tobytes() for row, picture in index.pictures()}


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "imgs")


def as_if_anew(embed, imgs):
    """The index is that of a fresh embedding but for the order of its rows."""
    embed("fresh.npy")
    assert rows_by_path(imgs.parent / "f.npy") == rows_by_path(imgs.parent / "fresh.npy")
    assert entries(imgs.parent) == ["f.npy", "f.sqlite", "fresh.npy", "fresh.sqlite"]
    return True


def test_the_same_again_embeds_nothing_and_writes_nothing(embed, imgs, embedded):
    embed()
    before = [(p.name, p.stat().st_mtime_ns, p.stat().st_ino) for p in imgs.parent.glob("f.*")]
    embedded.clear()
    report = embed()
    assert embedded == [] and (report.rows, report.embedded, report.labels) == (6, 0, 2)
    after = [(p.name, p.stat().st_mtime_ns, p.stat().st_ino) for p in imgs.parent.glob("f.*")]
    assert after == before


def test_only_what_is_new_or_changed_is_embedded_and_what_is_gone_leaves(embed, imgs, embedded):
    embed()
    draw(imgs / "blue/9.png", "blue", 9)
    draw(imgs / "red/1.png", "red", 77)
    os.utime(imgs / "red/1.png", ns=(1, 1))
    (imgs / "green/2.png").unlink()
    (imgs / "green/0.png").rename(imgs / "green/7.png")
    embedded.clear()
    report = embed()
    assert sum(embedded) == 2
    assert (report.rows, report.embedded, report.renamed, report.dropped) == (6, 2, 1, 2)
    assert as_if_anew(embed, imgs)


def test_rows_that_stay_keep_their_order_and_new_ones_follow(embed, imgs):
    embed()
    draw(imgs / "blue/9.png", "blue", 9)
    (imgs / "green/1.png").unlink()
    embed()
    with EmbeddingIndex.open(imgs.parent / "f.npy") as index:
        paths = [picture.path for _, picture in index.pictures()]
    assert paths == [
        *("green/0.png", "green/2.png", "red/0.png", "red/1.png", "red/2.png", "blue/9.png")
    ]


def test_verify_finds_what_size_and_time_hide(embed, imgs):
    embed()
    file = imgs / "red/0.png"
    data, status = bytearray(file.read_bytes()), file.stat()
    file.write_bytes(draw(imgs.parent / "other.png", "blue", 3).read_bytes()[: len(data)])
    (imgs.parent / "other.png").unlink()
    size = len(data)
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert embed().embedded == 0
    changed = embed(verify=True)
    assert changed.dropped == 1
    assert changed.embedded + len(changed.skipped) == 1


def test_rebuild_starts_over(embed, embedded):
    embed()
    embedded.clear()
    assert embed(rebuild=True).embedded == sum(embedded) == 6


def test_another_precision_is_refused(embed, imgs):
    embed()
    with sqlite3.connect(imgs.parent / "f.sqlite") as database:
        database.execute("UPDATE header SET value = '\"bf16\"' WHERE key = 'precision'")
    database.close()
    with pytest.raises(MismatchError, match="bf16") as caught:
        embed()
    assert "--rebuild" in caught.value.hint


def test_broken_pictures_are_tried_again_and_change_nothing_while_broken(embed, imgs):
    (imgs / "red/broken.png").write_bytes(b"no picture")
    assert [s.path for s in embed().skipped] == [str(imgs / "red/broken.png")]
    before = (imgs.parent / "f.sqlite").stat().st_ino
    again = embed()
    assert (len(again.skipped), again.rows) == (1, 6)
    assert (imgs.parent / "f.sqlite").stat().st_ino == before
    draw(imgs / "red/broken.png", "red", 30)
    mended = embed()
    assert (mended.skipped, mended.rows, mended.embedded) == ((), 7, 1)


def test_excluded_pictures_leave_the_index(embed, imgs):
    embed()
    report = embed(exclude=["green"])
    assert (report.rows, report.dropped, report.excluded) == (3, 3, 3)


def test_an_index_that_moved_with_its_pictures_is_refreshed(model, imgs, embed, embedded, tmp_path):
    embed()
    new = tmp_path / "elsewhere"
    new.mkdir()
    for name in ("imgs", "f.npy", "f.sqlite"):
        shutil.move(tmp_path / name, new / name)
    embedded.clear()
    draw(new / "imgs/red/9.png", "red", 9)
    report = embed_images(new / "imgs", new / "f.npy", model=model, config=SMALL)
    assert (report.rows, report.embedded, embedded) == (7, 1, [2])  # filled up
    with EmbeddingIndex.open(new / "f.npy") as index:
        assert all(index.file(row).is_file() for row in range(7))
        assert {picture.root for _, picture in index.pictures()} == {new / "imgs"}


# ---- stopped half-way


def stopping(monkeypatch, after, error):
    """`error` once so many batches have been embedded; every batch is committed."""
    monkeypatch.setattr(building, "SECONDS_BETWEEN_COMMITS", 0.0)
    real, count = TorchEngine.embed, [0]

    def embed(engine, pixels):
        count[0] += 1
        if count[0] > after:
            raise error
        return real(engine, pixels)

    monkeypatch.setattr(TorchEngine, "embed", embed)
    return lambda: monkeypatch.setattr(TorchEngine, "embed", real)


def test_ctrl_c_keeps_what_was_done_and_the_same_line_goes_on(embed, imgs, monkeypatch, embedded):
    whole = embed("whole.npy")
    go_on = stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    assert not (imgs.parent / "f.npy").exists()
    go_on()
    embedded.clear()
    report = embed()
    assert (report.continued, report.embedded, sum(embedded)) == (4, 2, 2)
    assert (report.rows, report.labels) == (whole.rows, whole.labels)
    assert (imgs.parent / "f.npy").read_bytes() == (imgs.parent / "whole.npy").read_bytes()
    assert entries(imgs.parent) == ["f.npy", "f.sqlite", "whole.npy", "whole.sqlite"]


def test_a_refresh_that_is_stopped_leaves_the_old_index_and_goes_on(embed, imgs, monkeypatch):
    embed()
    before = rows_by_path(imgs.parent / "f.npy")
    (imgs / "green/0.png").unlink()
    for number in range(4):
        draw(imgs / f"blue/{number}.png", "blue", number)
    go_on = stopping(monkeypatch, 1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    assert rows_by_path(imgs.parent / "f.npy") == before
    go_on()
    report = embed()
    assert (report.rows, report.embedded) == (9, 2)
    assert as_if_anew(embed, imgs)


def test_pictures_that_come_or_go_before_it_goes_on(embed, imgs, monkeypatch):
    go_on = stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    (imgs / "green/1.png").unlink()
    draw(imgs / "blue/1.png", "blue", 1)
    draw(imgs / "green/0.png", "green", 50)
    os.utime(imgs / "green/0.png", ns=(1, 1))
    go_on()
    embed()
    assert as_if_anew(embed, imgs)


def test_what_was_skipped_is_not_tried_again_when_it_goes_on(embed, imgs, monkeypatch):
    (imgs / "green/00.png").write_bytes(b"no picture")
    embed("whole.npy")
    go_on = stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    go_on()
    report = embed()
    assert [s.path for s in report.skipped] == [str(imgs / "green/00.png")]
    assert (imgs.parent / "f.npy").read_bytes() == (imgs.parent / "whole.npy").read_bytes()


def test_other_settings_do_not_go_on_with_it(embed, imgs, monkeypatch):
    go_on = stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    go_on()
    torch.manual_seed(1)
    other = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))
    with pytest.raises(MismatchError, match="unfinished") as caught:
        embed_images(imgs, imgs.parent / "f.npy", model=other, config=SMALL)
    assert "--rebuild" in caught.value.hint
    assert embed().continued == 4  # it is still there


def test_rebuild_starts_over_from_what_a_refresh_had_begun(embed, imgs, monkeypatch, embedded):
    embed()
    draw(imgs / "blue/1.png", "blue", 1)
    draw(imgs / "blue/2.png", "blue", 2)
    draw(imgs / "blue/3.png", "blue", 3)
    go_on = stopping(monkeypatch, 1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed()
    go_on()
    embedded.clear()
    assert embed(rebuild=True).embedded == 9


def test_a_stopped_rebuild_goes_on(embed, monkeypatch):
    embed()
    go_on = stopping(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed(rebuild=True)
    go_on()
    report = embed(rebuild=True)
    assert (report.continued, report.embedded) == (4, 2)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_folder_that_vanishes_costs_nothing(embed, imgs, monkeypatch, emptied):
    """As when a disk is unmounted: the folder is gone, or an empty place is left."""
    monkeypatch.setattr(building, "SECONDS_BETWEEN_COMMITS", 0.0)
    embed("whole.npy")
    away, real, count = imgs.parent / "away", TorchEngine.embed, [0]

    def unmounting(engine, pixels):
        count[0] += 1
        if count[0] == 1:
            imgs.rename(away)
            if emptied:
                imgs.mkdir()
        return real(engine, pixels)

    monkeypatch.setattr(TorchEngine, "embed", unmounting)
    monkeypatch.setattr("cgdcli.images.loading.READ_AHEAD_PER_WORKER", 2)
    with pytest.raises(DatasetError, match="is gone now") as caught:
        embed()
    assert "goes on" in caught.value.hint
    if emptied:
        imgs.rmdir()
    away.rename(imgs)
    report = embed()
    assert report.continued >= 2 and report.rows == 6
    assert (imgs.parent / "f.npy").read_bytes() == (imgs.parent / "whole.npy").read_bytes()


def test_a_picture_that_is_deleted_under_it_is_skipped(embed, imgs, monkeypatch):
    real = TorchEngine.embed

    def deleting(engine, pixels):
        (imgs / "red/2.png").unlink(missing_ok=True)
        return real(engine, pixels)

    monkeypatch.setattr(TorchEngine, "embed", deleting)
    monkeypatch.setattr("cgdcli.images.loading.READ_AHEAD_PER_WORKER", 2)
    report = embed()
    assert [(s.path, s.reason) for s in report.skipped] == [
        (str(imgs / "red/2.png"), "cannot be read: No such file or directory")
    ]
    assert report.rows == 5


def test_a_full_disk_keeps_what_was_done(embed, imgs, monkeypatch):
    monkeypatch.setattr(building, "SECONDS_BETWEEN_COMMITS", 0.0)
    embed("whole.npy")
    real, count = building.RowWriter.append, [0]

    def full(writer, rows):
        count[0] += 1
        if count[0] == 3:
            raise OSError(28, "No space left on device")
        real(writer, rows)

    monkeypatch.setattr(building.RowWriter, "append", full)
    with pytest.raises(OutputError, match="No space left"):
        embed()
    monkeypatch.setattr(building.RowWriter, "append", real)
    assert embed().continued == 4
    assert (imgs.parent / "f.npy").read_bytes() == (imgs.parent / "whole.npy").read_bytes()


def test_a_refreshed_index_is_searched_as_before(embed, imgs, model):
    embed()
    draw(imgs / "blue/9.png", "blue", 9)
    (imgs / "green/0.png").unlink()
    embed()
    (answer,) = search_images(
        imgs / "blue/9.png", imgs.parent / "f.npy", SearchConfig(k=1), model=model
    ).results
    assert answer.hits[0].path.endswith("blue/9.png")
    assert answer.hits[0].similarity == pytest.approx(1, abs=1e-6)
    assert np.load(imgs.parent / "f.npy").shape == (6, 8)
