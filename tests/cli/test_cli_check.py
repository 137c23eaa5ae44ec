"""`cgd check` and the options that say how DATA is read."""

import json
import shutil

import pytest
from cli_toys import check_failure, draw, draw_classes, process


def benchmark(folder):
    """In-shop as it unpacks: red and green to train on, blue and yellow as query and gallery."""
    rows = [("train", "red"), ("train", "green")]
    rows += [(role, colour) for role in ("query", "gallery") for colour in ("blue", "yellow")]
    lines = ["12", "image_name item_id evaluation_status"]
    for place, (role, colour) in enumerate(rows):
        for number in (2 * place, 2 * place + 1):
            draw(folder / "Img" / "img" / colour / f"{number}.png", colour, number)
            lines.append(f"img/{colour}/{number}.png {colour} {role}")
    (folder / "Eval").mkdir()
    (folder / "Eval" / "list_eval_partition.txt").write_text("\n".join(lines))
    return folder


def test_sound_data_ends_with_0(cgd, tmp_path):
    draw_classes(tmp_path, "red green", 2)
    ran = cgd("check", tmp_path)
    assert ran.code == 0 and ran.err == ""
    assert "all            4         2" in ran.out
    assert "sound: 0 errors, 0 warnings; 4 pictures opened in" in ran.out


def test_what_would_spoil_a_run_ends_with_1_and_says_so(cgd, tmp_path):
    draw_classes(tmp_path / "train", "red green", 2)
    draw_classes(tmp_path / "test", "blue", 2, first=5)
    shutil.copy(tmp_path / "train/red/0.png", tmp_path / "test/blue/0.png")
    (tmp_path / "train/red/broken.png").write_bytes(b"no picture")
    ran = cgd("check", tmp_path)
    assert ran.code == 1
    assert "error: 1 picture: in several splits" in ran.out and "not sound: 2 errors" in ran.out
    assert "broken.png" in ran.out and "hint: " in ran.out
    check_failure(ran.__class__(1, "", ran.err), 1, "not sound", "broken, identical-across-splits")


def test_json_holds_the_whole_report(cgd, tmp_path):
    draw_classes(tmp_path, "red green", 2)
    shutil.copy(tmp_path / "red/0.png", tmp_path / "green/9.png")
    ran = cgd("check", tmp_path, "--json")
    report = json.loads(ran.out)
    assert ran.code == 0 and report["sound"] and report["dataset"] == "folders"
    (finding,) = report["findings"]
    assert finding["kind"] == "identical-labels" and len(finding["examples"]) == 1
    assert report["splits"] == [
        {"name": "all", "pictures": 5, "classes": 2, "queries": 5, "gallery": 5, "boxes": 0}
    ]


def test_what_train_would_refuse_by_its_held_out_classes_is_not_sound(cgd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "data", "blue", 2)
    for number in range(11):
        draw(tmp_path / f"data/lonely{number}" / "0.png", "green", 50 + number)
    ran = cgd("check", "data", "--quick")
    assert ran.code == 1 and "error: 2 classes of the held-out classes: with one" in ran.out
    assert "`cgd train` holds out by default (--val-fraction 0.2 --seed 0)" in ran.out
    check_failure(
        cgd("train", "data", "--backbone-weights", "none"), 1, "2 classes of the held-out classes"
    )


def test_verbose_shows_every_example(cgd, tmp_path):
    draw_classes(tmp_path, "red", 8)
    for number in range(5):
        draw(tmp_path / f"lonely{number}" / "0.png", "green", 50 + number)
    assert "lonely4" not in cgd("check", tmp_path, "--quick").out
    assert "lonely4" in cgd("check", tmp_path, "--quick", "-v").out


def test_quick_opens_no_picture(cgd, tmp_path):
    draw_classes(tmp_path, "red green", 2)
    (tmp_path / "red/broken.png").write_bytes(b"no picture")
    ran = cgd("check", tmp_path, "--quick")
    assert ran.code == 0 and "no picture opened" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("gone",), 1, "`gone` does not exist"),
        ((".", "--dataset", "cub"), 1, "CUB-200-2011"),
        ((".", "--crop-box"), 1, "no boxes"),
        ((".", "--dataset", "birds"), 2, "birds"),
    ],
)
def test_what_cannot_be_checked(cgd, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path, "red green", 2)
    check_failure(cgd("check", *arguments), code, words)


