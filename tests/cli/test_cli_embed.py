"""`cgd embed`: what is read, what is passed over, and what is never written over."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from cli_toys import (
    check_failure,
    contents,
    draw,
    draw_classes,
    environment,
    picture,
    process,
)
from PIL import Image

from cgdcli.index.store import EmbeddingIndex
from cgdcli.locks import writer_lock


@pytest.fixture
def imgs(in_toy, tmp_path, monkeypatch):
    """A copy of the pictures, in a folder of its own that is the current one."""
    shutil.copytree("imgs", tmp_path / "imgs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "imgs"


@pytest.fixture
def embed(cgd, toy):
    def run(*arguments, model=None):
        return cgd("embed", *arguments, "--model", model or toy.model)

    return run


def table(file):
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        return database.execute("SELECT path, label FROM pictures ORDER BY row").fetchall()


def report(ran, code=0):
    assert ran.code == code, ran.err
    return json.loads(ran.out)


# ---- what is read


def test_broken_pictures_are_skipped_counted_and_listed(embed, imgs):
    (imgs / "red/zero.jpg").write_bytes(b"")
    (imgs / "red/text.jpg").write_text("this is a text")
    whole = (draw(imgs / "red/whole.jpg", "red", 5)).read_bytes()
    (imgs / "red/cut.jpg").write_bytes(whole[: len(whole) // 2])
    found = report(embed("imgs", "-o", "f.npy", "--json"), 3)
    assert found["rows"] == 10
    skipped = {entry["path"].rsplit("/", 1)[1]: entry["reason"] for entry in found["skipped"]}
    assert set(skipped) == {"zero.jpg", "text.jpg", "cut.jpg"}
    assert "0 bytes" in skipped["zero.jpg"] and "not a picture" in skipped["text.jpg"]
    ran = embed("imgs", "-o", "f.npy")
    assert "skipped 3 pictures" in ran.err
    assert all(name in ran.err for name in skipped)


def test_other_files_are_passed_over_and_not_counted_as_skipped(embed, imgs):
    for name in ("Thumbs.db", "clip.mov", "notes.txt", "README", ".DS_Store", "._1.jpg"):
        (imgs / name).write_bytes(b"x")
    (imgs / ".hidden").mkdir()
    (imgs / ".hidden/1.jpg").write_bytes(b"x")
    found = report(embed("imgs", "-o", "f.npy", "--json"))
    assert found["rows"] == 9 and found["skipped"] == [] and found["passed_over"] == 4
    assert "passed over 4" in embed("imgs", "-o", "f.npy").err


def odd_pictures(folder):
    """Every kind that must be read, not skipped."""
    folder.mkdir()
    base = picture("green", 3)
    base.convert("CMYK").save(folder / "cmyk.jpg")
    base.convert("L").save(folder / "grey.png")
    base.convert("LA").save(folder / "grey-alpha.png")
    base.convert("1").save(folder / "bilevel.png")
    base.convert("P").save(folder / "palette.png")
    base.convert("P").save(folder / "palette-transparent.png", transparency=0)
    base.convert("RGBA").save(folder / "rgba.png")
    Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257).save(folder / "16.png")
    Image.fromarray(np.asarray(base.convert("L")).astype(np.float32) / 255).save(folder / "f.tif")
    base.save(folder / "animated.gif", save_all=True, append_images=[picture("red", 1)])
    base.save(folder / "animated.webp", save_all=True, append_images=[picture("red", 1)])
    base.crop((0, 0, 1, 1)).save(folder / "one-pixel.png")
    base.crop((0, 0, 1, 1)).save(folder / "one-pixel.jpg")
    base.resize((2000, 1)).save(folder / "line.png")
    base.save(folder / "UPPER.JPG", format="JPEG")
    base.convert("L").save(folder / "progressive.jpeg", progressive=True)
    return folder


def test_every_kind_of_picture_is_read(embed, in_toy, tmp_path):
    folder = odd_pictures(tmp_path / "odd")
    found = report(embed(folder, "-o", tmp_path / "f.npy", "--json"))
    assert found["rows"] == len(list(folder.iterdir())) and found["skipped"] == []
    rows = np.load(tmp_path / "f.npy")
    assert np.isfinite(rows).all()
    named = {path: row for (path, _), row in zip(table(tmp_path / "f.sqlite"), rows, strict=True)}
    # 16 bits of the same greys are the same picture; RGBA without transparency too.
    assert named["16.png"] @ named["grey.png"] == pytest.approx(1, abs=1e-4)
    assert named["animated.gif"] @ named["palette.png"] > 0.99


def test_exif_orientation(embed, in_toy, tmp_path):
    upright = picture("green", 7)
    (tmp_path / "p").mkdir()
    upright.save(tmp_path / "p/a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "p/b.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "p/c.png")
    assert embed(tmp_path / "p", "-o", tmp_path / "f.npy").code == 0
    a, b, c = np.load(tmp_path / "f.npy")
    assert np.abs(a - b).max() < 1e-6
    assert np.abs(a - c).max() > 1e-4


def test_one_picture_alone_is_the_same_as_in_a_folder(embed, in_toy, tmp_path):
    assert embed("imgs/red/11.png", "-o", tmp_path / "one.npy").code == 0
    (alone,) = np.load(tmp_path / "one.npy")
    paths = [path for path, _ in table(in_toy.folder / "feats.sqlite")]
    together = np.load("feats.npy")[paths.index("red/11.png")]
    assert np.abs(alone - together).max() < 1e-5


def test_batch_size_and_workers_change_nothing(embed, in_toy, tmp_path):
    ran = embed("imgs", "-o", tmp_path / "f.npy", "--batch-size", "2", "--workers", "3")
    assert ran.code == 0
    assert np.abs(np.load(tmp_path / "f.npy") - np.load("feats.npy")).max() < 1e-5


def test_rows_are_in_byte_order_of_path(embed, in_toy, tmp_path):
    names = ["b.png", "B.png", "a/z.png", "a.png", "a-b.png", "10.png", "9.png", "é.png", "z.png"]
    for number, name in enumerate(names):
        draw(tmp_path / "p" / name, "red", number)
    assert embed(tmp_path / "p", "-o", tmp_path / "f.npy").code == 0
    paths = [path for path, _ in table(tmp_path / "f.sqlite")]
    assert paths == sorted(names, key=str.encode)


def test_the_order_of_the_sources_does_not_matter(embed, in_toy, tmp_path):
    """Rows in byte order of path at a build: `imgs/*` in any order gives the same index."""
    assert embed("imgs/red", "imgs/blue", "-o", tmp_path / "a.npy").code == 0
    assert embed("imgs/blue", "imgs/red", "-o", tmp_path / "b.npy").code == 0
    a, b = (list(EmbeddingIndex.open(tmp_path / f"{n}.npy").pictures()) for n in "ab")
    files = [str(p.root / p.path) for _, p in a]
    assert files == [str(p.root / p.path) for _, p in b]
    assert files == sorted(files, key=str.encode)


def test_a_picture_given_twice_is_one_row(embed, in_toy, tmp_path):
    ran = embed("imgs", "imgs/red", "imgs/red/10.png", "-o", tmp_path / "f.npy", "--json")
    assert report(ran)["rows"] == 9


def test_a_link_back_up_ends(embed, imgs):
    (imgs / "red/up").symlink_to(imgs)
    assert report(embed("imgs", "-o", "f.npy", "--json"))["rows"] == 9


# ---- labels


def test_labels_of_the_folder_none_and_a_table(embed, imgs):
    embed("imgs", "-o", "folder.npy")
    assert {label for _, label in table("folder.sqlite")} == {"red", "green", "blue"}
    embed("imgs", "-o", "none.npy", "--labels", "none")
    assert {label for _, label in table("none.sqlite")} == {None}
    with open("labels.csv", "w") as file:  # noqa: PTH123
        file.write('path,label\nimgs/red/10.png,"a, b"\nred/11.png,beside\n')
        file.write(f"{imgs}/red/12.png,absolute\n")
    embed("imgs", "-o", "csv.npy", "--labels", "labels.csv")
    labels = dict(table("csv.sqlite"))
    assert labels.pop("red/10.png") == "a, b"
    assert labels.pop("red/11.png") == "beside"
    assert labels.pop("red/12.png") == "absolute"
    assert set(labels.values()) == {None}


def test_a_flat_folder_has_no_labels(embed, in_toy, tmp_path):
    assert embed("imgs/red", "-o", tmp_path / "f.npy").code == 0
    assert {label for _, label in table(tmp_path / "f.sqlite")} == {None}


def test_a_table_saved_by_a_spreadsheet(embed, imgs):
    """Excel's `CSV UTF-8` begins with a byte order mark."""
    with open("labels.csv", "w", encoding="utf-8-sig") as file:  # noqa: PTH123
        file.write("path,label\r\nimgs/red/10.png,mine\r\n")
    ran = embed("imgs", "-o", "f.npy", "--labels", "labels.csv")
    assert ran.code == 0, ran.err
    assert dict(table("f.sqlite"))["red/10.png"] == "mine"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "labels.csv"),
        ("", "labels.csv"),
        ("file;class\na.png;x\n", "file;class"),
        ("path,label\ngone.png,x\n", "labels.csv"),  # not one picture of it is there: a mistake
        (b"\xff\xfe\x00path", "labels.csv"),
    ],
    ids=["missing", "empty", "columns", "matches nothing", "binary"],
)
def test_tables_that_do_not_do(embed, imgs, content, word):
    if content is not None:
        with open("labels.csv", "wb") as file:  # noqa: PTH123
            file.write(content if isinstance(content, bytes) else content.encode())
    before = contents(imgs.parent)
    check_failure(embed("imgs", "-o", "f.npy", "--labels", "labels.csv"), 1, word)
    assert contents(imgs.parent) == before


