"""`cgd inspect`: any file that cgd writes or reads, and what it says of others."""

import csv
import hashlib
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_toys import check_failure

from cgdcli.inspection import rows_as_csv


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


def test_names_with_line_ends_come_back_from_csv():
    rows = [{"path": name, "label": 1} for name in ("a\rb.jpg", 'c"d\ne.jpg', "f\r\ng", "h,i")]
    text = "".join(rows_as_csv(rows))
    assert text.startswith("path,label\n") and text.endswith("1\n")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["path"] for row in read] == [row["path"] for row in rows]


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


# ---- every tensor


def test_keys_in_a_pipe_are_lines_of_tabs(cgd, in_toy):
    ran = cgd("inspect", "old.pth", "--keys")
    assert ran.code == 0 and ran.err == ""
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert len(lines) == 181 and {len(line) for line in lines} == {9}
    cells = {line[0]: line[1:] for line in lines}
    assert cells["features.0.weight"][:7] == [
        *("stem", "float32", "64x3x7x7", "9408", "37632", "renamed", "backbone.conv1.weight"),
    ]
    assert cells["total_ops"][5:7] == ["dropped", "-"] and "thop" in cells["total_ops"][7]
    assert cells["features.1.num_batches_tracked"][2] == "scalar"
    ours = cgd("inspect", in_toy.model, "--keys").out.splitlines()
    assert len(ours) == 129 and all(line.count("\t") == 5 for line in ours)


def test_keys_as_csv_and_as_json(cgd, in_toy):
    table = list(csv.DictReader(io.StringIO(cgd("inspect", "old.pth", "--keys", "--csv").out)))
    keys = json.loads(cgd("inspect", "old.pth", "--keys", "--json").out)["keys"]
    assert [row["name"] for row in table] == [key["name"] for key in keys]
    assert [int(row["elements"]) for row in table] == [key["elements"] for key in keys]
    assert keys[4]["shape"] == [64, 3, 7, 7] and keys[4]["becomes"] == "backbone.conv1.weight"


def at_eighty_columns(view):
    from rich.console import Console

    console = Console(width=80, file=io.StringIO())
    console.print(view)
    return console.file.getvalue()


@pytest.mark.parametrize("name", ["old.pth", "old.safetensors", "feats.npy"])
def test_tables_at_eighty_columns_lose_nothing(cgd, in_toy, name):
    from cgdcli.inspection import inspect_file
    from cgdcli.views.inspection import inspect_table, keys_table

    report = inspect_file(name, keys=name != "feats.npy")
    text = at_eighty_columns(inspect_table(report))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert report.facts["fingerprint"] in text
    keys = at_eighty_columns(keys_table(report.keys))
    assert "…" not in keys and max(map(len, keys.splitlines())) <= 80
    joined = keys.replace("\n", "").replace(" ", "")
    assert all(str(key.bytes) in keys and key.name.split(".")[0] in joined for key in report.keys)


def test_a_comparison_at_eighty_columns_loses_nothing(in_toy):
    from cgdcli.inspection import compare_files
    from cgdcli.views.comparison import comparison_view

    for files in (("old.pth", in_toy.model), ("feats.npy", "feats.npy")):
        text = at_eighty_columns(comparison_view(compare_files(*files, keys="pth" in files[0])))
        assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_verbose_lists_every_anomaly(cgd, in_toy):
    short, whole = (cgd("inspect", "old.pth", *more).out for more in ((), ("--verbose",)))
    assert "52 entries" in short and "and 49 more" in short
    assert short.count("total_ops") < 5 and whole.count(".total_ops") == 25
    assert "more (--verbose" not in whole


# ---- what is odd


def test_a_fresh_run_a_conversion_and_their_index_are_sound(cgd, in_toy):
    for name in (in_toy.model, in_toy.run, "old.safetensors", "feats.npy"):
        ran = cgd("inspect", name, "--fail-on-anomaly")
        assert ran.code == 0 and "anomalies: none" in ran.out, ran.out


def test_fail_on_anomaly(cgd, in_toy):
    assert cgd("inspect", "old.pth").code == 0
    ran = cgd("inspect", "old.pth", "--fail-on-anomaly")
    assert "profiler entry" in ran.out
    check_failure(replace(ran, out=""), 1, "old.pth", "52")
    ran = cgd("inspect", "old.pth", "--fail-on-anomaly", "--json")
    assert ran.code == 1 and len(json.loads(ran.out)["anomalies"]) == 52


def test_pictures_that_were_edited_and_verify(cgd, in_toy, tmp_path):
    shutil.copytree("imgs", tmp_path / "imgs")
    index = in_toy.copy_index(tmp_path)
    file = tmp_path / "imgs/red/10.png"
    file.write_bytes(file.read_bytes()[::-1])
    ran = cgd("inspect", index)
    assert ran.code == 0 and "picture perhaps changed" in ran.out and "10.png" in ran.out
    ran = cgd("inspect", index, "--verify", "--json")
    (anomaly,) = json.loads(ran.out)["anomalies"]
    assert (anomaly["kind"], anomaly["entry"]) == ("picture changed", str(file))
    assert ran.code == 0 and ran.err == ""


def test_a_damaged_index_is_shown_and_then_refused(cgd, in_toy, tmp_path):
    index = in_toy.copy_index(tmp_path)
    rows = np.load(index)
    rows[2] *= np.float32(1.5)
    rows[4, 7] = np.nan
    np.save(index, rows)
    ran = cgd("inspect", index)
    assert "not unit" in ran.out and "NaN or Inf" in ran.out and "row 4" in ran.out
    check_failure(replace(ran, out=""), 4, index)
    report = json.loads(cgd("inspect", index, "--json").out)
    assert {anomaly["kind"] for anomaly in report["anomalies"]} == {"not unit", "NaN or Inf"}
    assert report["refusal"]["exit_code"] == 4 and report["facts"]["labels"] == 3
    check_failure(cgd("inspect", index, "--rows"), 4, index)


def test_root_names_another_place_for_the_pictures(cgd, in_toy, tmp_path):
    index = in_toy.copy_index(tmp_path)
    shutil.copytree("imgs", tmp_path / "elsewhere")
    rows = cgd("inspect", index, "--rows", "--root", tmp_path / "elsewhere").out.splitlines()
    assert all(json.loads(r)["path"].startswith(str(tmp_path / "elsewhere")) for r in rows)
    ran = cgd("inspect", index, "--root", tmp_path / "elsewhere", "--json")
    assert ran.code == 0 and json.loads(ran.out)["anomalies"] == []


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("feats.npy", ("--rows", "--skipped"), "--rows and --skipped"),
        ("feats.npy", ("--rows", "--fail-on-anomaly"), "--rows"),
        ("feats.npy", ("--rows", "--verify"), "--verify"),
        ("feats.npy", ("--keys",), "--keys"),
        ("old.pth", ("--keys", "--csv", "--json"), "--csv and --json"),
        ("old.pth", ("--verify",), "--verify"),
        ("old.safetensors", ("--root", "imgs"), "--root"),
    ],
    ids=str,
)
def test_options_that_would_do_nothing_are_refused(cgd, in_toy, name, options, word):
    check_failure(cgd("inspect", name, *options), 2, word)


def test_skipped_as_json(cgd, in_toy):
    assert json.loads(cgd("inspect", "feats.npy", "--skipped", "--json").out) == []
