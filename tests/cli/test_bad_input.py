"""The issue's list of bad input, line by line: the right code, what is wrong, what to do, and
nothing half-written."""

import json
import os
import pickle
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_toys import SMALL, check_failure, contents, draw, draw_classes, picture, process

from cgdcli.index.store import EmbeddingIndex

TRAIN = (*SMALL, "--epochs", "1", "--batch-size", "4", "--per-class", "2")


@pytest.fixture
def here(in_toy, tmp_path, monkeypatch):
    """An index that worked, its pictures, and nothing else; the current folder."""
    shutil.copytree("imgs", tmp_path / "imgs")
    in_toy.copy_index(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(cgd, here):
    """Run, check the failure, and that the folder is as it was and the old index still opens."""

    def run(code, words, *arguments):
        before = contents(here)
        ran = cgd(*arguments)
        check_failure(but_facts(arguments, ran), code, *words)
        assert contents(here) == before
        assert len(EmbeddingIndex.open("feats.npy")) == 9
        return ran

    return run


def but_facts(arguments, ran):
    """`inspect` shows what can be read of a damaged index, then fails as every other command."""
    return replace(ran, out="") if arguments[0] == "inspect" else ran


def embed(*arguments, toy):
    return ("embed", *arguments, "--model", toy.model)


# ---- folders


@pytest.mark.parametrize("made", ["empty", "gone", "only others", "only hidden"])
def test_embed_of_a_folder_without_pictures(refused, here, toy, made):
    folder = here / "folder"
    if made != "gone":
        folder.mkdir()
    if made == "only others":
        (folder / "notes.txt").touch()
    if made == "only hidden":
        (folder / ".1.png").touch()
    refused(1, [folder], *embed(folder, "-o", "new.npy", toy=toy))


@pytest.mark.parametrize("made", ["empty", "gone", "flat", "file", "others", "empty classes"])
def test_train_on_a_folder_without_classes(refused, here, made):
    data = here / "data"
    if made == "file":
        data.write_text("x")
    elif made != "gone":
        data.mkdir()
    if made == "flat":
        draw(data / "1.png", "red", 1)
    if made == "others":
        (data / "notes.txt").touch()
    if made == "empty classes":
        (data / "a").mkdir()
        (data / "b").mkdir()
    refused(1, [data], "train", data, *TRAIN)


def test_train_on_one_class(refused, here):
    draw_classes(here / "data", "red", 4)
    ran = refused(1, ["data", "1 class"], "train", "data", *TRAIN)
    assert "second class" in ran.err


def test_train_on_an_empty_train_folder(refused, here):
    draw_classes(here / "data/val", "red blue", 2)
    (here / "data/train").mkdir()
    refused(1, ["data/train"], "train", "data", *TRAIN)


def test_train_on_an_empty_val_folder(refused, here):
    draw_classes(here / "data/train", "red blue", 2)
    (here / "data/val").mkdir()
    refused(1, ["data/val"], "train", "data", *TRAIN)


def test_train_on_an_empty_test_folder_stops_before_hours_of_work(refused, here):
    draw_classes(here / "data/train", "red blue", 2)
    (here / "data/test/red").mkdir(parents=True)
    refused(1, ["data/test"], "train", "data", *TRAIN)


# ---- a class with one picture


def test_a_class_with_one_picture_is_used_and_said(cgd, here):
    draw_classes(here / "data", "red blue", 2)
    draw(here / "data/lonely/1.png", "green", 1)
    ran = cgd("train", "data", *TRAIN)
    assert ran.code == 0, ran.err
    assert "lonely" in ran.err and "3 classes" in ran.err
    assert "1 classes" not in ran.err


def test_only_classes_with_one_picture(refused, here):
    draw_classes(here / "data", "red blue green", 1)
    refused(1, ["data", "3 classes"], "train", "data", *TRAIN)


# ---- pictures


def broken(kind):
    if kind == "text":
        return b"this is a text, not a picture\n"
    if kind == "zero bytes":
        return b""
    import io

    whole = io.BytesIO()
    picture("red", 1).save(whole, "JPEG")
    return whole.getvalue()[: len(whole.getvalue()) // 2]


BROKEN = ("text", "zero bytes", "truncated")


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_picture_among_good_ones(cgd, here, toy, kind):
    (here / "imgs/red/broken.jpg").write_bytes(broken(kind))
    ran = cgd(*embed("imgs", "-o", "new.npy", "--json", toy=toy))
    assert ran.code == 3 and "imgs/red/broken.jpg" in ran.err
    assert json.loads(ran.out)["rows"] == 9
    assert len(EmbeddingIndex.open("new.npy")) == 9


@pytest.mark.parametrize("kind", BROKEN)
def test_nothing_but_broken_pictures(refused, here, toy, kind):
    (here / "bad").mkdir()
    (here / "bad/1.jpg").write_bytes(broken(kind))
    refused(1, ["bad"], *embed("bad", "-o", "new.npy", toy=toy))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_refresh_that_finds_only_broken_pictures_keeps_the_old_index(refused, here, toy, kind):
    shutil.rmtree("imgs")
    shutil.copytree(toy.folder / "imgs", "imgs")
    for file in (here / "imgs").rglob("*.png"):
        file.write_bytes(broken(kind))
    refused(1, ["imgs"], *embed("imgs", "-o", "feats.npy", "--rebuild", toy=toy))


@pytest.mark.parametrize("kind", BROKEN)
def test_training_on_nothing_but_broken_pictures(refused, here, kind):
    for label in ("a", "b"):
        (here / "data" / label).mkdir(parents=True)
        for number in range(2):
            (here / "data" / label / f"{number}.jpg").write_bytes(broken(kind))
    refused(1, ["pictures"], "train", "data", *TRAIN, "--name", "one")


@pytest.mark.parametrize("kind", BROKEN)
def test_evaluating_nothing_but_broken_pictures(refused, here, toy, kind):
    for label in ("a", "b"):
        (here / "data" / label).mkdir(parents=True)
        (here / "data" / label / "1.jpg").write_bytes(broken(kind))
    refused(1, ["pictures"], "evaluate", "data", "--model", toy.model)


def test_odd_pictures_are_trained_on(cgd, here):
    from test_cli_embed import odd_pictures

    (here / "data").mkdir()
    odd_pictures(here / "data/odd")
    draw_classes(here / "data", "red", 3)
    ran = cgd("train", "data", *TRAIN, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["skipped"] == []


@pytest.mark.parametrize("odd", ["cmyk.jpg", "16.png", "one-pixel.png", "animated.gif", "f.tif"])
def test_odd_pictures_are_queries(cgd, here, odd):
    from test_cli_embed import odd_pictures

    odd_pictures(here / "odd")
    ran = cgd("search", here / "odd" / odd, "--index", "feats.npy", "--json", "-k", "1")
    assert ran.code == 0 and len(json.loads(ran.out)[0]["hits"]) == 1


# ---- the two files of an index


def other_rows(count, dim=512):
    rows = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def asks(cgd, index, *words, code):
    before = contents(index.parent)
    for arguments in (
        ("search", "row:0", "--index", index),
        ("evaluate", "--index", index),
        ("inspect", index),
    ):
        check_failure(but_facts(arguments, cgd(*arguments)), code, index, *words)
    assert contents(index.parent) == before


def test_fewer_rows_than_the_table_says(cgd, here):
    np.save("feats.npy", other_rows(8))
    asks(cgd, here / "feats.npy", "8", "9", code=4)


def test_rows_of_another_index_beside_the_table(cgd, here):
    np.save("feats.npy", other_rows(9))
    asks(cgd, here / "feats.npy", code=4)


def test_rows_of_another_length_beside_the_table(cgd, here):
    np.save("feats.npy", other_rows(9, 64))
    asks(cgd, here / "feats.npy", "64", "512", code=4)


def test_more_rows_than_the_table_says_are_an_append_under_way(cgd, here):
    np.save("feats.npy", np.concatenate([np.load("feats.npy"), other_rows(2)]))
    ran = cgd("search", "row:0", "--index", "feats.npy", "--json", "-k", "100")
    assert ran.code == 0 and len(json.loads(ran.out)[0]["hits"]) == 9


def test_a_table_that_is_short_of_rows(cgd, here):
    """`header.rows` says 9, the table of pictures has 8: halves of two indexes."""
    with sqlite3.connect("feats.sqlite") as database:
        database.execute("DELETE FROM pictures WHERE row = 8")
    database.close()
    for arguments in (
        ("search", "row:0", "--index", "feats.npy"),
        ("evaluate", "--index", "feats.npy"),
        ("inspect", "feats.npy", "--rows"),
    ):
        check_failure(cgd(*arguments), 4, "feats.sqlite", "8", "9")


def test_a_table_without_its_rows(cgd, here):
    (here / "feats.npy").unlink()
    check_failure(cgd("search", "row:0", "--index", "feats.npy"), 4, "feats.npy")


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "foreign", "header entry missing"])
def test_a_table_that_is_damaged(cgd, here, kind):
    file = here / "feats.sqlite"
    if kind == "header entry missing":
        with sqlite3.connect(file) as database:
            database.execute("DELETE FROM header WHERE key = 'blocks'")
        database.close()
    elif kind == "foreign":
        file.unlink()
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE other (a)")
        database.close()
    else:
        data = file.read_bytes()
        file.write_bytes({"text": b"hello", "cut": data[: len(data) // 3], "empty": b""}[kind])
    before = contents(here)
    for arguments in (("search", "row:0", "--index", "feats.npy"), ("inspect", "feats.npy")):
        ran = but_facts(arguments, cgd(*arguments))
        assert ran.code in (1, 4)
        check_failure(ran, ran.code, "feats.sqlite")
    assert contents(here) == before


def test_a_table_of_another_format_version(cgd, here):
    with sqlite3.connect("feats.sqlite") as database:
        database.execute("UPDATE header SET value = '99' WHERE key = 'format'")
    database.close()
    check_failure(cgd("search", "row:0", "--index", "feats.npy"), 4, "feats.sqlite", "99", "1")


@pytest.mark.parametrize("kind", ["damaged", "other format"])
def test_a_hint_that_names_rebuild_is_true(cgd, here, toy, kind):
    """Whoever follows the hint must not be told then that `--rebuild` writes over nothing here."""
    if kind == "damaged":
        (here / "feats.sqlite").write_bytes((here / "feats.sqlite").read_bytes()[:5000])
    else:
        with sqlite3.connect("feats.sqlite") as database:
            database.execute("UPDATE header SET value = '99' WHERE key = 'format'")
        database.close()
    ran = cgd("search", "row:0", "--index", "feats.npy")
    assert ran.code in (1, 4)
    if "--rebuild" in ran.err:
        again = cgd(*embed("imgs", "-o", "feats.npy", "--rebuild", toy=toy))
        assert again.code == 0, again.err


# ---- an index of another model


def test_an_index_of_another_model(refused, toy):
    other = toy.folder / "old.safetensors"
    refused(
        4,
        ["feats.npy", "old"],
        "search",
        "imgs/red/10.png",
        "--index",
        "feats.npy",
        "--model",
        other,
    )
    refused(
        4, ["feats.npy", "old"], "embed", toy.folder / "imgs", "-o", "feats.npy", "--model", other
    )


# ---- arrays


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def nan_rows():
    rows = other_rows(4)
    rows[2, 5] = np.nan
    return rows


ARRAYS = {
    "nan": (nan_rows, "row 2"),
    "infinite": (lambda: np.where(other_rows(4) > 0.1, np.inf, other_rows(4)), "row 0"),
    "float64": (lambda: other_rows(4).astype(np.float64), "float64"),
    "int": (lambda: np.ones((4, 4), np.int32), "int32"),
    "big endian": (lambda: other_rows(4).astype(">f4"), ">f4"),
    "object": (lambda: np.array([[Bomb()]], dtype=object), "object"),
    "one dimension": (lambda: other_rows(4)[0], "(512,)"),
    "three dimensions": (lambda: other_rows(4)[None], "(1, 4, 512)"),
    "no columns": (lambda: np.empty((4, 0), np.float32), "(4, 0)"),
    "not unit": (lambda: other_rows(4) * np.float32(1.01), "row 0"),
    "zero row": (lambda: np.zeros((4, 8), np.float32), "row 0"),
    "fortran": (lambda: np.asfortranarray(other_rows(4)), "fortran"),
    "structured": (lambda: np.zeros(4, dtype=[("a", "<f4")]), "a"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_are_no_index(refused, here, kind):
    make, word = ARRAYS[kind]
    np.save("bad.npy", make(), allow_pickle=True)
    refused(1, ["bad.npy", word], "search", "row:0", "--index", "bad.npy")
    refused(1, ["bad.npy", word], "inspect", "bad.npy")
    assert not (here / "exploded").exists()


@pytest.mark.parametrize(
    "kind", ["text", "empty", "header only", "cut", "npz", "missing", "folder"]
)
def test_files_that_are_no_array(refused, here, kind):
    file = here / "bad.npy"
    if kind == "npz":
        with file.open("wb") as handle:
            np.savez(handle, a=other_rows(2))
    elif kind == "folder":
        file.mkdir()
    elif kind != "missing":
        whole = (here / "feats.npy").read_bytes()
        file.write_bytes(
            {"text": b"hello", "empty": b"", "header only": whole[:100], "cut": whole[:5000]}[kind]
        )
    refused(1, ["bad.npy"], "search", "row:0", "--index", "bad.npy")
    refused(1, ["bad.npy"], "inspect", "bad.npy")


def test_an_array_of_no_rows(cgd, here):
    """Nothing to be found is said, in whatever way, but never as a traceback."""
    np.save("none.npy", np.empty((0, 8), np.float32))
    check_failure(cgd("search", "row:0", "--index", "none.npy"), 1, "none.npy")


# ---- checkpoints


def code_in_a_pickle(file):
    file.write_bytes(pickle.dumps(Bomb(), protocol=2))


def code_in_a_torch_file(file):
    torch.save({"state_dict": {"features.0.weight": torch.zeros(1)}, "args": Bomb()}, file)


@pytest.mark.parametrize("make", [code_in_a_pickle, code_in_a_torch_file])
def test_a_checkpoint_with_code_in_it(refused, here, make, toy):
    make(here / "bad.pth")
    for arguments in (
        ("convert-weights", "bad.pth"),
        ("inspect", "bad.pth"),
        ("embed", "imgs", "-o", "new.npy", "--model", "bad.pth"),
        ("profile", "bad.pth"),
        ("export", "bad.pth", "-o", "new.xml"),
        ("train", toy.folder / "data", *TRAIN[2:], "--backbone-weights", "bad.pth"),
    ):
        refused(1, ["bad.pth"], *arguments)
    assert not (here / "exploded").exists()


@pytest.mark.parametrize("length", [0, 4, 8, 100, 5000, -100])
def test_a_safetensors_file_cut_short(refused, here, toy, length):
    (here / "cut.safetensors").write_bytes(toy.model.read_bytes()[:length])
    for arguments in (
        ("embed", "imgs", "-o", "new.npy", "--model", "cut.safetensors"),
        ("inspect", "cut.safetensors"),
        ("profile", "cut.safetensors"),
        ("export", "cut.safetensors", "-o", "new.onnx"),
        ("convert-weights", "cut.safetensors", "-o", "new.safetensors"),
    ):
        refused(1, ["cut.safetensors"], *arguments)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04nothing"])
def test_a_pth_that_is_none(refused, here, content):
    (here / "bad.pth").write_bytes(content)
    refused(1, ["bad.pth"], "convert-weights", "bad.pth")
    refused(1, ["bad.pth"], "inspect", "bad.pth")


@pytest.mark.parametrize(
    "content",
    [{}, {"state_dict": {}}, [1, 2], torch.zeros(3), {"a": torch.zeros(3)}, None],
    ids=["dict", "nested", "list", "tensor", "foreign", "none"],
)
def test_a_pth_without_a_known_network(refused, here, content):
    torch.save(content, "bad.pth")
    ran = refused(1, ["bad.pth"], "convert-weights", "bad.pth")
    assert "NoneType" not in ran.err


def test_convert_weights_of_what_is_not_there_or_a_folder(refused, here):
    refused(1, ["gone.pth"], "convert-weights", "gone.pth")
    refused(1, ["imgs"], "convert-weights", "imgs")


def test_convert_weights_with_letters_that_do_not_fit(refused, here, toy):
    shutil.copy(toy.folder / "old.pth", here)
    refused(4, ["SMG", "2 branches"], "convert-weights", "old.pth", "--descriptors", "SMG")
    refused(2, ["'X'"], "convert-weights", "old.pth", "--descriptors", "SX")
    refused(2, ["8"], "convert-weights", "old.pth", "--image-size", "8")


def test_convert_weights_replaces_nothing_unasked(refused, cgd, here, toy):
    shutil.copy(toy.folder / "old.pth", here)
    (here / "old.safetensors").write_text("mine")
    ran = refused(1, ["old.safetensors"], "convert-weights", "old.pth")
    assert "--force" in ran.err
    assert cgd("convert-weights", "old.pth", "--force").code == 0


def test_convert_weights_of_our_own_file(refused, here, toy):
    refused(1, [toy.model], "convert-weights", toy.model, "-o", "new.safetensors")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.complex64])
def test_a_weights_file_of_an_odd_type(refused, here, toy, dtype):
    state = torch.load(toy.folder / "old.pth", weights_only=True)
    state["features.1.weight"] = state["features.1.weight"].to(dtype)
    torch.save(state, "odd.pth")
    refused(1, ["odd.pth"], "convert-weights", "odd.pth")


def test_a_backbone_of_another_kind(refused, here, toy):
    shutil.copy(toy.folder / "old.pth", here)
    ran = refused(
        *(1, ["old.pth", "resnet18", "resnet50"], "train", toy.folder / "data", *TRAIN[2:]),
        *("--backbone", "resnet50", "--backbone-weights", "old.pth"),
    )
    assert "--backbone resnet18" in ran.err


@pytest.mark.parametrize("weights", ["gone.pth", "imgs", ""])
def test_backbone_weights_that_are_not_there(refused, here, toy, weights):
    words = [weights or "--backbone-weights"]
    refused(1, words, "train", toy.folder / "data", *TRAIN[2:], "--backbone-weights", weights)


@pytest.mark.parametrize("model", ["gone", "gone/model.pth", "resnet19", "imgs", "imgs/red/10.png"])
def test_a_model_that_is_none(refused, here, model):
    refused(1, [model], "embed", "imgs", "-o", "new.npy", "--model", model)


# ---- outputs


def test_the_output_folder_is_missing(refused, here, toy):
    shutil.copy(toy.folder / "old.pth", here)
    refused(1, ["no/new.npy", "`no`"], *embed("imgs", "-o", "no/new.npy", toy=toy))
    refused(1, ["no/new.safetensors"], "convert-weights", "old.pth", "-o", "no/new.safetensors")
    refused(1, ["no/s.png"], "search", "row:0", "--index", "feats.npy", "--sheet", "no/s.png")


def test_the_output_is_a_folder(refused, here, toy):
    shutil.copy(toy.folder / "old.pth", here)
    (here / "x.npy").mkdir()
    (here / "x.safetensors").mkdir()
    refused(1, ["x.npy"], *embed("imgs", "-o", "x.npy", toy=toy))
    refused(1, ["imgs"], *embed("imgs", "-o", "imgs", toy=toy))
    refused(1, ["x.safetensors"], "convert-weights", "old.pth", "-o", "x.safetensors")
    refused(1, ["imgs"], "search", "row:0", "--index", "feats.npy", "--sheet", "imgs")


def test_the_output_folder_is_a_file(refused, here, toy):
    refused(1, ["feats.npy/new.npy"], *embed("imgs", "-o", "feats.npy/new.npy", toy=toy))


def test_the_output_folder_is_not_writable(here, toy):
    """As another user where this one is root, whom no permission stops; or on /proc or /sys."""
    if os.geteuid() != 0:
        folder = here / "locked"
        folder.mkdir(mode=0o555)
    else:
        folder = next(p for p in ("/sys/kernel", "/proc/self") if os.path.isdir(p))  # noqa: PTH112
    ran = process("embed", "imgs", "-o", f"{folder}/new.npy", "--model", toy.model, cwd=here)
    check_failure(ran, 1, f"{folder}/new.npy")
    line = ("train", toy.folder / "data", *TRAIN, "--runs", f"{folder}/runs")
    check_failure(process(*line, cwd=here), 1, f"{folder}/runs")


def test_a_run_that_exists(refused, here, toy):
    (here / "runs/one").mkdir(parents=True)
    refused(1, ["runs/one"], "train", toy.folder / "data", *TRAIN, "--name", "one")
    (here / "runs/two").write_text("a file")
    refused(1, ["runs/two"], "train", toy.folder / "data", *TRAIN, "--name", "two")


@pytest.mark.parametrize("name", ["../away", "a/b", ".", "ABSOLUTE"])
def test_a_name_that_leads_out_of_the_runs(refused, here, toy, name):
    """`--name` names a folder in `--runs`; `a/b` is never found again as the newest run."""
    name = name.replace("ABSOLUTE", str(here / "elsewhere"))
    refused(2, ["--name", name], "train", toy.folder / "data", *TRAIN, "--name", name)


def test_a_full_disk_while_embedding(refused, monkeypatch, toy):
    from cgdcli.index.rows import RowWriter

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RowWriter, "append", full)
    refused(
        1,
        ["feats.npy", "No space left"],
        *embed(toy.folder / "imgs", "-o", "feats.npy", "--rebuild", toy=toy),
    )


def test_output_over_something_that_is_no_index(refused, here, toy):
    (here / "mine.npy").write_text("mine")
    for rebuild in ((), ("--rebuild",)):
        refused(4, ["mine.npy"], *embed("imgs", "-o", "mine.npy", *rebuild, toy=toy))


def test_output_over_another_folders_index(refused, here, toy):
    ran = refused(4, ["feats.npy", toy.folder / "imgs"], *embed("imgs", "-o", "feats.npy", toy=toy))
    assert "--rebuild" in ran.err


# ---- values


def test_top_k_larger_than_the_gallery(cgd, here):
    ran = cgd("search", "row:0", "--index", "feats.npy", "-k", "1000000000", "--json")
    assert ran.code == 0 and len(json.loads(ran.out)[0]["hits"]) == 9


def test_unknown_descriptor_letter(refused, toy):
    ran = refused(2, ["'X'", "'SX'"], "train", toy.folder / "data", *TRAIN, "--descriptors", "SX")
    assert "--descriptors" in ran.err
    refused(2, ["'s'"], "train", toy.folder / "data", *TRAIN, "--descriptors", "sg")
    refused(2, ["'SS'"], "train", toy.folder / "data", *TRAIN, "--descriptors", "SS")
    refused(2, ["''"], "train", toy.folder / "data", *TRAIN, "--descriptors", "")


def test_indivisible_dimension(refused, toy):
    ran = refused(2, ["511", "SG"], "train", toy.folder / "data", *TRAIN, "--embedding-dim", "511")
    assert "--embedding-dim 51" in ran.err
    refused(2, ["0"], "train", toy.folder / "data", *TRAIN, "--embedding-dim", "0")


# ---- queries


def test_a_query_that_is_a_folder(refused):
    refused(1, ["imgs", "folder"], "search", "imgs", "--index", "feats.npy")


def test_a_query_that_is_a_text_file(refused, here):
    for name in ("notes.txt", "notes.jpg"):
        (here / name).write_text("hello")
        refused(1, [name, "not a picture"], "search", name, "--index", "feats.npy")


def test_a_query_that_is_not_there(refused):
    refused(1, ["gone.jpg"], "search", "gone.jpg", "--index", "feats.npy")


def test_a_query_that_is_missing_among_others_writes_no_sheet(refused):
    line = ("search", "row:0", "gone.jpg", "--index", "feats.npy", "--sheet", "sheet.png")
    refused(1, ["gone.jpg"], *line)


def test_an_index_that_is_not_there(refused):
    refused(1, ["gone.npy"], "search", "row:0", "--index", "gone.npy")
    refused(1, ["imgs"], "search", "row:0", "--index", "imgs")


def test_a_query_whose_name_has_brackets(cgd, here):
    """Square brackets are markup to the library that prints tables."""
    draw(here / "[red]a[/red].png", "red", 1)
    ran = cgd("search", "[red]a[/red].png", "--index", "feats.npy")
    assert ran.code == 0 and "[red]a[/red].png" in ran.out