def test_a_table_with_a_short_line(embed, imgs):
    with open("labels.csv", "w") as file:  # noqa: PTH123
        file.write("path,label\nimgs/red/10.png\n\nimgs/red/11.png,x\n")
    ran = embed("imgs", "-o", "f.npy", "--labels", "labels.csv")
    assert ran.code == 0 and dict(table("f.sqlite"))["red/11.png"] == "x"


@pytest.mark.parametrize(
    ("text", "word"),
    [("label,path\nx\n", "row 2 of `labels.csv`"), ("path,label\na.png,x,y\n", "line 2 of `lab")],
)
def test_a_table_with_a_line_that_names_no_picture_or_too_much(embed, imgs, text, word):
    with open("labels.csv", "w") as file:  # noqa: PTH123
        file.write(text)
    check_failure(embed("imgs", "-o", "f.npy", "--labels", "labels.csv"), 1, word)


# ---- the same line again


def test_the_same_line_again_refreshes(embed, imgs):
    assert report(embed("imgs", "-o", "f.npy", "--json"))["rows"] == 9
    before = np.load("f.npy")
    draw(imgs / "red/99.png", "red", 99)
    (imgs / "blue/10.png").unlink()
    assert report(embed("imgs", "-o", "f.npy", "--json"))["rows"] == 9
    paths = [path for path, _ in table("f.sqlite")]
    assert "red/99.png" in paths and "blue/10.png" not in paths
    assert np.abs(np.load("f.npy")[0] - before[1]).max() < 1e-5
    assert sorted(p.name for p in imgs.parent.iterdir()) == ["f.npy", "f.sqlite", "imgs"]


