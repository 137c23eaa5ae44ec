"""`cgd search`: its forms, its queries, where it finds the model and the pictures."""

import json
import shutil

import pytest
from cli_toys import check_failure, draw
from PIL import Image

from cgdcli.views.sheet import BORDER, CAPTION, GAP, RIGHT, TILE, UNKNOWN, WRONG

RED, BLUE = "imgs/red/10.png", "imgs/blue/12.png"


@pytest.fixture
def reencoded(tmp_path):
    """The pixels of RED in another file: no picture of the index, so a network is wanted."""
    return draw(tmp_path / "elsewhere/red.bmp", "red", 10)


def hits(ran):
    assert ran.code == 0, ran.err
    (answer,) = json.loads(ran.out)
    return answer["hits"]


def ask(cgd, *arguments, index="feats.npy"):
    return cgd("search", *arguments, "--index", index, "--json")


# ---- forms


def test_the_json_form(cgd, in_toy):
    answers = json.loads(ask(cgd, "query.jpg", "-k", "4").out)
    assert isinstance(answers, list) and len(answers) == 1
    assert answers[0]["query"] == "query.jpg"
    found = answers[0]["hits"]
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4]
    similarities = [hit["similarity"] for hit in found]
    assert similarities == sorted(similarities, reverse=True)
    assert all(isinstance(s, float) and -1 <= s <= 1 for s in similarities)
    for hit in found:
        assert {"rank", "similarity", "path", "label"} <= set(hit)
        assert hit["path"].startswith("imgs/") and hit["path"].split("/")[1] == hit["label"]
        assert "branches" not in hit


def test_a_picture_of_the_index_is_its_own_nearest(cgd, in_toy):
    first = hits(ask(cgd, RED))[0]
    assert first["path"] == RED and first["label"] == "red"
    assert first["similarity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("k", [1, 9, 10, 5000])
def test_k_larger_than_the_gallery_gives_all(cgd, in_toy, k):
    found = hits(ask(cgd, "row:0", "-k", k))
    assert len(found) == min(k, 9)
    assert len({hit["path"] for hit in found}) == len(found)


def test_paths_only(cgd, in_toy):
    ran = cgd("search", RED, "--index", "feats.npy", "--paths-only", "-k", "3")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) == 3 and lines[0] == RED
    both = cgd("search", RED, "--index", "feats.npy", "--paths-only", "--json")
    check_failure(both, 2, "--paths-only", "--json")


def test_several_queries_are_answered_in_order(cgd, in_toy):
    answers = json.loads(ask(cgd, BLUE, "row:0", RED, "-k", "1").out)
    assert [answer["query"] for answer in answers] == [BLUE, "row:0", RED]
    assert answers[0]["hits"][0]["path"] == BLUE
    assert answers[2]["hits"][0]["path"] == RED


