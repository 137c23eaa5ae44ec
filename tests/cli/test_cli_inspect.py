"""`cgd inspect`: any file that cgd writes or reads, and what it says of others."""

import csv
import hashlib
import io
import json
import shutil
from dataclasses import replace

import pytest
import torch
from cli_toys import check_failure


def facts(ran, kind):
    assert ran.code == 0, ran.err
    assert ran.err == ""
    report = json.loads(ran.out)
    assert kind in report["kind"]
    return report["facts"]


def test_a_checkpoint_and_its_run(cgd, in_toy):
    of_file = facts(cgd("inspect", in_toy.model, "--json"), "checkpoint")
    of_run = facts(cgd("inspect", in_toy.run, "--json"), "checkpoint")
    assert of_file == of_run
    assert of_file["config"]["embedding_dim"] == 512 and of_file["config"]["descriptors"] == "SG"
    assert of_file["classes"] == 4 and of_file["bytes"] == in_toy.model.stat().st_size
    assert len(of_file["fingerprint"]) == 64
    assert of_file["training"]["epochs"] == 1


def test_a_run_means_its_best_where_one_was_chosen(cgd, in_toy, tmp_path):
    shutil.copytree(in_toy.run, tmp_path / "run")
    shutil.copy("old.safetensors", tmp_path / "run/best.safetensors")
    of_run = facts(cgd("inspect", tmp_path / "run", "--json"), "checkpoint")
    assert of_run["config"]["embedding_dim"] == 256


def test_what_a_conversion_assumed_is_repeated(cgd, in_toy):
    ran = cgd("inspect", "old.safetensors")
    assert ran.code == 0
    assert "assumed" in ran.out and "stride layer3" in ran.out and "SG" in ran.out


@pytest.mark.parametrize("name", ["feats.npy", "feats.sqlite", "feats"])
def test_an_index(cgd, in_toy, name):
    found = facts(cgd("inspect", name, "--json"), "index")
    assert (found["rows"], found["embedding_dim"], found["dtype"]) == (9, 512, "float32")
    assert found["labels"] == 3 and found["labelled_rows"] == 9
    assert found["sources"] == [str(in_toy.folder / "imgs")]
    assert found["blocks"] == [["S", 0, 256], ["G", 256, 512]]
    model = facts(cgd("inspect", in_toy.model, "--json"), "checkpoint")
    assert found["fingerprint"] == model["fingerprint"]
    assert found["model"] == str(in_toy.model)


def test_the_tables_of_all_of_them(cgd, in_toy):
    for name in ("feats.npy", in_toy.model, in_toy.run, "old.pth"):
        ran = cgd("inspect", name)
        assert ran.code == 0 and ran.err == "" and len(ran.out.splitlines()) > 4


def test_rows_alone(cgd, in_toy, tmp_path):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    found = facts(cgd("inspect", bare, "--json"), "index")
    assert found["rows"] == 9
    check_failure(cgd("inspect", bare, "--rows"), 1, "bare.npy")


def test_rows_as_json_lines(cgd, in_toy):
    rows = [json.loads(line) for line in cgd("inspect", "feats.npy", "--rows").out.splitlines()]
    assert [row["row"] for row in rows] == list(range(9))
    paths = [row["path"] for row in rows]
    assert paths == sorted(paths, key=str.encode)
    for row in rows:
        assert row["path"].split("/")[-2] == row["label"]
        with open(row["path"], "rb") as file:  # noqa: PTH123
            assert hashlib.sha256(file.read()).hexdigest() == row["sha256"]


