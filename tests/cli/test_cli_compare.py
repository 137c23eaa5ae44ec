"""`cgd compare`, as typed, on runs of a few drawn pictures."""

import contextlib
import json
import re
import shutil

import pytest
from cli_toys import SMALL, check_failure, contents, draw_classes

from cgdcli.cli import main

MEASURES = ["Recall@1", "Recall@2", "Recall@4", "Recall@8", "mAP@R"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same pictures with other settings, and one of other pictures."""
    folder = tmp_path_factory.mktemp("compare")
    draw_classes(folder / "data/train", "red green blue", 3)
    draw_classes(folder / "data/test", "red green yellow", 4, first=20)
    draw_classes(folder / "other", "red yellow", 3)
    tiny = (*SMALL, "--epochs", "1", "--batch-size", "8", "-q", "--name")
    with contextlib.chdir(folder):
        for name, data, *more in (
            ("a", "data"), ("b", "data", "--descriptors", "SM", "--seed", "3"), ("c", "other"),
        ):  # fmt: skip
            assert main(["train", data, *tiny, name, *more]) == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def there(runs, monkeypatch):
    monkeypatch.chdir(runs)
    return runs


def test_says_who_is_better_by_how_much_and_what_differs(cgd, there):
    ran = cgd("compare", "runs/a", "runs/b")
    assert ran.code == 0 and ran.err == ""
    assert "on test: 12 queries of 3 classes" in ran.out
    assert re.search(
        r"Recall@1: (no difference can be told, B - A is [+-][\d.]+|"
        r"[AB] is better by [\d.]+ ± [\d.]+) points \(95 % interval [+-]?[\d.]+ to [+-]?[\d.]+\)",
        ran.out,
    )
    for word in (*MEASURES, "descriptors", "SG", "SM", "seed", "trained for"):
        assert word in ran.out


def test_json_is_what_each_run_said_of_itself(cgd, there):
    ran = cgd("compare", "a", "b", "--json")
    report = json.loads(ran.out)
    told = [json.loads((there / "runs" / n / "result.json").read_text())["test"] for n in "ab"]
    assert [d["name"] for d in report["differences"]] == MEASURES
    for place, (one, other) in zip(
        report["differences"], zip(*map(figures, told), strict=True), strict=True
    ):
        assert (place["first"], place["second"]) == pytest.approx((one, other))
        assert place["low"] <= place["difference"] <= place["high"]
    assert report["settings"] == {"descriptors": ["SG", "SM"], "seed": [0, 3]}


def figures(told):
    return [*told["recall"].values(), told["map_at_r"]]


def test_a_run_that_kept_nothing_is_judged_again_alike_and_stays_as_it_is(cgd, there, tmp_path):
    expected = json.loads(cgd("compare", "a", "b", "--json").out)
    shutil.copytree(there / "runs/a", tmp_path / "a", ignore=shutil.ignore_patterns("resume.pt"))
    (tmp_path / "a/judged.npz").unlink()
    before = contents(tmp_path)
    ran = cgd("compare", tmp_path / "a", "b", "--json")
    assert "no kept judgement" in ran.err
    report = json.loads(ran.out)
    assert report["differences"] == expected["differences"]
    assert contents(tmp_path) == before


def test_a_kept_judgement_of_another_model_is_not_believed(cgd, there, tmp_path):
    expected = json.loads(cgd("compare", "a", "a", "--json").out)
    shutil.copytree(there / "runs/a", tmp_path / "a", ignore=shutil.ignore_patterns("resume.pt"))
    shutil.copy(there / "runs/b/judged.npz", tmp_path / "a")
    ran = cgd("compare", "a", tmp_path / "a", "--json")
    assert "no kept judgement" in ran.err
    assert json.loads(ran.out)["differences"] == expected["differences"]


def test_other_pictures_are_refused_with_4(cgd, there):
    check_failure(cgd("compare", "a", "c"), 4, "runs/a", "runs/c", "same pictures")


def test_what_is_no_run_is_refused_with_1(cgd, there):
    check_failure(cgd("compare", "a", "gone"), 1, "gone", "does not exist")
    check_failure(cgd("compare", "data", "a"), 1, "data", "not a run's folder")
    check_failure(cgd("compare", "a"), 2, "B")


def test_quiet_leaves_the_result_alone(cgd, there):
    loud, quiet = cgd("compare", "a", "b"), cgd("compare", "a", "b", "-q")
    assert quiet.out == loud.out and quiet.err == ""


def test_training_leaves_the_page_and_says_where(cgd, there, tmp_path):
    assert (there / "runs/a/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    ran = cgd("train", "other", *SMALL, "--epochs", "1", "--runs", tmp_path, "--name", "x")
    assert f"note: the run as a page: {tmp_path / 'x' / 'report.html'}" in ran.err
    shutil.rmtree(tmp_path / "x")