def test_the_same_line_from_another_folder_refreshes(embed, imgs, monkeypatch):
    assert embed("imgs", "-o", "f.npy").code == 0
    monkeypatch.chdir(imgs)
    assert embed(".", "-o", "../f.npy").code == 0


def test_other_sources_or_another_model_want_rebuild(embed, imgs, toy):
    assert embed("imgs", "-o", "f.npy").code == 0
    before = contents(imgs.parent)
    other = toy.folder / "old.safetensors"
    ran = embed("imgs/red", "-o", "f.npy")
    check_failure(ran, 4, "f.npy", imgs)
    assert "--rebuild" in ran.err
    ran = embed("imgs", "-o", "f.npy", model=other)
    check_failure(ran, 4, "f.npy", toy.model, "runs")
    assert "--rebuild" in ran.err
    assert contents(imgs.parent) == before
    assert report(embed("imgs/red", "-o", "f.npy", "--rebuild", "--json"))["rows"] == 3
    found = report(embed("imgs", "-o", "f.npy", "--rebuild", "--json", model=other))
    assert (found["rows"], found["embedding_dim"]) == (9, 256)
    assert EmbeddingIndex.open("f.npy").dim == 256


@pytest.mark.parametrize("rebuild", [(), ("--rebuild",)], ids=["", "rebuild"])
@pytest.mark.parametrize(
    "make",
    [
        lambda f: np.save(f / "f.npy", np.eye(4, dtype=np.float32)),
        lambda f: (f / "f.npy").write_text("my notes"),
        lambda f: (f / "f.npy").touch(),
        lambda f: (f / "f.sqlite").write_text("my other notes"),
        lambda f: sqlite3.connect(f / "f.sqlite").execute("CREATE TABLE header (a)").connection,
        lambda f: (f / "f.sqlite").mkdir(),
    ],
    ids=["array", "text", "empty", "text sqlite", "foreign sqlite", "folder sqlite"],
)
def test_what_is_no_index_is_never_written_over(embed, in_toy, tmp_path, make, rebuild):
    make(tmp_path)
    before = contents(tmp_path)
    ran = embed("imgs", "-o", tmp_path / "f.npy", *rebuild)
    check_failure(ran, 4, tmp_path / "f.npy")
    assert contents(tmp_path) == before