def test_as_a_process_on_a_benchmark(tmp_path):
    benchmark(tmp_path / "inshop")
    ran = process("check", "inshop", cwd=tmp_path)
    assert ran.code == 0 and "note: `inshop` is In-shop" in ran.out
    assert "queries" in ran.out and "published are 25882 pictures" in ran.out


def test_evaluate_asks_queries_in_their_gallery(cgd, in_toy, tmp_path):
    data = benchmark(tmp_path / "inshop")
    ran = cgd("evaluate", data, "--model", in_toy.model, "--json")
    report = json.loads(ran.out)
    assert ran.code == 0 and (report["queries"], report["gallery"]) == (4, 4)
    assert report["what"] == f"{data} (test)" and "In-shop" in ran.err


def test_evaluate_cuts_the_boxes_of_a_table_out(cgd, in_toy, tmp_path):
    """Two halves of one picture under two labels: only their boxes tell them apart."""
    from PIL import Image

    lines = ["path,label,x,y,w,h"]
    for number in range(3):
        wide = Image.new("RGB", (88, 36))
        for place, colour in enumerate(("red", "blue")):
            half = Image.open(draw(tmp_path / "half.png", colour, number))
            wide.paste(half, (44 * place, 0))
            lines.append(f"{number}.png,{colour},{44 * place},0,44,36")
        wide.save(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    cut = json.loads(cgd("evaluate", tmp_path / "t.csv", "--model", in_toy.model, "--json").out)
    draw_classes(tmp_path / "folders", "red blue", 3)
    apart = cgd("evaluate", tmp_path / "folders", "--model", in_toy.model, "--json")
    wanted = json.loads(apart.out)
    assert (cut["queries"], cut["labels"]) == (6, 2)
    assert cut["recall"] == wanted["recall"] and cut["map_at_r"] == pytest.approx(
        wanted["map_at_r"]
    )


@pytest.mark.parametrize("options", [("--dataset", "cub"), ("--crop-box",)])
def test_evaluate_refuses_them_without_data(cgd, in_toy, options):
    check_failure(cgd("evaluate", "--index", "feats.npy", *options), 2, "no DATA")


def test_train_says_what_the_quick_check_found_and_keeps_the_layout(cgd, tmp_path, monkeypatch):
    from cli_toys import SMALL

    monkeypatch.chdir(tmp_path)
    data = benchmark(tmp_path / "inshop")
    (data / "Img/img/red/0.png").write_bytes(b"")
    ran = cgd("train", "inshop", *SMALL, "--epochs", "1", "--dataset", "inshop", "--name", "r")
    assert ran.code == 3, ran.err  # the empty picture is skipped, and had been said before
    assert "note: 1 file: empty" in ran.err.split("epoch 1/1")[0]
    assert 'dataset = "inshop"' in (tmp_path / "runs/r/config.toml").read_text()
    result = json.loads((tmp_path / "runs/r/result.json").read_text())
    assert (result["test"]["queries"], result["test"]["gallery"]) == (4, 4)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["picture,label", "0.png,a"], ("`path` and `label`", "picture")),
        (["path,label,split", "0.png,a,trial"], ("row 2", "`trial`", "train, val or test")),
        (["path,label", "0.png,a", "9.png,b"], ("9.png", "does not exist", "1 of 2")),
        (["path,label,x,y,w,h", "0.png,a,-4,0,9,9"], ("row 2", "outside the picture", "-4")),
        (["path,label", "0.png,a", "0.png,b"], ("row 3", "repeats row 2")),
        (["path,label,split", "0.png,a,test"], ("test but no train",)),
    ],
)
def test_a_bad_table_stops_training_before_it_begins(cgd, tmp_path, monkeypatch, lines, words):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "0.png", "red", 0)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    check_failure(cgd("train", "t.csv", "--backbone-weights", "none"), 1, "t.csv", *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--dataset", "folders"), "1 class"), (("--dataset", "sop"), "Online Products")],
)
def test_train_reads_the_layout_that_is_named(cgd, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    data = benchmark(tmp_path / "inshop")
    (data / "notes").mkdir()  # as class folders: all pictures lie in Img
    check_failure(cgd("train", data, *options, "--backbone-weights", "none"), 1, words)


def test_train_cuts_boxes_out_on_wish(cgd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = benchmark(tmp_path / "inshop")
    ran = cgd("train", data, "--crop-box", "--backbone-weights", "none")
    check_failure(ran, 1, "list_bbox_inshop.txt")  # which this copy lacks
