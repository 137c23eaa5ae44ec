"""Recall@K and mAP@R against a naive loop and the reference's figures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import outputs

from cgdcli import evaluation
from cgdcli.config import EmbedConfig, pooled_config
from cgdcli.errors import ConfigError, DatasetError
from cgdcli.evaluation import evaluate, score, scoring

GOLDEN = {case["case"]: case for case in outputs()["small"]["recall"]}


def unit(values):
    values = np.asarray(values, dtype=np.float64)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def naive(rows, labels, ranks, gallery=None, gallery_labels=None):
    """One query after the other: similarities in float64, ties by row."""
    alone = gallery is None
    stored, stored_labels = (rows, labels) if alone else (gallery, gallery_labels)
    hits, precisions, without = dict.fromkeys(ranks, 0), [], 0
    for number, (query, label) in enumerate(zip(rows.astype(np.float64), labels, strict=True)):
        others = [i for i in range(len(stored)) if not (alone and i == number)]
        order = sorted(others, key=lambda i: (-float(np.vecdot(query, stored[i])), i))
        right = [stored_labels[i] == label for i in order]
        for rank in ranks:
            hits[rank] += any(right[:rank])
        relevant = sum(right)
        if not relevant:
            without += 1
            continue
        terms = [sum(right[: i + 1]) / (i + 1) for i in range(relevant) if right[i]]
        precisions.append(sum(terms) / relevant)
    recall = {rank: count / len(rows) for rank, count in hits.items()}
    return recall, sum(precisions) / len(precisions) if precisions else None, without


def agree(rows, labels, ranks, *gallery):
    pair = {"gallery": gallery[0], "gallery_labels": gallery[1]} if gallery else {}
    report = score(rows, labels, ranks, **pair)
    wide = [r.astype(np.float64) for r in gallery[:1]]
    recall, map_at_r, without = naive(rows, labels, ranks, *wide, *gallery[1:])
    assert report.recall == pytest.approx(recall, abs=1e-12)
    assert report.map_at_r == (None if map_at_r is None else pytest.approx(map_at_r, abs=1e-12))
    assert report.without_partner == without
    assert (report.queries, report.labels) == (len(rows), len(set(labels)))
    assert report.gallery == (len(gallery[0]) if gallery else len(rows))


@st.composite
def labelled(draw, most=40):
    """Few directions and labels, so that ties and classes of one are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    directions = unit(rng.standard_normal((draw(st.integers(1, 30)), 4)))
    count = draw(st.integers(1, most))
    names = [f"c{i}" for i in rng.integers(0, draw(st.integers(1, 8)), count)]
    return directions[rng.integers(0, len(directions), count)], names


@settings(max_examples=150, deadline=None)
@given(labelled(), st.sampled_from([(1,), (1, 2, 4, 8), (1, 100), (8, 1)]))
def test_score_in_itself_is_the_naive_loop(data, ranks):
    agree(*data, ranks)


@settings(max_examples=80, deadline=None)
@given(labelled(15), labelled(), st.sampled_from([(1, 2, 4, 8), (3,)]))
def test_score_in_a_gallery_is_the_naive_loop(data, gallery, ranks):
    agree(*data, ranks, *gallery)


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    rows, labels = unit(rng.standard_normal((50, 6))), [str(i % 9) for i in range(50)]
    whole = score(rows, labels)
    monkeypatch.setattr(scoring, "QUERIES_AT_ONCE", 7)
    assert score(rows, labels) == whole


# The reference's figures: it ranks plain points by Euclidean distance


def lifted(points):
    """Points on the unit sphere in the same order of distance: (e x, sqrt(1 - e^2 |x|^2))."""
    small = 0.05 * np.asarray(points, dtype=np.float64)
    return np.hstack([small, np.sqrt(1 - (small**2).sum(1, keepdims=True))])


def golden_score(case, ranks):
    names = [str(label) for label in case["labels"]]
    pair = {}
    if "gallery" in case:
        pair = {
            "gallery": lifted(case["gallery"]),
            "gallery_labels": [str(label) for label in case["gallery_labels"]],
        }
    return score(lifted(case["features"]), names, ranks, **pair)


def ordinary(case):
    """Neither ties, whose order torch.topk does not promise, nor one of the two oddities below."""
    return (
        not case["case"].startswith("ties")
        and "error" not in case
        and "ascending" not in case["case"]
    )


