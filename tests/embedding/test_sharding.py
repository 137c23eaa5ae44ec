"""An index in parts has the rows of the one made at once, to the bit, and grows part by part."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_toys import draw
from test_refreshing import embedded, rows_by_path  # noqa: F401 - a fixture

from cgdcli.config import (
    CGDConfig,
    EmbedConfig,
    EmbedPrecision,
    SearchConfig,
    Transform,
    VectorConfig,
)
from cgdcli.embedding import EmbedRequest, embed_images
from cgdcli.embedding.sharding import embed_parts, embed_shard
from cgdcli.embedding.sharing import embed_request
from cgdcli.errors import ConfigError, DatasetError, MismatchError
from cgdcli.evaluation import evaluate
from cgdcli.index.shards import Shard, part_of, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD
from cgdcli.retrieval import search_images

SMALL = EmbedConfig(batch_size=2, workers=1, engine="torch")
OF = 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))


@pytest.fixture
def imgs(tmp_path):
    for number in range(5):
        draw(tmp_path / f"imgs/red/{number}.png", "red", number)
        draw(tmp_path / f"imgs/green/{number}.png", "green", number)
    (tmp_path / "imgs/green/broken.png").write_bytes(b"no picture")
    return tmp_path / "imgs"


@pytest.fixture
def request_of(model, imgs):
    def make(name="feats.npy", **options):
        return EmbedRequest(
            [imgs], imgs.parent / name, **{"model": model, "config": SMALL} | options
        )

    return make


def part(folder, number, of=OF):
    return Shard(number, of).path(folder / "feats.npy")


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("feats.*")}


def same_rows(folder, name="one.npy"):
    """To the bit, and all that is known of them; but for their numbers."""
    with (
        EmbeddingIndex.open(folder / "feats.npy") as parts,
        EmbeddingIndex.open(folder / name) as one,
    ):
        described = [
            {(p.path, p.label, p.size, p.mtime_ns, p.sha256) for _, p in index.pictures()}
            for index in (parts, one)
        ]
        assert described[0] == described[1]
        assert sorted(parts.skipped()) == sorted(one.skipped())
    assert rows_by_path(folder / "feats.npy") == rows_by_path(folder / name)
    return True


def test_all_parts_are_the_whole_to_the_bit(request_of, imgs, model):
    seen = []
    report = embed_parts(request_of(), OF, lambda *done: seen.append(done))
    one = embed_images([imgs], imgs.parent / "one.npy", model=model, config=SMALL)
    assert same_rows(imgs.parent)
    assert (report.rows, report.labels, report.embedded, report.parts) == (10, 2, 10, OF)
    assert report.index == imgs.parent / "feats.npy" and len(report.skipped) == 1
    assert report.bytes == sum(part(imgs.parent, i).stat().st_size for i in range(OF))
    assert one.bytes == (imgs.parent / "one.npy").stat().st_size
    assert seen == sorted(seen) and seen[-1] == (11, 11, 1)


def test_each_picture_is_in_the_part_that_its_path_says(request_of, imgs):
    embed_parts(request_of(), OF)
    for shard in shards(OF):
        with EmbeddingIndex.open_one(shard.path(imgs.parent / "feats.npy")) as index:
            paths = [picture.path for _, picture in index.pictures()]
            assert {part_of(path, OF) for path in paths} <= {shard.part}
            assert index.header.part == [shard.part, OF]


def test_shards_by_themselves_are_the_same_as_all_parts(request_of, imgs):
    reports = [embed_shard(request_of(), shard) for shard in reversed(shards(OF))]
    assert sum(report.rows for report in reports) == 10
    assert {report.parts for report in reports} == {0}
    embed_parts(request_of("one.npy"), 1)
    (imgs.parent / "one.00000-of-00001.npy").rename(imgs.parent / "x.npy")
    (imgs.parent / "one.00000-of-00001.sqlite").rename(imgs.parent / "x.sqlite")
    assert rows_by_path(imgs.parent / "feats.npy") == rows_by_path(imgs.parent / "x.npy")


def test_a_folder_that_grew_moves_nothing(request_of, imgs, embedded):  # noqa: F811
    embed_parts(request_of(), OF)
    before = times(imgs.parent)
    new = draw(imgs / "blue/7.png", "blue", 7)
    embedded.clear()
    report = embed_parts(request_of(), OF)
    assert (report.rows, report.embedded, report.labels) == (11, 1, 3)
    changed = {name for name, at in times(imgs.parent).items() if before[name] != at}
    touched = part(imgs.parent, part_of(str(new.relative_to(imgs)), OF))
    assert changed == {touched.name, touched.with_suffix(".sqlite").name}
    embed_images([imgs], imgs.parent / "one.npy", model=request_of().model, config=SMALL)
    assert same_rows(imgs.parent)


def test_a_part_may_be_empty_and_be_filled_later(request_of, imgs):
    of = 64
    holding = {part_of(str(p.relative_to(imgs)), of) for p in imgs.rglob("*.png")}
    empty = next(i for i in range(of) if i not in holding)
    report = embed_shard(request_of(), Shard(empty, of))
    assert report.rows == 0 and report.skipped == ()
    with EmbeddingIndex.open_one(part(imgs.parent, empty, of)) as index:
        assert len(index) == 0 and index.dim == 8 and index.labels() == []
        assert [a.shape for a in index.search(np.ones((2, 8), np.float32), 3)] == [(2, 0)] * 2
    assert embed_shard(request_of(), Shard(empty, of)).rows == 0  # again: nothing to do
    names = (f"new/{i}.png" for i in range(9999))
    late = draw(imgs / next(n for n in names if part_of(n, of) == empty), "blue", 1)
    assert embed_shard(request_of(), Shard(empty, of)).embedded == 1
    late.unlink()
    assert embed_shard(request_of(), Shard(empty, of)).dropped == 1  # and emptied again


def test_labels_are_those_of_the_whole_folder(request_of, imgs):
    """Alone, a part with pictures of one class would have no classes."""
    of = 64
    for name in ("red/0.png", "green/1.png"):
        shard = Shard(part_of(name, of), of)
        embed_shard(request_of(), shard)
        with EmbeddingIndex.open_one(part(imgs.parent, shard.part, of)) as index:
            assert set(index.labels()) == {name.split("/")[0]}


def test_labels_from_a_table_that_names_no_picture_of_a_part(request_of, imgs):
    table = imgs.parent / "labels.csv"
    table.write_text("path,label\nred/0.png,crimson\n")
    for shard in shards(OF):
        embed_shard(request_of(labels=str(table)), shard)
    with EmbeddingIndex.open(imgs.parent / "feats.npy") as index:
        assert index.known_labels() == {"crimson"} and index.labels().count("crimson") == 1


def test_a_picture_of_two_sources_is_in_one_part(model, imgs):
    output = imgs.parent / "feats.npy"
    request = EmbedRequest([imgs / "red", imgs], output, model, config=SMALL)
    for shard in shards(OF):
        embed_shard(request, shard)
    embed_images([imgs / "red", imgs], imgs.parent / "one.npy", model=model, config=SMALL)
    assert same_rows(imgs.parent)


def test_a_process_lists_the_pictures_of_its_part_alone(request_of, imgs, monkeypatch):
    from cgdcli import embedding

    kept = []
    real = embedding.make_part
    monkeypatch.setattr(
        "cgdcli.embedding.sharding.make_part",
        lambda job, *rest: kept.append(len(job.listing.images)) or real(job, *rest),
    )
    for shard in shards(OF):
        embed_shard(request_of(), shard)
    assert sum(kept) == 11 and max(kept) < 11


def test_search_and_evaluate_answer_as_for_one_index(request_of, imgs, model):
    embed_parts(request_of(), OF)
    embed_images([imgs], imgs.parent / "one.npy", model=model, config=SMALL)
    asked = [imgs / "red/0.png", draw(imgs.parent / "query.png", "green", 50)]
    answers = [
        search_images(
            asked,
            imgs.parent / name,
            SearchConfig(k=10, exclude_self=True, explain=True),
            model=model,
        )
        for name in ("feats.npy", "one.npy")
    ]
    hits = [
        [[(h.rank, h.similarity, h.path, h.label, h.branches) for h in r.hits] for r in a.results]
        for a in answers
    ]
    assert hits[0] == hits[1] and len(hits[0][0]) == 9
    recalls = [evaluate(index=imgs.parent / name).to_dict() for name in ("feats.npy", "one.npy")]
    assert recalls[0] | {"what": ""} == recalls[1] | {"what": ""}


def test_another_number_of_parts_is_refused_and_nothing_is_written(request_of, imgs):
    embed_shard(request_of(), Shard(0, OF))
    before = times(imgs.parent)
    for shard in (None, Shard(0, 8)):
        with pytest.raises(MismatchError, match="in 4 parts"):
            embed_request(request_of(rebuild=True), shard=shard)
    assert times(imgs.parent) == before


def test_parts_by_another_model_are_refused(request_of, imgs):
    embed_shard(request_of(), Shard(0, 2))
    torch.manual_seed(1)
    other = CGD(CGDConfig(transform=Transform(image_size=32), embedding_dim=8))
    embed_shard(request_of(model=other), Shard(1, 2))
    with pytest.raises(MismatchError, match="another model") as caught:
        EmbeddingIndex.open(imgs.parent / "feats.npy")
    assert "feats.00001-of-00002.npy" in caught.value.what


def test_nothing_readable_in_any_part_is_a_failure(request_of, imgs):
    for file in imgs.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="none of the 11 pictures"):
        embed_parts(request_of(), OF)


def test_precision_auto_is_nothing_for_shards(request_of):
    auto = EmbedConfig(precision=EmbedPrecision.auto)
    with pytest.raises(ConfigError, match="--precision auto"):
        embed_shard(request_of(config=auto), Shard(0, 2))


def test_int8_is_calibrated_on_the_whole_and_so_refused_for_parts(request_of):
    config = replace(SMALL, precision=EmbedPrecision.int8)
    for make in (lambda r: embed_parts(r, 2), lambda r: embed_shard(r, Shard(0, 2))):
        with pytest.raises(ConfigError, match="calibrated on pictures of the whole index"):
            make(request_of(config=config))


def test_a_projection_is_learned_on_the_whole_and_so_refused_for_parts(request_of, imgs):
    config = replace(SMALL, vectors=VectorConfig(whiten=True))
    for make in (lambda r: embed_parts(r, 2), lambda r: embed_shard(r, Shard(0, 2))):
        with pytest.raises(ConfigError, match="learns a projection"):
            make(request_of(config=config))
    assert times(imgs.parent) == {}


def test_parts_in_float16_of_two_views(request_of, imgs, model):
    config = replace(SMALL, vectors=VectorConfig(flip=True, dtype="float16"))
    report = embed_parts(request_of(config=config), OF)
    one = embed_images([imgs], imgs.parent / "one.npy", model=model, config=config)
    assert same_rows(imgs.parent) and report.vectors == one.vectors != ""
    with EmbeddingIndex.open(imgs.parent / "feats.npy") as index:
        assert index.rows.dtype == np.float16 and index.vectors == config.vectors


def test_inspect_and_compare_take_parts_as_one_index(cgd, request_of, imgs, model):
    embed_parts(request_of(), OF)
    embed_images([imgs], imgs.parent / "one.npy", model=model, config=SMALL)
    whole, one = imgs.parent / "feats.npy", imgs.parent / "one.npy"
    ran = cgd("inspect", whole, "--json")
    facts = json.loads(ran.out)["facts"]
    alone = json.loads(cgd("inspect", one, "--json").out)["facts"]
    assert facts["parts"] == OF and facts["bytes"] > alone["bytes"]
    for name in ("rows", "labels", "labelled_rows", "pictures", "fingerprint", "skipped"):
        assert facts[name] == alone[name], name
    rows = [json.loads(line)["path"] for line in cgd("inspect", whole, "--rows").out.splitlines()]
    assert sorted(rows) == sorted(str(p) for p in imgs.rglob("*.png") if p.stem != "broken")
    assert len(cgd("inspect", part(imgs.parent, 1), "--skipped").out.splitlines()) == 1
    compared = json.loads(cgd("inspect", whole, one, "--json").out)
    assert compared["common"] == compared["bit_equal"] == 10


def test_a_damaged_part_is_looked_at_alone(cgd, request_of, imgs):
    embed_parts(request_of(), 2)
    part(imgs.parent, 1, 2).unlink()
    ran = cgd("inspect", part(imgs.parent, 0, 2), "--json")
    assert ran.code == 4 and "feats.00001-of-00002.npy" in ran.err
    assert 0 < json.loads(ran.out)["facts"]["rows"] < 10
    assert cgd("inspect", imgs.parent / "feats.npy").code == 4


def test_old_rows_in_parts_choose_a_reading(request_of, imgs):
    from cgdcli.conversion.old_rows import read_old_rows

    embed_parts(request_of(), OF)
    old = read_old_rows(imgs.parent / "feats.npy", None)
    assert len(old.files) == len(old.rows) == 10 and all(f.is_file() for f in old.files)
