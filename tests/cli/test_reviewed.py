"""Bugs that a review found, each with the test that failed before."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from cli_toys import SMALL, check_failure, draw_classes
from reference import state_dict

from cgdcli.cli import main
from cgdcli.conversion import convert_weights
from cgdcli.datasets.reading import read_evaluation_data
from cgdcli.errors import CheckpointError
from cgdcli.weights.header import read_header
from cgdcli.weights.loading import load_model

TINY = [*SMALL, "--batch-size", "4", "--per-class", "2"]


def test_a_layout_of_test_alone_is_judged_by_its_classes_not_by_the_word_test(tmp_path):
    draw_classes(tmp_path / "data/test", "red blue", 2)
    table, what = read_evaluation_data(tmp_path / "data")
    assert table.classes == ("blue", "red") and what.endswith("test")


def test_val_and_test_without_train_are_not_trained_on(cgd, tmp_path):
    draw_classes(tmp_path / "data/val", "red blue", 2)
    draw_classes(tmp_path / "data/test", "red blue", 2)
    check_failure(cgd("train", tmp_path / "data", *TINY), 1, "val and test", "no train")


def test_broken_pictures_of_val_and_test_are_said_and_exit_3(cgd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        draw_classes(tmp_path / "data" / split, "red blue", 2)
    (tmp_path / "data/val/red/zero.jpg").write_bytes(b"")
    (tmp_path / "data/test/red/text.png").write_text("no picture")
    ran = cgd("train", "data", *TINY, "--epochs", "1", "--json")
    assert ran.code == 3
    assert {os.path.basename(s["path"]) for s in json.loads(ran.out)["skipped"]} == {  # noqa: PTH119
        "zero.jpg",
        "text.png",
    }
    assert "zero.jpg" in ran.err and "text.png" in ran.err


@pytest.mark.parametrize("beside", [{"best_acc1": torch.tensor(1.0)}, {"best": torch.tensor(2)}])
def test_tensors_beside_a_state_dict_do_not_hide_it(tmp_path, beside):
    torch.save(
        {"epoch": 3, "state_dict": state_dict("resnet18_SG_256_21"), **beside}, tmp_path / "a.pth"
    )
    report = convert_weights(tmp_path / "a.pth")
    assert report.written_entries == 129


def test_a_file_name_that_begins_with_the_backbone_is_read(tmp_path):
    torch.save(state_dict("resnet18_SG_256_21"), tmp_path / "resnet18_GS_256_0.1_model.pth")
    report = convert_weights(tmp_path / "resnet18_GS_256_0.1_model.pth")
    assert report.config["descriptors"] == "GS"


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04cut"])
def test_a_damaged_download_is_said_with_its_remedy(tmp_path, monkeypatch, content):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints/resnet18-f37072fd.pth"
    cached.parent.mkdir()
    cached.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_model("resnet18")
    assert str(cached) in caught.value.what and "remove" in caught.value.hint


def test_dots_after_a_link_lead_where_the_system_says(cgd, in_toy, tmp_path, monkeypatch):
    shutil.copytree("imgs", tmp_path / "other/pics")
    (tmp_path / "other/deep").mkdir()
    (tmp_path / "pics").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other/deep")
    monkeypatch.chdir(tmp_path)
    ran = cgd("embed", "link/../pics", "-o", "f.npy", "--model", in_toy.model, "--json")
    assert ran.code == 0 and json.loads(ran.out)["rows"] == 9


def test_checkpoints_are_as_private_as_the_umask_says(toy):
    before = os.umask(0o022)
    os.umask(before)
    assert toy.model.stat().st_mode & 0o777 == 0o666 & ~before


def test_an_image_with_cgd_version_set_still_works(in_toy, monkeypatch, capsys):
    monkeypatch.setenv("CGD_VERSION", "1")
    assert main(["inspect", "feats.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "index"


def test_the_copy_beside_the_index_is_taken_where_the_recorded_file_has_changed(
    cgd, in_toy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(in_toy.folder / "imgs", "imgs")
    shutil.copy(in_toy.model, "m.safetensors")
    assert cgd("embed", "imgs", "-o", "f.npy", "--model", "m.safetensors").code == 0
    shutil.copy("m.safetensors", "kept.safetensors")
    shutil.copy(in_toy.folder / "old.safetensors", "m.safetensors")
    one, other = (read_header(tmp_path / n).metadata for n in ("m.safetensors", "kept.safetensors"))
    assert one["fingerprint"] != other["fingerprint"]
    assert cgd("search", "imgs/red/10.png", "--index", "f.npy").code == 0


def test_an_index_that_moved_with_its_pictures_is_refreshed(cgd, in_toy, tmp_path, monkeypatch):
    shutil.copytree("imgs", tmp_path / "a/imgs")
    monkeypatch.chdir(tmp_path / "a")
    options = ("embed", "imgs", "-o", "f.npy", "--model", in_toy.model)
    assert cgd(*options).code == 0
    (tmp_path / "a").rename(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "b")
    assert cgd(*options).code == 0


def test_an_index_with_a_dot_in_its_name(cgd, in_toy, tmp_path):
    assert cgd("embed", "imgs", "-o", tmp_path / "f.v2.npy", "--model", in_toy.model).code == 0
    assert cgd("search", "row:0", "--index", tmp_path / "f.v2").code == 0


def test_a_link_to_an_index_finds_its_table(cgd, in_toy, tmp_path):
    (tmp_path / "link.npy").symlink_to(in_toy.index)
    ran = cgd("search", "row:0", "--index", tmp_path / "link.npy", "--json")
    assert json.loads(ran.out)[0]["hits"][0]["label"] is not None


def test_resume_may_change_the_device_and_the_workers(cgd, tmp_path, monkeypatch):
    from cgdcli.training.loop import Trainer

    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "red blue", 2)

    def interrupted(self, *_):
        raise KeyboardInterrupt
        yield

    whole = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    assert cgd("train", "data", *TINY, "--epochs", "1", "--name", "one").code == 130
    monkeypatch.setattr(Trainer, "_epoch", whole)
    ran = cgd("train", "--resume", "--name", "one", "--device", "cpu", "--workers", "1")
    assert ran.code == 0, ran.err


def test_resume_notices_a_changed_test(cgd, tmp_path, monkeypatch):
    from cgdcli.training.loop import Trainer

    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        draw_classes(tmp_path / "data" / split, "red blue", 2)

    def interrupted(self, *_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    assert cgd("train", "data", *TINY, "--epochs", "1", "--name", "one").code == 130
    shutil.rmtree(tmp_path / "data/test/red")
    check_failure(cgd("train", "--resume", "--name", "one"), 4, "runs/one", "test/red/0.png")


def test_a_lock_is_given_back_by_the_kernel_when_its_owner_is_killed(tmp_path):
    import signal
    import sys

    from cgdcli.locks import writer_lock

    code = (
        "import sys, time; from pathlib import Path; from cgdcli.locks import writer_lock\n"
        "with writer_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Exception, match="being written"), writer_lock(tmp_path / "x"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with writer_lock(tmp_path / "x"):
        assert (tmp_path / "x.lock").exists()
    assert not (tmp_path / "x.lock").exists()


def test_quiet_still_says_how_many_were_skipped(cgd, in_toy, tmp_path):
    shutil.copytree("imgs", tmp_path / "imgs")
    (tmp_path / "imgs/zero.jpg").write_bytes(b"")
    ran = cgd("embed", tmp_path / "imgs", "-o", tmp_path / "f.npy", "-q", "--model", in_toy.model)
    assert ran.code == 3 and "skipped 1 picture" in ran.err


def test_a_model_beside_rows_alone_is_an_error_not_ignored(cgd, in_toy):
    ran = cgd("search", "row:0", "--index", "feats.npy", "--model", "no-such-model")
    check_failure(ran, 2, "model")