def test_an_array_beside_a_table_of_another_index_is_never_written_over(embed, imgs):
    """`f.sqlite` is an index's, but `f.npy` is a stranger's array: not ours to replace."""
    assert embed("imgs", "-o", "f.npy").code == 0
    np.save("f.npy", np.arange(12.0).reshape(3, 4))
    before = contents(imgs.parent)
    for rebuild in ((), ("--rebuild",)):
        check_failure(embed("imgs", "-o", "f.npy", *rebuild), 4, "f.npy")
        assert contents(imgs.parent) == before


@pytest.mark.parametrize("name", ["f.txt", "f.npz", "f.jpg"])
def test_another_suffix(embed, in_toy, tmp_path, name):
    check_failure(embed("imgs", "-o", tmp_path / name), 1, name, ".npy")
    assert not list(tmp_path.iterdir())


def test_the_index_without_its_suffix(embed, in_toy, tmp_path):
    assert embed("imgs", "-o", tmp_path / "f").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npy", "f.sqlite"]


def test_a_name_with_a_dot_is_no_suffix(embed, in_toy, tmp_path):
    ran = embed("imgs", "-o", tmp_path / "feats.v2.npy")
    assert ran.code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["feats.v2.npy", "feats.v2.sqlite"]


def test_another_writer_is_told_and_a_dead_one_taken_over(embed, in_toy, tmp_path):
    import socket

    lock = tmp_path / "f.npy.lock"
    with writer_lock(tmp_path / "f.npy"):
        check_failure(embed("imgs", "-o", tmp_path / "f.npy"), 1, "f.npy", os.getpid())
        assert [file.name for file in tmp_path.iterdir()] == ["f.npy.lock"]
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 - 3}))
    assert embed("imgs", "-o", tmp_path / "f.npy").code == 0
    assert not lock.exists()