def test_rows_as_csv(cgd, in_toy):
    text = cgd("inspect", "feats.npy", "--rows", "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 9
    assert {"row", "path", "label", "sha256"} <= set(rows[0])
    assert rows[0]["label"] == "blue" and rows[0]["row"] == "0"


def test_csv_without_rows_would_do_nothing(cgd, in_toy):
    check_failure(cgd("inspect", "feats.npy", "--csv"), 2, "--csv")


def test_rows_of_something_without_rows(cgd, in_toy):
    ran = cgd("inspect", in_toy.model, "--rows")
    assert ran.code in (1, 2)
    check_failure(ran, ran.code, in_toy.model)
    assert "copy the .sqlite" not in ran.err  # it is a checkpoint, no index that lost its table


def test_skipped_of_something_without(cgd, in_toy):
    ran = cgd("inspect", in_toy.model, "--skipped")
    assert ran.code in (1, 2)
    check_failure(ran, ran.code, in_toy.model)


def test_skipped(cgd, in_toy, tmp_path):
    shutil.copytree("imgs", tmp_path / "imgs")
    (tmp_path / "imgs/zero.jpg").write_bytes(b"")
    (tmp_path / "imgs/text.png").write_text("no picture")
    ran = cgd("embed", tmp_path / "imgs", "-o", tmp_path / "f.npy", "--model", in_toy.model)
    assert ran.code == 3
    lines = cgd("inspect", tmp_path / "f.npy", "--skipped").out.splitlines()
    assert sorted(line.split("\t")[0].rsplit("/", 1)[1] for line in lines) == [
        "text.png",
        "zero.jpg",
    ]
    assert all(line.split("\t")[1] for line in lines)
    as_json = facts(cgd("inspect", tmp_path / "f.npy", "--json"), "index")
    assert len(as_json["skipped"]) == 2


def test_a_foreign_file(cgd, in_toy):
    found = facts(cgd("inspect", "old.pth", "--json"), "reference")
    assert found["entries"] == 181 and found["tensors"] == 129
    assert (found["backbone"], found["branches"]) == ("resnet18", 2)
    assert (found["embedding_dim"], found["classes"]) == (256, 21)
    assert "cgd convert-weights" in cgd("inspect", "old.pth").out


def test_torchvision_weights(cgd, in_toy, tmp_path):
    import torchvision

    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "plain.pth")
    found = facts(cgd("inspect", tmp_path / "plain.pth", "--json"), "torchvision")
    assert found["backbone"] == "resnet18" and found["branches"] == 0
    ran = cgd("inspect", tmp_path / "plain.pth")
    assert "--model" in ran.out  # usable as it is, without a conversion


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"hello"),
        ("a.safetensors", b""),
        ("a.safetensors", b"\x08" + b"\0" * 7 + b"{}      "),
        ("a.pth", b""),
        ("a.npy", b""),
        ("a.sqlite", b"SQLite format 3\0"),
        ("a.jpg", b"\xff\xd8\xff\xe0"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_files_that_are_nothing(cgd, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    ran = cgd("inspect", tmp_path / name)
    assert ran.code in (1, 4)
    check_failure(ran, ran.code, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_is_not_there_and_folders(cgd, in_toy, tmp_path):
    check_failure(cgd("inspect", "gone.npy"), 1, "gone.npy")
    check_failure(cgd("inspect", tmp_path), 1, tmp_path)
    check_failure(cgd("inspect", "gone.npy", "--rows"), 1, "gone.npy")


def test_a_checkpoint_that_was_changed_is_said_to_be(cgd, in_toy, tmp_path):
    changed = tmp_path / "changed.safetensors"
    data = bytearray(in_toy.model.read_bytes())
    data[-5] ^= 0x40  # the last tensor by place may be the classifier's: change the middle too
    data[len(data) // 2] ^= 0x40
    changed.write_bytes(data)
    ran = cgd("inspect", changed)
    assert "changed since written" in ran.out and "resnet18" in ran.out
    check_failure(replace(ran, out=""), 4, changed, "changed")
    ran = cgd("embed", "imgs", "-o", tmp_path / "f.npy", "--model", changed)
    check_failure(ran, 4, changed)
    assert [file.name for file in tmp_path.iterdir()] == ["changed.safetensors"]
