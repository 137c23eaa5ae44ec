"""What an index is: its rows, its pictures and its model, damaged ones too; a data base's parts."""

import hashlib
import os
import shutil
import sqlite3

import numpy as np
import pytest
import torch
from reference import state_dict

from cgdcli.conversion import convert_weights
from cgdcli.errors import ConfigError, IndexFileError
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.inspection import compare_files, inspect_file
from cgdcli.weights.header import read_header

SG = "resnet18_SG_256_21"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """old.pth and new.safetensors, converted from it; half.safetensors, of other values."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state_dict(SG), folder / "old.pth")
    halved = {n: v.half() if v.is_floating_point() else v for n, v in state_dict(SG).items()}
    torch.save(halved, folder / "half.pth")
    convert_weights(folder / "old.pth", folder / "new.safetensors")
    convert_weights(folder / "half.pth", folder / "half.safetensors")
    yield folder
    shutil.rmtree(folder)


def unit(count, dim=8):
    rows = np.random.default_rng(5).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_index(folder, *, labels=("a", "a", "b", "b"), model=None, name="feats", rows=None):
    """Four files below `folder/imgs`, an index of them, the model recorded as `model` says."""
    root = folder / "imgs"
    root.mkdir(exist_ok=True)
    pictures = []
    for number, label in enumerate(labels):
        file = root / f"{number}.png"
        if not file.exists():
            file.write_bytes(b"picture " * (number + 1))
        state = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        pictures.append(Picture(root, file.name, label, state.st_size, state.st_mtime_ns, digest))
    described = {"source": "resnet18", "fingerprint": "f" * 64, "config": {}} | (model or {})
    rows = unit(len(labels)) if rows is None else rows
    with IndexBuilder(folder / f"{name}.npy", rows.shape[1]) as builder:
        builder.append(rows, pictures)
        builder.finish(
            IndexHeader(
                len(rows), rows.shape[1], described, "torch", "fp32", [("S", 0, 4), ("G", 4, 8)],
                [str(root)],
            )
        )  # fmt: skip
    return folder / f"{name}.npy"


def kinds(report):
    return {anomaly.kind: anomaly for anomaly in report.anomalies}


def test_a_sound_index(tmp_path):
    report = inspect_file(make_index(tmp_path), verify=True)
    assert report.anomalies == () and report.refusal is None and report.notes == ()
    assert report.facts["pictures"] == {
        "there": 4, "gone": 0, "changed": 0, "perhaps_changed": 0,
    }  # fmt: skip


def test_pictures_gone_changed_and_touched(tmp_path):
    index = make_index(tmp_path)
    images = tmp_path / "imgs"
    (images / "0.png").unlink()
    (images / "1.png").write_bytes(b"another size")
    os.utime(images / "2.png", ns=(1, 1))
    other = (images / "3.png").read_bytes()[::-1]
    (images / "3.png").write_bytes(other)
    os.utime(images / "3.png", ns=(1, 1))
    quick = kinds(inspect_file(index))
    assert {kind: anomaly.count for kind, anomaly in quick.items()} == {
        "picture gone": 1,
        "picture changed": 1,
        "picture perhaps changed": 2,
    }
    assert quick["picture gone"].entry == str(images / "0.png")
    assert "size" in quick["picture changed"].detail
    assert "--verify" in quick["picture perhaps changed"].detail
    sure = kinds(inspect_file(index, verify=True))
    assert set(sure) == {"picture gone", "picture changed"}
    assert sure["picture changed"].count == 2 and "3.png" in sure["picture changed"].detail


def test_only_reading_finds_what_size_and_time_hide(tmp_path):
    index = make_index(tmp_path)
    file = tmp_path / "imgs/3.png"
    before = file.stat().st_mtime_ns
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before, before))
    assert inspect_file(index).anomalies == ()
    assert kinds(inspect_file(index, verify=True))["picture changed"].entry == str(file)


def test_an_index_moves_with_its_pictures_and_root_names_another_place(tmp_path):
    (tmp_path / "here").mkdir()
    make_index(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert inspect_file(tmp_path / "there/feats.npy").anomalies == ()
    shutil.move(tmp_path / "there/imgs", tmp_path / "pictures")
    assert kinds(inspect_file(tmp_path / "there/feats.npy"))["picture gone"].count == 4
    report = inspect_file(tmp_path / "there/feats.npy", root=tmp_path / "pictures")
    assert report.anomalies == ()


def test_rows_without_label_are_odd_only_beside_others(tmp_path):
    report = inspect_file(make_index(tmp_path, labels=("a", None, "b", None)))
    (anomaly,) = report.anomalies
    assert (anomaly.kind, anomaly.count) == ("no label", 2) and "1.png" in anomaly.detail
    (tmp_path / "flat").mkdir()
    assert inspect_file(make_index(tmp_path / "flat", labels=(None, None))).anomalies == ()


def test_the_model_of_an_index(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fingerprint = read_header(weights / "new.safetensors").metadata["fingerprint"]
    recorded = {"path": str(tmp_path / "m.safetensors"), "fingerprint": fingerprint}
    index = make_index(tmp_path, model=recorded)
    gone = kinds(inspect_file(index))["model gone"]
    assert gone.entry == recorded["path"]
    shutil.copy(weights / "half.safetensors", tmp_path / "m.safetensors")
    assert "another model" in kinds(inspect_file(index))["model changed"].detail
    shutil.copy(weights / "new.safetensors", tmp_path / "kept.safetensors")
    report = inspect_file(index)
    assert report.anomalies == () and report.facts["model_found"].endswith("kept.safetensors")
    assert any("no longer at" in note for note in report.notes)
    shutil.copy(weights / "new.safetensors", tmp_path / "m.safetensors")
    report = inspect_file(index)
    assert report.anomalies == () and "model_found" not in report.facts and report.notes == ()


def test_rows_that_are_not_unit_are_said_in_detail_before_the_refusal(tmp_path):
    rows = unit(4)
    rows[1] *= 2
    rows[3] = 0
    np.save(tmp_path / "alone.npy", rows)
    report = inspect_file(tmp_path / "alone.npy")
    assert report.facts["rows"] == 4 and report.facts["embedding_dim"] == 8
    assert set(kinds(report)) == {"not unit", "all zero"}
    assert report.refusal is not None and report.refusal.exit_code == 1
    assert "row 1" in report.refusal.what


def test_rows_added_past_the_header_are_a_note(tmp_path):
    index = make_index(tmp_path)
    np.save(index, np.concatenate([unit(4), unit(2)]))
    report = inspect_file(index)
    assert report.facts["rows"] == 4 and report.refusal is None and report.anomalies == ()
    assert any("2 rows more" in note for note in report.notes)


def test_an_index_short_of_rows_is_shown_by_its_table(tmp_path):
    index = make_index(tmp_path)
    np.save(index, unit(3))
    report = inspect_file(index)
    assert report.refusal is not None and report.refusal.exit_code == 4
    assert report.facts["rows"] == 3 and report.facts["described_rows"] == 4
    assert report.facts["labels"] == 2


def test_a_table_without_its_rows_is_shown(tmp_path):
    index = make_index(tmp_path)
    index.unlink()
    report = inspect_file(tmp_path / "feats.sqlite")
    assert report.refusal is not None and report.refusal.exit_code == 4
    assert report.facts["described_rows"] == 4 and report.facts["rows"] == 0
    assert any("cannot be read" in note for note in report.notes)


def test_rows_beside_a_table_that_is_no_table_are_shown(tmp_path):
    index = make_index(tmp_path)
    (tmp_path / "feats.sqlite").write_bytes(b"hello")
    report = inspect_file(index)
    assert report.kind == "index (rows alone)" and report.facts["rows"] == 4
    assert report.refusal is not None and report.refusal.exit_code == 1


def test_a_table_with_a_damaged_page_is_refused_in_words(tmp_path):
    """The header's page is whole, that of the pictures is not: SQLite says so late."""
    index = make_index(tmp_path)
    file = tmp_path / "feats.sqlite"
    with sqlite3.connect(file) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'pictures'"
        ).fetchone()
    database.close()
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)
    report = inspect_file(index)
    assert report.facts["rows"] == 4 and report.refusal is not None
    assert "feats.sqlite" in report.refusal.what and report.refusal.exit_code == 1
    index.unlink()
    with pytest.raises(IndexFileError, match=r"feats\.sqlite"):
        inspect_file(index)