@pytest.mark.parametrize("case", [*filter(ordinary, GOLDEN.values())], ids=lambda c: c["case"])
def test_recall_is_the_references(case):
    alone, count = "gallery" not in case, len(case["features"])
    ranks = [rank for rank in case["rank"] if not (alone and rank == count)]
    known = dict(zip(case["rank"], case["recall"], strict=True))
    found = golden_score(case, ranks).recall
    assert found == pytest.approx({rank: known[rank] for rank in ranks}, abs=1e-6)


def test_ordinary_cases_are_most_of_the_golden_ones():
    assert sum(map(ordinary, GOLDEN.values())) == 6


def test_query_is_never_its_own_hit_even_at_k_equal_n():
    """Our documented difference: the reference retrieves the query itself last, as a hit."""
    case = GOLDEN["k equals the number of points"]
    assert case["recall"][-1] == 1.0
    report = golden_score(case, case["rank"])
    assert report.recall[8] == 0.0 and report.without_partner == 8


def test_ranks_may_stand_in_any_order():
    """The reference takes rank[-1] neighbours only; ours are those of the ascending case."""
    case, ascending = GOLDEN["ranks not ascending"], GOLDEN["8 points, no ties"]
    known = dict(zip(ascending["rank"], ascending["recall"], strict=True))
    found = golden_score(case, case["rank"]).recall
    assert found == pytest.approx({4: known[4], 1: known[1]})


def test_rank_above_the_number_of_points_takes_them_all():
    case = GOLDEN["rank above the number of points"]
    assert golden_score(case, case["rank"]).recall[8] == 1.0


@pytest.mark.parametrize("name", [n for n in GOLDEN if n.startswith("ties")])
def test_ties_are_broken_by_row(name):
    case = GOLDEN[name]
    rows, labels = lifted(case["features"]), [str(label) for label in case["labels"]]
    agree(rows.astype(np.float32), labels, tuple(case["rank"]))


# What is counted


def test_query_without_partner_counts_in_recall_but_not_in_map():
    rows = unit([[1, 0], [1, 0.1], [0, 1]])
    report = score(rows, ["a", "a", "lonely"], (1,))
    assert report.recall[1] == pytest.approx(2 / 3)
    assert report.map_at_r == 1.0
    assert report.without_partner == 1


def test_no_partner_at_all_has_no_map():
    report = score(unit(np.eye(3)), ["a", "b", "c"], (1, 2))
    assert report.map_at_r is None
    assert report.recall == {1: 0.0, 2: 0.0}


def test_map_at_r_of_a_case_by_hand():
    """R = 3; hits at places 1 and 3 of the first three: (1/1 + 2/3) / 3."""
    angles = np.deg2rad([0, 10, 20, 30, 40])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    report = score(rows[:1], ["a"], (1,), gallery=rows[1:], gallery_labels=["a", "b", "a", "a"])
    assert report.map_at_r == pytest.approx((1 + 2 / 3) / 3)


def test_float16_rows_are_scored():
    rng = np.random.default_rng(0)
    rows, labels = unit(rng.standard_normal((30, 8))).astype(np.float16), list("abcde" * 6)
    assert score(rows, labels) == score(rows.astype(np.float32), labels)


def test_exactly_one_thing_is_evaluated(tmp_path):
    for given_ in ({}, {"data": tmp_path, "index": tmp_path}, {"query": tmp_path}):
        with pytest.raises(ConfigError, match="one thing to evaluate"):
            evaluate(**given_)


def test_table_without_a_readable_picture_is_refused(tmp_path):
    from cgdcli.datasets.folders import read_class_folders

    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no picture")

    class Engine:
        name, precision, parallel, on_cpu = "none", "fp32", 1, True
        config = pooled_config("resnet18")

    with pytest.raises(DatasetError, match="none of the 2 pictures"):
        evaluation.evaluate_table(Engine(), read_class_folders(tmp_path), EmbedConfig(workers=1))


# Queries and gallery of one table


class Looking:
    """An engine whose embedding of a picture is its mean colour."""

    name, precision, parallel, on_cpu = "mean colour", "fp32", 1, True
    config = pooled_config("resnet18")

    def embed(self, pixels):
        return unit(pixels.reshape(len(pixels), -1, 3).mean(axis=1) + 1)