def test_one_of_several_queries_is_broken(cgd, in_toy, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    ran = ask(cgd, broken, RED, "-k", "1")
    assert ran.code == 3
    assert [answer["query"] for answer in json.loads(ran.out)] == [RED]
    assert str(broken) in ran.err


def test_a_row_as_the_query(cgd, in_toy):
    by_row, by_file = hits(ask(cgd, "row:0")), hits(ask(cgd, by_row_path(cgd)))
    assert [hit["row"] for hit in by_row] == [hit["row"] for hit in by_file]
    for a, b in zip(by_row, by_file, strict=True):
        assert a["similarity"] == pytest.approx(b["similarity"], abs=1e-5)


def by_row_path(cgd):
    return json.loads(cgd("inspect", "feats.npy", "--rows").out.splitlines()[0])["path"]


@pytest.mark.parametrize("row", ["row:9", "row:99999999999999999999"])
def test_a_row_that_is_not_there(cgd, in_toy, row):
    check_failure(ask(cgd, row), 1, row, "0 to 8")


@pytest.mark.parametrize("row", ["row:-1", "row:x", "row:"])
def test_a_row_that_is_no_number(cgd, in_toy, row):
    check_failure(ask(cgd, row), 1, row)


def test_a_picture_that_the_index_has_loads_no_network(cgd, own_index, tmp_path):
    """By its place or by its content; not once it has changed."""
    own_index.with_name("model.safetensors").unlink()
    copy = shutil.copy(RED, tmp_path / "copy.png")
    for query in (RED, copy):
        first = hits(ask(cgd, query))[0]
        assert first["path"] == RED and first["similarity"] == pytest.approx(1, abs=1e-6)
    draw(tmp_path / "copy.png", "red", 77)
    check_failure(ask(cgd, copy), 4, "model.safetensors")


# ---- self


def test_exclude_self_by_place(cgd, in_toy):
    found = hits(ask(cgd, RED, "--exclude-self"))
    assert len(found) == 8 and RED not in [hit["path"] for hit in found]
    assert [hit["rank"] for hit in found] == list(range(1, 9))


def test_exclude_self_of_a_row(cgd, in_toy):
    assert 3 not in [hit["row"] for hit in hits(ask(cgd, "row:3", "--exclude-self"))]


def test_exclude_self_of_a_copy_by_content(cgd, in_toy, tmp_path):
    copy = shutil.copy(RED, tmp_path / "copy.png")
    assert RED in [hit["path"] for hit in hits(ask(cgd, copy))]
    found = hits(ask(cgd, copy, "--exclude-self"))
    assert len(found) == 8 and RED not in [hit["path"] for hit in found]


def test_exclude_self_of_a_stranger_leaves_nothing_out(cgd, in_toy):
    assert len(hits(ask(cgd, "query.jpg", "--exclude-self"))) == 9


# ---- explain


@pytest.mark.parametrize("query", ["query.jpg", "row:2"])
def test_the_branches_mean_is_the_similarity(cgd, in_toy, query):
    for hit in hits(ask(cgd, query, "--explain")):
        assert list(hit["branches"]) == ["S", "G"]
        mean = sum(hit["branches"].values()) / 2
        assert mean == pytest.approx(hit["similarity"], abs=1e-5)


def test_explain_in_the_table(cgd, in_toy):
    head = cgd("search", "row:0", "--index", "feats.npy", "--explain").out.splitlines()[2]
    assert head.split() == ["rank", "similarity", "S", "G", "label", "path"]


def test_explain_of_rows_alone_is_refused(cgd, in_toy, tmp_path):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    check_failure(ask(cgd, "row:0", "--explain", index=bare), 4, "bare.npy")


# ---- the sheet


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_the_sheet_has_green_and_red_borders(cgd, in_toy, tmp_path):
    target = tmp_path / "sheet.png"
    found = hits(ask(cgd, RED, "--sheet", target, "-k", "9"))
    with Image.open(target) as opened:
        assert opened.format == "PNG"
        sheet = opened.convert("RGB")
    step, line = TILE + 2 * BORDER + GAP, TILE + 2 * BORDER + CAPTION + GAP
    assert sheet.size == (2 * GAP + 10 * step, 2 * GAP + line)
    assert {hit["label"] for hit in found} == {"red", "green", "blue"}
    for column, hit in enumerate(found, start=1):
        left, top = 2 * GAP + column * step, GAP
        border = {sheet.getpixel((left + i, top + j)) for i in range(BORDER) for j in (0, 50, 150)}
        assert border == {rgb(RIGHT if hit["label"] == "red" else WRONG)}
    # The picture itself is in the tile: the query's lower half is red.
    pixel = sheet.getpixel((GAP + BORDER + TILE // 2, GAP + BORDER + TILE * 2 // 3))
    assert pixel[0] > 2 * pixel[1] and pixel[0] > 2 * pixel[2]


def test_the_sheet_of_an_unlabelled_query_judges_nothing(cgd, in_toy, tmp_path):
    target = tmp_path / "sheet.png"
    assert ask(cgd, "query.jpg", "--sheet", target).code == 0
    with Image.open(target) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(10**6)}
    assert rgb(UNKNOWN) in colours and not {rgb(RIGHT), rgb(WRONG)} & colours


def test_the_sheet_of_several_queries_and_of_rows_alone(cgd, in_toy, tmp_path):
    target = tmp_path / "sheet.png"
    assert ask(cgd, RED, BLUE, "--sheet", target, "-k", "2").code == 0
    with Image.open(target) as sheet:
        assert sheet.height == 2 * GAP + 2 * (TILE + 2 * BORDER + CAPTION + GAP)
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    assert ask(cgd, "row:0", "--sheet", tmp_path / "bare.png", index=bare).code == 0
    assert (tmp_path / "bare.png").is_file()


def test_a_sheet_that_nobody_could_look_at_is_refused_before_anything_is_searched(
    cgd, in_toy, tmp_path, monkeypatch
):
    many = [f"row:{i % 9}" for i in range(300)]  # of 9 hits each: 3000 tiles
    monkeypatch.setattr("cgdcli.retrieval.search_each", lambda *_, **__: pytest.fail("searched"))
    ran = ask(cgd, *many, "--sheet", tmp_path / "sheet.png", "-k", "500")
    check_failure(ran, 2, "300 queries with up to 9 hits has 3000 tiles; at most 2000")
    assert "--html" in ran.err and not (tmp_path / "sheet.png").exists()
    monkeypatch.undo()
    monkeypatch.chdir(in_toy.folder)
    assert ask(cgd, *many, "--mean", "--sheet", tmp_path / "sheet.png").code == 0
    few = ["--where", "row == 0", "-k", "1000"]  # 2000 tiles at most, it may be, and there are 9
    assert ask(cgd, RED, BLUE, *few, "--sheet", tmp_path / "few.png").code == 0
    monkeypatch.setattr("cgdcli.views.sheet.MOST_TILES", 9)
    for less in (["--where", "row == 0"], ["--min-similarity", "0.9999"]):
        ran = ask(cgd, RED, BLUE, *less, "-k", "9", "--sheet", tmp_path / f"{less[0]}.png")
        assert ran.code == 0, ran.err


def test_what_is_made_of_several_pictures_shows_none_as_the_query(cgd, in_toy, tmp_path):
    page = tmp_path / "hits.html"
    assert ask(cgd, RED, "--plus", BLUE, "--html", page, "-k", "1").code == 0
    text = page.read_text(encoding="utf-8")
    assert "of several pictures" in text and f"{RED} + 0.5 x {BLUE}" in text
    assert text.count("<img id=") == 1  # the hit's
    assert ask(cgd, RED, BLUE, "--mean", "--sheet", tmp_path / "sheet.png").code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        tile = sheet.crop((GAP + BORDER, GAP + BORDER, GAP + TILE, GAP + TILE))
    assert all(max(colour) - min(colour) < 30 for _, colour in tile.getcolors(9_999))  # words


def test_the_sheet_replaces_nothing_unasked(cgd, in_toy, tmp_path):
    target = tmp_path / "sheet.png"
    target.write_text("mine")
    check_failure(ask(cgd, "row:0", "--sheet", target), 1, target)
    assert target.read_text() == "mine"
    assert ask(cgd, "row:0", "--sheet", target, "--force").code == 0
    with Image.open(target) as sheet:
        assert sheet.format == "PNG"
    check_failure(ask(cgd, "row:0", "--sheet", tmp_path / "no/s.png"), 1, tmp_path / "no")


# ---- which model


@pytest.fixture
def own_index(cgd, toy, tmp_path, monkeypatch):
    """An index whose model can be moved."""
    monkeypatch.chdir(tmp_path)
    model = shutil.copy(toy.model, tmp_path / "model.safetensors")
    shutil.copytree(toy.folder / "imgs", "imgs")
    assert cgd("embed", "imgs", "-o", "feats.npy", "--model", model).code == 0
    return tmp_path / "feats.npy"


def test_the_model_beside_the_moved_index(cgd, own_index, tmp_path, monkeypatch, reencoded):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("feats.npy", "feats.sqlite"):
        shutil.move(name, other / name)
    shutil.move("model.safetensors", other / "renamed.safetensors")
    ran = ask(cgd, reencoded, index=other / "feats.npy")
    assert hits(ran)[0]["path"] == RED
    assert "renamed.safetensors" in ran.err


def test_the_model_under_runs_by_its_fingerprint(cgd, own_index, tmp_path, reencoded):
    (tmp_path / "runs/a").mkdir(parents=True)
    shutil.move("model.safetensors", "runs/a/last.safetensors")
    ran = ask(cgd, reencoded)
    assert hits(ran)[0]["path"] == RED and "runs/a/last.safetensors" in ran.err


def test_the_model_is_gone(cgd, own_index, reencoded):
    own_index.with_name("model.safetensors").unlink()
    ran = ask(cgd, reencoded)
    check_failure(ran, 4, "feats.npy", "model.safetensors")
    assert "--model" in ran.err
    assert hits(ask(cgd, "row:0"))  # a row needs no model


def test_another_model_is_refused(cgd, in_toy):
    ran = ask(cgd, RED, "--model", "old.safetensors")
    check_failure(ran, 4, "old.safetensors", "feats.npy")


def test_another_model_at_the_recorded_place_is_refused(cgd, own_index, toy, reencoded):
    shutil.copy(toy.folder / "old.safetensors", "model.safetensors")
    check_failure(ask(cgd, reencoded), 4, "model.safetensors", "feats.npy")


# ---- rows alone


def test_rows_alone_with_a_model_and_by_row(cgd, in_toy, tmp_path):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    ran = ask(cgd, RED, "--model", in_toy.model, index=bare)
    found = hits(ran)
    assert "unchecked" in ran.err
    known = {hit["row"]: hit["path"] for hit in hits(ask(cgd, RED))}
    assert known[found[0]["row"]] == RED
    assert found[0]["path"] == f"row:{found[0]['row']}" and found[0]["label"] is None
    assert len(hits(ask(cgd, "row:4", index=bare))) == 9


def test_rows_alone_without_a_model(cgd, in_toy, tmp_path, reencoded):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    ran = ask(cgd, reencoded, index=bare)
    check_failure(ran, 4, "bare.npy")
    assert "--model" in ran.err and "row:" in ran.err


def test_rows_alone_with_a_model_of_another_length(cgd, in_toy, tmp_path):
    bare = shutil.copy("feats.npy", tmp_path / "bare.npy")
    ran = ask(cgd, RED, "--model", "old.safetensors", index=bare)
    check_failure(ran, 4, "512", "256")


# ---- where the pictures are


def test_pictures_that_moved_are_found_under_root(cgd, own_index, tmp_path):
    (tmp_path / "away").mkdir()
    shutil.move("imgs", "away/pictures")
    lost = hits(ask(cgd, "row:0"))[0]
    assert lost["path"].endswith("imgs/blue/10.png")  # still named, where it was
    found = hits(ask(cgd, "row:0", "--root", "away/pictures"))
    assert found[0]["path"] == "away/pictures/blue/10.png"
    assert ask(cgd, "row:0", "--root", "away/pictures", "--sheet", "s.png").code == 0
    query = "away/pictures/red/10.png"
    left = hits(ask(cgd, query, "--root", "away/pictures", "--exclude-self"))
    assert query not in [hit["path"] for hit in left] and len(left) == 8


def test_index_and_pictures_that_moved_together(cgd, own_index, tmp_path):
    (tmp_path / "away").mkdir()
    for name in ("imgs", "feats.npy", "feats.sqlite"):
        shutil.move(name, f"away/{name}")
    found = hits(ask(cgd, "row:0", index="away/feats.npy"))
    assert found[0]["path"] == "away/imgs/blue/10.png"


def test_a_root_that_is_not_there(cgd, in_toy):
    ran = ask(cgd, "row:0", "--root", "nowhere")
    check_failure(ran, 1, "nowhere")


def test_the_index_by_its_other_names(cgd, in_toy):
    for name in ("feats", "feats.sqlite", in_toy.index):
        assert len(hits(ask(cgd, "row:0", index=name))) == 9


def test_a_query_is_turned_as_its_exif_says(cgd, in_toy, tmp_path):
    upright = draw(tmp_path / "upright.png", "green", 70)
    with Image.open(upright) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    a, b = (hits(ask(cgd, tmp_path / f"{n}.png")) for n in ("upright", "turned"))
    assert [hit["similarity"] for hit in a] == pytest.approx([h["similarity"] for h in b], abs=1e-5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["search", "query.jpg", "--index", "feats.npy", "-k", "2"], "imgs/red"),
        (["embed", "imgs/red", "-o", "{tmp}/new.npy", "--json"], '"engine": "openvino"'),
    ],
)
def test_a_network_compiled_before_needs_no_torch(in_toy, toy, tmp_path, line, said):
    """With the extra `fast`: what an index was made with is compiled and kept, and found again."""
    import subprocess
    import sys

    from cli_toys import environment

    code = (
        "import sys\nfrom cgdcli.cli import main\nended = main(sys.argv[1:])\n"
        "print(ended, [n for n in ('torch', 'torchvision') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(word.format(tmp=tmp_path) for word in line)],
        cwd=toy.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert said in done.stdout
