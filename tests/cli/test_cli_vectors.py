"""Better vectors on request: recorded, applied to queries, refused when changed."""

import json

import pytest
from cli_toys import check_failure, draw, draw_classes

OPTIONS = ("--flip", "--scales", "1,1.5", "--whiten", "--dim", "6", "--dtype", "float16")


@pytest.fixture
def imgs(tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_classes(tmp_path / "imgs", "red green blue", 5)


@pytest.fixture
def embed(cgd, imgs, toy):
    def run(*options, name="f.npy"):
        return cgd("embed", "imgs", "-o", name, "--model", toy.model, *options)

    return run


def test_a_query_goes_the_way_of_the_rows_by_itself(cgd, embed, imgs):
    ran = embed(*OPTIONS)
    assert ran.code == 0, ran.err
    assert "15 rows of 6" in ran.err and "--flip --scales 1,1.5 --whiten --dim 6" in ran.err
    for picture in ("imgs/red/1.png", "imgs/blue/4.png"):
        (answer,) = json.loads(cgd("search", picture, "--index", "f.npy", "--json").out)
        assert answer["hits"][0]["path"] == picture
        assert answer["hits"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    draw(imgs / "red/new.png", "red", 40)
    assert embed(*OPTIONS).code == 0
    (answer,) = json.loads(cgd("search", "imgs/red/new.png", "--index", "f.npy", "--json").out)
    assert answer["hits"][0]["path"] == "imgs/red/new.png"
    assert answer["hits"][0]["similarity"] == pytest.approx(1, abs=1e-3)


def test_inspect_says_how_the_rows_were_made(cgd, embed):
    embed(*OPTIONS)
    facts = json.loads(cgd("inspect", "f.npy", "--json").out)["facts"]
    assert facts["dtype"] == "float16" and facts["embedding_dim"] == 6
    assert facts["vectors"]["flip"] and facts["vectors"]["scales"] == [1, 1.5]
    assert facts["projection"]["learned_on"] == 15 and facts["projection"]["to"] == 6
    assert facts["blocks"] is None
    shown = cgd("inspect", "f.npy").out
    assert "--flip --scales 1,1.5 --whiten --dim 6 --dtype float16" in " ".join(shown.split())
    assert "learned on 15 rows" in shown and "anomalies: none" in shown


def test_branches_are_refused_of_projected_rows_and_there_of_averaged_ones(cgd, embed):
    embed("--dim", "6")
    ran = cgd("search", "row:0", "--index", "f.npy", "--explain")
    check_failure(ran, 4, "f.npy")
    embed("--flip", name="g.npy")
    (answer,) = json.loads(cgd("search", "row:0", "--index", "g.npy", "--explain", "--json").out)
    hit = answer["hits"][1]
    branches = hit["branches"].values()
    assert sum(branches) / len(branches) == pytest.approx(hit["similarity"], abs=1e-5)


def test_the_same_line_again_and_another(embed):
    embed(*OPTIONS)
    assert "nothing was new" in embed(*OPTIONS).err
    check_failure(embed("--flip"), 4, "--flip --scales 1,1.5 --whiten --dim 6")
    check_failure(embed(), 4, "as the network gives them")
    assert embed("--flip", "--rebuild").code == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--whiten", "--dim", "15"), 1, "15 rows are too few"),
        (("--whiten",), 1, "15 rows are too few"),
        (("--dim", "5000"), 2, "--dim 5000"),
        (("--scales", "1,x"), 2, "not a list of numbers"),
        (("--scales", "0.5"), 2, "16 pixels"),
        (("--scales", "0"), 2, "out of range"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_before_anything_is_embedded(embed, imgs, options, code, words):
    check_failure(embed(*options), code, words)
    assert [path.name for path in imgs.parent.iterdir()] == ["imgs"]


def test_evaluate_shows_what_each_step_gave(cgd, embed, toy):
    ran = cgd("evaluate", "imgs", "--model", toy.model, *OPTIONS)
    assert ran.code == 0, ran.err
    for word in ("as the network", "--flip", "--scales 1,1.5", "--whiten --dim 6", "float16"):
        assert word in ran.out
    assert "15 queries" in ran.out
    embed(*OPTIONS)
    steps = json.loads(cgd("evaluate", "--index", "f.npy", "--steps", "--json").out)["steps"]
    whole = json.loads(cgd("evaluate", "--index", "f.npy", "--json").out)
    assert steps[-1]["map_at_r"] == pytest.approx(whole["map_at_r"])
    plain = json.loads(cgd("evaluate", "imgs", "--model", toy.model, "--json").out)
    assert steps[0]["map_at_r"] == pytest.approx(plain["map_at_r"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--index", "feats.npy", "--flip"),
        ("--index", "feats.npy", "--steps"),  # it records none
        ("--index", "feats.npy", "--steps", "--exact-decode"),
        ("imgs", "--steps"),
        ("imgs", "--index", "feats.npy", "--steps"),
    ],
    ids=" ".join,
)
def test_steps_where_there_are_none(cgd, in_toy, arguments):
    check_failure(cgd("evaluate", *arguments), 2)