def test_ctrl_c_leaves_the_old_index(embed, imgs, monkeypatch):
    from cgdcli.index.builder import IndexBuilder

    assert embed("imgs", "-o", "f.npy").code == 0
    draw(imgs / "red/99.png", "red", 99)
    before = contents(imgs.parent)

    def interrupted(*_):
        raise KeyboardInterrupt

    real = IndexBuilder.finish
    monkeypatch.setattr(IndexBuilder, "finish", interrupted)
    ran = embed("imgs", "-o", "f.npy")
    assert ran.code == 130 and ran.out == ""
    assert "Ctrl-C" in ran.err
    assert "1 finished picture kept: the same command goes on from there" in ran.err
    after = contents(imgs.parent)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {".f.npy.part", ".f.sqlite.part"}
    assert len(EmbeddingIndex.open("f.npy")) == 9
    monkeypatch.setattr(IndexBuilder, "finish", real)
    ran = embed("imgs", "-o", "f.npy")
    assert (ran.code, "0 embedded, 10 kept" in ran.err) == (0, True)
    assert sorted(p.name for p in imgs.parent.iterdir()) == ["f.npy", "f.sqlite", "imgs"]


def test_a_run_as_the_model(cgd, in_toy, tmp_path):
    assert cgd("embed", "imgs", "-o", tmp_path / "f.npy", "--model", in_toy.run).code == 0


def test_a_backbone_as_the_model_without_a_network(in_toy, tmp_path):
    """torchvision's download says `Downloading: ...` by itself: not on our stdout."""
    ran = process(
        *("embed", "imgs", "-o", tmp_path / "g.npy", "--model", "resnet18"),
        cwd=in_toy.folder,
        TORCH_HOME=str(tmp_path / "cache"),
        https_proxy="http://127.0.0.1:9",
    )
    assert "Downloading" not in ran.out
    assert ran.code == 1 and "error: " in ran.err and "resnet18" in ran.err
    assert str(tmp_path / "cache") in ran.err and "--model" in ran.err
    assert not (tmp_path / "g.npy").exists()


def test_a_plain_torchvision_file_as_the_model(cgd, in_toy, tmp_path):
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "plain.pth")
    index = tmp_path / "f.npy"
    ran = cgd("embed", "imgs", "-o", index, "--model", tmp_path / "plain.pth", "--json")
    assert report(ran)["embedding_dim"] == 1024
    ran = cgd("search", "imgs/red/10.png", "--index", index, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)[0]["hits"][0]["path"] == "imgs/red/10.png"


def test_a_reference_file_as_the_model_says_to_convert_it(embed, in_toy, tmp_path):
    ran = embed("imgs", "-o", tmp_path / "f.npy", model="old.pth")
    check_failure(ran, 1, "old.pth")
    assert "cgd convert-weights" in ran.err


def test_classes_below_a_split_are_labels(embed, in_toy, tmp_path):
    draw_classes(tmp_path / "d/train", "red blue", 1)
    draw_classes(tmp_path / "d/test", "green", 1)
    assert embed(tmp_path / "d", "-o", tmp_path / "f.npy").code == 0
    assert {label for _, label in table(tmp_path / "f.sqlite")} == {"red", "blue", "green"}


# ---- what is embedded of a folder, and again


def test_patterns_lists_and_what_is_left_out(embed, imgs):
    found = report(embed("imgs/*/1?.png", "-o", "f.npy", "--exclude", "blue", "--json"))
    assert (found["rows"], found["excluded"]) == (6, 3)
    assert {label for _, label in table("f.sqlite")} == {"red", "green"}
    (imgs.parent / "list").write_text("imgs/red/10.png\nimgs/blue/11.png\nimgs/gone.png\n")
    ran = embed("--files-from", "list", "-o", "l.npy", "--json")
    found = report(ran, 3)
    assert found["rows"] == 2
    assert found["skipped"][0]["reason"] == "cannot be read: No such file or directory"
    assert table("l.sqlite") == [("imgs/blue/11.png", "blue"), ("imgs/red/10.png", "red")]
    (imgs.parent / "list").write_text("imgs/red/10.png\n")
    assert report(embed("--files-from", "list", "-o", "l.npy", "--json"))["dropped"] == 1