@pytest.mark.parametrize("kind", ["index", "weights"])
def test_options_of_the_other_kind_are_refused(tmp_path, weights, kind):
    if kind == "index":
        index = make_index(tmp_path)
        with pytest.raises(ConfigError, match="--keys"):
            inspect_file(index, keys=True)
        with pytest.raises(IndexFileError, match="--keys"):
            compare_files(index, index, keys=True)
    else:
        with pytest.raises(ConfigError, match="--verify"):
            inspect_file(weights / "old.pth", verify=True)
        with pytest.raises(ConfigError, match="--root"):
            inspect_file(weights / "new.safetensors", root=tmp_path)


# ---- a data base of the reference


def data_base(folder, rows, name="car_uncropped_resnet18_SG_8_data_base.pth"):
    images = [str(folder / f"{number}.jpg") for number in range(len(rows))]
    (folder / "0.jpg").write_bytes(b"here")
    torch.save(
        {
            "test_images": images,
            "test_labels": [number // 2 for number in range(len(rows))],
            "test_features": torch.from_numpy(rows),
        },
        folder / name,
    )
    return folder / name


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_data_base_is_told_by_part(tmp_path, blocks):
    """Before March 2020 rows had the length of the root of the number of descriptors."""
    report = inspect_file(data_base(tmp_path, unit(6) * np.float32(blocks**0.5)))
    assert report.kind.startswith("data base") and report.facts["embedding_dim"] == 8
    assert report.facts["parts"]["test"] == {
        "rows": 6,
        "labels": 3,
        "pictures_there": 1,
        "length": pytest.approx(blocks**0.5),
    }
    (anomaly,) = report.anomalies
    assert (anomaly.kind, anomaly.count) == ("picture gone", 5)


def test_odd_rows_of_a_data_base(tmp_path):
    rows = unit(6)
    rows[2] *= 3
    rows[4] = rows[1]
    report = inspect_file(data_base(tmp_path, rows))
    assert kinds(report)["not unit"].entry == "test row 2"
    assert kinds(report)["duplicate rows"].count == 1