def naive_roles(rows, labels, is_query, is_gallery, ranks):
    hits, precisions = dict.fromkeys(ranks, 0), []
    queries = [i for i, asked in enumerate(is_query) if asked]
    for i in queries:
        others = [j for j, stored in enumerate(is_gallery) if stored and j != i]
        others.sort(key=lambda j: (-float(rows[i].astype(float) @ rows[j].astype(float)), j))
        right = [labels[j] == labels[i] for j in others]
        for rank in ranks:
            hits[rank] += any(right[:rank]) / len(queries)
        relevant = sum(right)
        if relevant:
            terms = [sum(right[: p + 1]) / (p + 1) for p in range(relevant) if right[p]]
            precisions.append(sum(terms) / relevant)
    return hits, sum(precisions) / len(precisions) if precisions else None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 14))
def test_a_table_with_roles_is_scored_as_the_naive_loop(seed, count, tmp_path_factory):
    from pathlib import Path

    from PIL import Image

    from cgdcli.datasets.table import ImageTable

    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("roles")
    colours = rng.integers(0, 256, (count, 3))
    paths = tuple(Path(folder / f"{i}.png") for i in range(count))
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (8, 8), tuple(map(int, colour))).save(path)
    labels = tuple(f"c{i}" for i in rng.integers(0, 4, count))
    roles = rng.random((2, count)) < 0.6
    roles[0, 0] = roles[1, 1] = True
    table = ImageTable(
        paths, labels, is_query=tuple(map(bool, roles[0])), is_gallery=tuple(map(bool, roles[1]))
    )
    report = evaluation.evaluate_table(Looking(), table, EmbedConfig(workers=1), (1, 2, 4))
    rows = unit(colours + 1)
    recall, map_at_r = naive_roles(rows, labels, *roles, (1, 2, 4))
    assert report.recall == pytest.approx(recall)
    assert report.map_at_r == (None if map_at_r is None else pytest.approx(map_at_r))
    assert (report.queries, report.gallery) == tuple(roles.sum(axis=1))


@pytest.mark.parametrize(("broken", "words"), [(0, "no query"), (1, "no picture of the gallery")])
def test_roles_of_which_one_is_unreadable_are_refused(tmp_path, broken, words):
    from PIL import Image

    from cgdcli.datasets.table import ImageTable

    paths = (tmp_path / "0.png", tmp_path / "1.png")
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    paths[broken].write_bytes(b"no picture")
    table = ImageTable(paths, ("a", "a"), is_query=(True, False), is_gallery=(False, True))
    with pytest.raises(DatasetError, match=words):
        evaluation.evaluate_table(Looking(), table, EmbedConfig(workers=1))


@pytest.mark.parametrize("cuts", [(0, 4, 11), (0, 0, 8, 11, 11), (0, 11)])
def test_a_table_in_parts_is_judged_as_the_whole(tmp_path, cuts):
    """Boxes, queries and gallery go by the place in the whole table; some pictures are broken."""
    from itertools import pairwise

    from PIL import Image

    from cgdcli.datasets.table import ImageTable
    from cgdcli.images.cropping import Box

    rng = np.random.default_rng(3)
    paths = tuple(tmp_path / f"{i}.png" for i in range(11))
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    for broken in (3, 8):
        paths[broken].write_bytes(b"no picture")
    table = ImageTable(
        paths,
        tuple("abcabcabcab"),
        boxes=tuple(Box(0, 0, 2 + i % 4, 4) for i in range(11)),
        is_query=tuple(i % 3 != 0 for i in range(11)),
        is_gallery=tuple(i % 4 != 1 for i in range(11)),
    )
    config = EmbedConfig(workers=1, batch_size=4)
    parts = [evaluation.embed_part(Looking(), table, config, range(*cut)) for cut in pairwise(cuts)]
    joined = evaluation.join_parts(parts)
    assert joined.places == tuple(i for i in range(11) if i not in (3, 8))
    whole = evaluation.evaluate_table(Looking(), table, config)
    assert evaluation.evaluate_table(Looking(), table, config, embedded=joined) == whole
    assert [image.path for image in whole.skipped] == [str(paths[3]), str(paths[8])]