def test_a_list_from_stdin_with_nul(imgs, toy):
    odd = imgs / "two\nlines.png"
    (imgs / "red/10.png").rename(odd)
    names = b"\0".join(os.fsencode(p) for p in imgs.rglob("*.png")) + b"\0"
    line = [sys.executable, "-m", "cgdcli", "embed"]
    done = subprocess.run(
        [*line, "--files-from", "-", "-0", "-o", "f.npy", "--model", str(toy.model)],
        input=names,
        cwd=imgs.parent,
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert b"9 rows" in done.stderr
    assert "imgs/two\nlines.png" in [path for path, _ in table("f.sqlite")]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ((), "IMAGES"),
        (("imgs", "--files-from", "list"), "not both"),
        (("imgs", "-0"), "-0"),
        (("imgs", "--max-megapixels", "0"), "--max-megapixels"),
    ],
)
def test_lines_that_say_too_little_or_too_much(embed, imgs, line, word):
    check_failure(embed(*line, "-o", "f.npy"), 2, word)


@pytest.mark.parametrize(("content", "word"), [(None, "cannot read the list"), (b"", "is empty")])
def test_lists_that_do_not_do(embed, imgs, content, word):
    if content is not None:
        (imgs.parent / "list").write_bytes(content)
    check_failure(embed("--files-from", "list", "-o", "f.npy"), 1, word)


def test_a_reduced_precision_end_to_end(embed, imgs):
    """Checked, recorded, gone on with unasked, and never mixed with another."""
    for folder in ("red", "green", "blue"):  # each picture's nearest is then its copy
        shutil.copytree(imgs / folder, imgs / f"{folder}-again")
        shutil.copytree(imgs / folder, imgs / f"{folder}-once-more")
    ran = embed("imgs", "-o", "f.npy", "--precision", "bf16")
    assert (ran.code, "precision bf16" in ran.err) == (0, True), ran.err
    header = EmbeddingIndex.open("f.npy").header
    assert header.precision == "bf16" and header.parity["neighbours"] >= 0.95
    again = embed("imgs", "-o", "f.npy", "--precision", "bf16")
    assert again.code == 0 and "cosine" not in again.err
    check_failure(embed("imgs", "-o", "f.npy"), 4, "bf16", "fp32")


def test_int8_where_openvino_is_not(embed, imgs):
    ran = embed("imgs", "-o", "f.npy", "--precision", "int8")
    check_failure(ran, 2, "OpenVINO is not installed", "int8")


def test_the_summary_of_a_refresh(embed, imgs):
    embed("imgs", "-o", "f.npy")
    assert "nothing was new, changed or gone" in embed("imgs", "-o", "f.npy").err
    draw(imgs / "red/99.png", "red", 99)
    (imgs / "blue/10.png").unlink()
    (imgs / "blue/11.png").rename(imgs / "blue/again.png")
    ran = embed("imgs", "-o", "f.npy")
    assert "1 embedded, 8 kept, 1 of them renamed, 1 dropped" in ran.err
    ran = embed("imgs", "-o", "f.npy", "--labels", "none")
    assert "0 embedded, 9 kept, 9 of them with another label" in ran.err


def test_large_pictures_are_let_in_by_the_option(embed, imgs):
    ran = embed("imgs", "-o", "f.npy", "--max-megapixels", "0.001")
    check_failure(ran, 1, "megapixels", "--max-megapixels")


def test_where_the_time_went(embed, imgs):
    done = embed("imgs", "-o", "f.npy", "-v")
    (line,) = [line for line in done.err.splitlines() if line.startswith("time, ")]
    parts = {name: float(s) for name, s in re.findall(r"(\w+) (\d+\.\d\d) s", line)}
    assert list(parts) == ["decode", "transform", "forward", "write", "end"]
    assert parts["forward"] > 0 and sum(parts.values()) < 3 * parts["end"]
    again = embed("imgs", "-o", "f.npy", "-v")
    assert "nothing was new" in again.err and "time, " not in again.err
