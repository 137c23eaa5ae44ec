"""`cgd evaluate`: a model on folders, an index, queries in a gallery."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_toys import check_failure, draw, draw_classes

sys.path.insert(0, str(Path(__file__).parents[1] / "auditing"))
sys.path.insert(0, str(Path(__file__).parents[1] / "judging"))
from judgements import clustered
from made_index import draw as dot
from made_index import index_of

KEYS = {"recall", "map_at_r", "queries", "gallery"}


def judged(ran):
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert set(report) >= KEYS
    assert list(report["recall"]) == ["1", "2", "4", "8"]
    shares = list(report["recall"].values())
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    return report


def naive(rows, labels):
    """Recall@1,2,4,8 and mAP@R, query by query."""
    recall, precisions = {1: 0, 2: 0, 4: 0, 8: 0}, []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j: (-float(row.astype(float) @ rows[j].astype(float)), j))
        right = [labels[j] == labels[i] for j in others]
        for k in recall:
            recall[k] += any(right[:k]) / len(rows)
        total = sum(right)
        if total:
            terms = [sum(right[: p + 1]) / (p + 1) for p in range(total) if right[p]]
            precisions.append(sum(terms) / total)
    return recall, float(np.mean(precisions))


def test_an_index(cgd, in_toy):
    report = judged(cgd("evaluate", "--index", "feats.npy", "--json"))
    assert report["queries"] == report["gallery"] == 9 and report["labels"] == 3
    rows = [json.loads(x) for x in cgd("inspect", "feats.npy", "--rows").out.splitlines()]
    recall, precision = naive(np.load("feats.npy"), [row["label"] for row in rows])
    assert {int(k): v for k, v in report["recall"].items()} == pytest.approx(recall)
    assert report["map_at_r"] == pytest.approx(precision)


def test_a_model_on_a_folder_gives_what_its_index_gives(cgd, in_toy):
    a = judged(cgd("evaluate", "imgs", "--model", in_toy.model, "--json"))
    b = judged(cgd("evaluate", "--index", "feats.npy", "--json"))
    assert {key: a[key] for key in KEYS} == {key: b[key] for key in KEYS}


def test_the_table_and_the_default_model(cgd, in_toy):
    ran = cgd("evaluate", "imgs")
    assert ran.code == 0 and "newest finished run" in ran.err
    assert "Recall@1" in ran.out and "mAP@R" in ran.out and "9 queries" in ran.out


def test_queries_in_a_gallery(cgd, in_toy):
    report = judged(
        cgd("evaluate", "--query", "imgs", "--gallery", "data", "--model", in_toy.model, "--json")
    )
    assert (report["queries"], report["gallery"]) == (9, 12)


def test_the_same_folder_as_query_and_gallery_finds_itself(cgd, in_toy):
    same = ("--query", "imgs", "--gallery", "imgs", "--model", in_toy.model, "--json")
    assert judged(cgd("evaluate", *same))["recall"]["1"] == 1  # nothing is left out there


def test_of_a_layout_with_test_the_test_part_is_judged(cgd, in_toy, tmp_path):
    draw_classes(tmp_path / "train", "red blue", 2)
    draw_classes(tmp_path / "test", "green yellow", 3)
    report = judged(cgd("evaluate", tmp_path, "--model", in_toy.model, "--json"))
    assert report["queries"] == 6 and "test" in report["what"]


def test_a_query_without_partner_is_counted_and_named(cgd, in_toy, tmp_path):
    draw_classes(tmp_path / "c", "red blue", 2)
    draw(tmp_path / "c/lonely/only.png", "green", 1)
    ran = cgd("evaluate", tmp_path / "c", "--model", in_toy.model, "--json")
    report = judged(ran)
    assert report["queries"] == 5 and report["without_partner"] == 1
    assert report["recall"]["8"] <= 4 / 5  # it stays in the denominator
    shown = cgd("evaluate", tmp_path / "c", "--model", in_toy.model)
    assert "1 quer" in shown.out + shown.err
    assert "lonely" in ran.out + ran.err  # which one
    assert "lonely" in shown.out + shown.err


def test_nobody_has_a_partner(cgd, in_toy, tmp_path):
    draw_classes(tmp_path / "c", "red blue green", 1)
    report = judged(cgd("evaluate", tmp_path / "c", "--model", in_toy.model, "--json"))
    assert report["map_at_r"] is None and report["without_partner"] == 3
    assert set(report["recall"].values()) == {0}


def test_ranks(cgd, in_toy):
    report = json.loads(cgd("evaluate", "--index", "feats.npy", "--ranks", "3,1", "--json").out)
    assert set(report["recall"]) == {"1", "3"}
    for bad in ("0", "x", "", "1,-2"):
        ran = cgd("evaluate", "--index", "feats.npy", "--ranks", bad)
        check_failure(ran, 2, repr(bad))


def test_a_broken_picture_is_3(cgd, in_toy, tmp_path):
    draw_classes(tmp_path / "c", "red blue", 2)
    (tmp_path / "c/red/0.png").write_bytes(b"")
    ran = cgd("evaluate", tmp_path / "c", "--model", in_toy.model, "--json")
    assert ran.code == 3 and json.loads(ran.out)["queries"] == 3
    assert "red/0.png" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("imgs", "--index", "feats.npy"),
        ("--query", "imgs"),
        ("--gallery", "imgs"),
        ("imgs", "--query", "imgs", "--gallery", "imgs"),
        ("--index", "feats.npy", "--query", "imgs"),
        ("--index", "feats.npy", "--model", "old.safetensors"),  # would be ignored in silence
    ],
    ids=" ".join,
)
def test_wrong_combinations(cgd, in_toy, arguments):
    check_failure(cgd("evaluate", *arguments), 2)


def test_an_index_without_labels(cgd, in_toy, tmp_path):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    check_failure(cgd("evaluate", "--index", bare), 1, "bare.npy", "label")


def test_folders_that_do_not_do(cgd, in_toy, tmp_path):
    draw(tmp_path / "flat/1.png", "red", 1)
    (tmp_path / "empty").mkdir()
    for name in ("flat", "empty", "gone"):
        ran = cgd("evaluate", tmp_path / name, "--model", in_toy.model)
        check_failure(ran, 1, tmp_path / name)
    ran = cgd("evaluate", "query.jpg", "--model", in_toy.model)
    check_failure(ran, 1, "query.jpg")


# Intervals, classes, confusions, roles, and two indexes: of made-up rows


@pytest.fixture
def crowd(tmp_path, monkeypatch):
    """Two indexes of the same forty pictures, the second with tighter classes; and a table."""
    monkeypatch.chdir(tmp_path)
    labels = [f"c{i // 5}" for i in range(40)]
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    for i, name in enumerate(names):
        dot(tmp_path / "imgs" / name, (6 * i, 1, 1))
    for name, spread in (("a.npy", 1.6), ("b.npy", 0.3)):
        rows, _ = clustered(classes=8, each=5, spread=spread)
        index_of(tmp_path / name, rows, names, tmp_path / "imgs", labels)
    lines = (f"{n},{x},{i % 2},{int(i % 5 == 0)},{int(i % 5 != 0)}"
             for i, (n, x) in enumerate(zip(names, labels, strict=True)))  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["path,label,scene,is_query,is_gallery", *lines]))
    return tmp_path


def test_each_figure_with_its_interval(cgd, crowd):
    report = json.loads(cgd("evaluate", "--index", "a.npy", "--json").out)
    measures = {m["name"]: m for m in report["measures"]}
    assert list(measures) == ["Recall@1", "Recall@2", "Recall@4", "Recall@8", "mAP@R"]
    one = measures["Recall@1"]
    assert one["low"] < one["value"] == report["recall"]["1"] < one["high"]
    out = cgd("evaluate", "--index", "a.npy").out
    assert f"{100 * one['value']:.2f} %" in out
    assert f"[{100 * one['low']:.1f} {100 * one['high']:.1f}]" in out and "bootstrap" in out


def test_classes_and_confusions(cgd, crowd):
    ran = cgd("evaluate", "--index", "a.npy", "--per-class", "--confused", "3", "--json")
    report = json.loads(ran.out)
    assert len(report["classes"]) == 8 and len(report["confused"]) == 3
    ran = cgd("evaluate", "--index", "a.npy", "--per-class", "--confused", "3")
    worst, pair = report["classes"][0], report["confused"][0]
    lines = [line.split() for line in ran.out.splitlines()]
    classes = [line for line in lines if line and line[0][0] == "c" and line[1:2] == ["5"]]
    assert len(classes) == 8 and classes[0][0] == worst["label"]
    assert f"{pair['first_as_second']} of 5" in ran.out and "A as B" in ran.out


def test_odd_labels_are_shown(cgd, crowd):
    labels = [("caf\udce9", "a\nb", "lonely\x1b")[i % 3] for i in range(38)]
    labels += ["only\udcff"]
    names = [f"c{i // 5}/{i}.png" for i in range(39)]
    index_of(crowd / "odd.npy", np.load("a.npy")[:39], names, crowd / "imgs", labels)
    ran = cgd("evaluate", "--index", "odd.npy", "--per-class", "--confused", "5")
    assert ran.code == 0, ran.err
    for shown in (r"caf\xe9", r"a\nb", r"lonely\x1b", r"only\xff"):
        assert shown in ran.out


def test_roles_and_scenes_by_a_table(cgd, crowd):
    plain = json.loads(cgd("evaluate", "--index", "a.npy", "--table", "t.csv", "--json").out)
    assert (plain["queries"], plain["gallery"]) == (8, 32)
    ran = cgd("evaluate", "--index", "a.npy", "--table", "t.csv", "--ignore-same", "scene")
    assert ran.code == 0 and "query's label and `scene` are ignored" in ran.out


def test_a_table_as_data_has_the_column(cgd, in_toy, tmp_path):
    """All of red are of one scene, so that nothing is left to be found for them."""
    lines = [
        f"{in_toy.folder}/imgs/{colour}/{i}.png,{colour},{0 if colour == 'red' else i}"
        for colour in ("red", "green", "blue")
        for i in (10, 11, 12)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,scene", *lines]))
    arguments = ("evaluate", tmp_path / "t.csv", "--model", in_toy.model, "--json")
    assert json.loads(cgd(*arguments).out)["without_partner"] == 0
    report = json.loads(cgd(*arguments, "--ignore-same", "scene").out)
    assert report["without_partner"] == 3 and report["lonely_labels"] == ["red"]
    ran = cgd("evaluate", "imgs", "--model", in_toy.model, "--ignore-same", "scene")
    check_failure(ran, 2, "no table")


def test_which_of_two_indexes_is_better(cgd, crowd):
    ran = cgd("evaluate", "--index", "a.npy", "--against", "b.npy")
    assert ran.code == 0, ran.err
    assert re.search(r"mAP@R: B is better by [\d.]+ ± [\d.]+ points \(95 % interval", ran.out)
    assert "40 queries of 8 classes in 40 rows, the same for both, matched by path" in ran.out
    report = json.loads(cgd("evaluate", "--index", "a.npy", "--against", "b.npy", "--json").out)
    figures = json.loads(cgd("evaluate", "--index", "b.npy", "--json").out)
    assert report["differences"][0]["second"] == pytest.approx(figures["recall"]["1"])


def test_two_indexes_of_other_pictures_are_4(cgd, crowd, in_toy, tmp_path):
    ran = cgd("evaluate", "--index", tmp_path / "a.npy", "--against", in_toy.index)
    check_failure(ran, 4, "40 labelled", "0 are in both")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--index", "a.npy", "--against", "b.npy", "--per-class"), "--per-class"),
        (("--index", "a.npy", "--against", "b.npy", "--model", "x"), "--model"),
        (("imgs", "--index", "a.npy", "--against", "b.npy"), "DATA"),
        (("imgs", "--against", "b.npy"), "there is no first"),
        (("imgs", "--flip", "--per-class"), "--per-class"),
        (("--index", "a.npy", "--steps", "--against", "b.npy"), "--against"),
        (("--index", "a.npy", "--ignore-same", "scene"), "no table"),
        (("imgs", "--table", "t.csv"), "--table"),
    ],
)
def test_what_would_do_nothing_is_refused(cgd, crowd, arguments, words):
    check_failure(cgd("evaluate", *arguments), 2, words)


def test_what_a_similarity_means_is_kept_beside_the_index(cgd, crowd):
    ran = cgd("evaluate", "--index", "b.npy", "--calibrate")
    assert ran.code == 0 and "b.calibration.json" in ran.err
    assert "all 780 pairs of 40 labelled rows, of 8 classes" in ran.out
    assert "10 % of these pairs share a class" in ran.out
    report = json.loads(cgd("evaluate", "--index", "b.npy", "--calibrate", "--json").out)
    for point in report["points"]:
        assert f"{point['similarity']:.3f}" in ran.out
    assert report["file"] == "b.calibration.json" and (crowd / "b.calibration.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imgs", "--calibrate"), "no --index"),
        (("--index", "a.npy", "--calibrate", "--ranks", "1"), "--ranks"),
        (("--index", "a.npy", "--calibrate", "--against", "b.npy"), "--against"),
        (("--index", "a.npy", "--calibrate", "--per-class"), "--per-class"),
    ],
)
def test_calibrating_goes_alone(cgd, crowd, arguments, words):
    check_failure(cgd("evaluate", *arguments), 2, words)


def test_rerank_says_whether_it_helps(cgd, in_toy):
    ran = cgd("evaluate", "--index", "feats.npy", "--rerank", "k-reciprocal", "--rerank-top", "5")
    assert ran.code == 0, ran.err
    assert "B the first 5 ordered anew by k-reciprocal" in ran.out and "Recall@1: " in ran.out
    told = json.loads(cgd("evaluate", "--index", "feats.npy", "--rerank", "dba", "--json").out)
    assert told["method"] == "dba" and {d["name"] for d in told["differences"]} > {"Recall@1"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("data", "--rerank", "aqe"), "--rerank"),
        (("--index", "feats.npy", "--rerank", "aqe", "--per-class"), "--per-class"),
        (("--index", "feats.npy", "--rerank-top", "7"), "--rerank-top"),
        (("--index", "feats.npy", "--rerank", "aqe", "--calibrate"), "--calibrate"),
        (("--index", "feats.npy", "--rerank", "aqe", "--against", "feats.npy"), "--against"),
    ],
)
def test_rerank_that_does_nothing_is_refused(cgd, in_toy, given, words):
    check_failure(cgd("evaluate", *given), 2, words)
