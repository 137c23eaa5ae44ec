"""`cgd embed --parts` and `--shard`, and every command on what they make."""

import json


def test_on_the_command_line(cgd, in_toy, tmp_path, monkeypatch):
    monkeypatch.chdir(in_toy.folder)
    line = ("embed", "imgs", "-o", tmp_path / "f.npy", "--model", in_toy.model)
    ran = cgd(*line, "--shard", "1/3")
    assert ran.code == 0 and "next: the other parts of 3, then cgd search" in ran.err
    ran = cgd("search", "query.jpg", "--index", tmp_path / "f.npy", "--model", in_toy.model)
    assert ran.code == 4 and "f.00000-of-00003.npy" in ran.err and "--shard 0/3" in ran.err
    monkeypatch.setenv("CGD_EMBED_PARTS", "3")
    ran = cgd(*line, "--json")
    assert ran.code == 0 and json.loads(ran.out)["parts"] == 3 and "in 3 parts: 9 rows" in ran.err
    monkeypatch.delenv("CGD_EMBED_PARTS")
    ran = cgd("inspect", tmp_path / "f.npy")
    assert ran.code == 0 and "parts" in ran.out
    assert cgd(*line, "--shard", "0/3", "--parts", "3").code == 2
    assert cgd(*line, "--shard", "3/3").code == 2
    hits = [
        cgd("search", "query.jpg", "--index", index, "--model", in_toy.model, "--paths-only").out
        for index in (tmp_path / "f.npy", tmp_path / "f.00001-of-00003.npy", "feats.npy")
    ]
    assert hits[0] == hits[1] == hits[2] != ""
