"""`cgd evaluate`: a model on folders, an index, queries in a gallery."""

import json
import shutil

import numpy as np
import pytest
from cli_toys import check_failure, draw, draw_classes

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
