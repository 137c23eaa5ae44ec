"""The four lines, one after the other, in a fresh folder, as real processes."""

import json

import numpy as np
import pytest
from cli_toys import process

COMMANDS = (
    "train",
    "embed",
    "search",
    "evaluate",
    "compare",
    "profile",
    "inspect",
    "convert-weights",
)


@pytest.mark.parametrize("line", ["train", "embed", "search", "convert-weights"])
def test_each_line_ends_well(toy, line):
    ran = toy.ran[line]
    assert ran.code == 0, ran.err
    assert "error:" not in ran.err


def test_train_leaves_a_whole_run(toy):
    names = {file.name for file in toy.run.iterdir()}
    assert {"last.safetensors", "metrics.csv", "config.toml", "resume.pt", "result.json"} <= names
    assert not [name for name in names if name.endswith((".tmp", ".lock"))]
    assert "too few" in toy.ran["train"].err  # four classes: none held out, and that is said
    assert "last.safetensors" in toy.ran["train"].out and "R@1" in toy.ran["train"].out
    assert len((toy.run / "metrics.csv").read_text().splitlines()) == 3


def test_embed_took_the_newest_finished_run_and_said_so(toy):
    err = toy.ran["embed"].err
    assert str(toy.model.relative_to(toy.folder)) in err and "newest finished run" in err
    assert toy.ran["embed"].out == ""
    rows = np.load(toy.index)
    assert rows.shape == (9, 512) and rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert toy.index.with_suffix(".sqlite").is_file()


def test_search_prints_a_table_of_hits(toy):
    out = toy.ran["search"].out
    assert [word in out for word in ("rank", "similarity", "label", "path")] == [True] * 4
    assert out.count("imgs/") == 9  # ten wanted, nine there
    assert toy.ran["search"].err == ""


def test_convert_weights_counts_every_entry(toy):
    ran = toy.ran["convert-weights"]
    assert (toy.folder / "old.safetensors").is_file()
    assert "181 entries" in ran.out and "129 entries" in ran.out
    assert "warning:" in ran.err and "assumed" in ran.err
    assert ran.err.count("warning:") == 1


def test_the_rest_of_the_commands_run_as_processes_too(toy):
    here = {"cwd": toy.folder}
    judged = process("evaluate", "--index", "feats.npy", "--json", "-q", **here)
    looked = process("inspect", "feats.npy", "--json", **here)
    cost = process("profile", toy.model, "--repeats", "1", "--json", **here)
    for ran in (judged, looked, cost):
        assert ran.code == 0 and ran.err == "", ran.err
    assert set(json.loads(judged.out)["recall"]) == {"1", "2", "4", "8"}
    assert json.loads(looked.out)["kind"] == "index"
    assert json.loads(cost.out)["config"]["embedding_dim"] == 512
