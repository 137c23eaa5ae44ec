"""An approximate index beside an exact one: what it finds, and that it is never silently old."""

import json
import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_store import DIM, build, header, pictures

from cgdcli import SearchConfig, search_images
from cgdcli.config import ApproximateConfig, RerankConfig, ScanConfig
from cgdcli.errors import ConfigError, IndexFileError, OutputError
from cgdcli.index import approximate, approximating
from cgdcli.index.approximate import ApproximateFacts, ApproximateIndex, facts_path, faiss_path
from cgdcli.index.approximating import cells, kinds_to_try
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.exact import nearest
from cgdcli.index.store import EmbeddingIndex
from cgdcli.indexing import index_approximately
from cgdcli.locks import writer_lock

ROWS = 6_000


def clustered(rows, dim, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((60, dim))
    values = centres[rng.integers(0, 60, rows)] + 0.6 * rng.standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """6 000 rows of 64, an approximate index beside them."""
    path = tmp_path_factory.mktemp("approximate") / "feats.npy"
    with IndexBuilder(path, 64) as builder:
        names = [f"{i:05d}.jpg" for i in range(ROWS)]
        labels = [str(i % 40) for i in range(ROWS)]
        builder.append(clustered(ROWS, 64), pictures("/data", names, labels))
        builder.finish(header(dim=64, blocks=[("S", 0, 32), ("G", 32, 64)]))
    report = index_approximately(path, ApproximateConfig("rabitq", 0.98))
    return path, report


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """8 000 rows of 64 in 400 tight classes, half of them labelled `a` and half `b`, and an
    approximate index that finds the ten nearest by looking at very few cells."""
    path = tmp_path_factory.mktemp("classes") / "feats.npy"
    rng = np.random.default_rng(3)
    class_of = np.sort(rng.integers(0, 400, 8_000))
    values = rng.standard_normal((400, 64))[class_of] + 0.3 * rng.standard_normal((8_000, 64))
    blocks = values.reshape(-1, 2, 32)
    values = (blocks / np.linalg.norm(blocks, axis=2, keepdims=True)).reshape(-1, 64) / np.sqrt(2)
    names = [f"{i:05d}.jpg" for i in range(8_000)]
    labels = ["ab"[number % 2] for number in class_of]
    with IndexBuilder(path, 64) as builder:
        builder.append(values.astype(np.float32), pictures("/data", names, labels))
        builder.finish(header(dim=64, blocks=[("S", 0, 32), ("G", 32, 64)]))
    index_approximately(path, ApproximateConfig("rabitq", 0.95))
    return EmbeddingIndex.open(path)


@pytest.fixture
def copied(made, tmp_path):
    for file in made[0].parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "feats.npy"


def test_the_report_says_what_was_measured(made):
    path, report = made
    assert report.file == faiss_path(path) and report.new and report.rows == ROWS
    assert 0.98 <= report.recall <= 1 and report.sample == 200
    assert report.bytes == report.file.stat().st_size < path.stat().st_size / 8
    assert report.queries_per_second > 0 and report.exact_per_second > 0


def test_it_finds_what_exact_search_finds_with_the_same_similarities(made):
    index = EmbeddingIndex.open(made[0])
    quick = ApproximateIndex.beside(index)
    queries = index.rows[7:6_000:60] + clustered(100, 64, seed=7) / 4  # none that it was tuned on
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found, ids = quick.search(queries, index.rows, 10)
    exact, exact_ids = nearest(queries, index.rows, 10)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(ids, exact_ids, strict=True)]
    assert np.mean(shares) > 0.95
    for query, near, rows in zip(queries, found, ids, strict=True):
        assert np.array_equal(near, np.vecdot(index.rows[rows].astype(float), query.astype(float)))
        assert list(zip(-near, rows, strict=True)) == sorted(zip(-near, rows, strict=True))
    same = (ids == exact_ids).all(axis=1)
    assert np.array_equal(found[same], exact[same]) and same.sum() > 50


@pytest.mark.parametrize(
    ("asked", "settings"),
    [
        (["row:0"], {"k": 11}),
        (["row:0"], {"branches": (("S", 1.0),)}),
        (["row:0", "row:4000"], {"mean": True}),
        (["row:0"], {"rerank": RerankConfig("aqe", 20)}),
    ],
)
def test_no_recall_is_claimed_of_what_was_not_measured(
    classes, asked, settings, caplog, monkeypatch
):
    monkeypatch.setattr(approximate, "_GATHERED", 1)  # so that it is worth it with few rows
    caplog.set_level(logging.INFO, "cgdcli")
    (answer,) = search_images(asked, classes, SearchConfig(**settings)).results
    assert answer.hits and "proposes what is looked at" in caplog.text
    assert "not here" in caplog.text and "%" not in caplog.text


def test_search_uses_it_and_says_so(made, caplog):
    caplog.set_level(logging.INFO, "cgdcli")
    (answer,) = search_images("row:5", made[0], SearchConfig(k=5)).results
    assert answer.hits[0].row == 5 and "proposes what is looked at" in caplog.text
    assert f"it finds {100 * made[1].recall:.1f} % of the ten nearest" in caplog.text
    caplog.clear()
    (exact,) = search_images("row:5", made[0], SearchConfig(k=5, exact=True)).results
    assert exact.hits == answer.hits and not caplog.text


def test_exclusions_and_a_filter_leave_out_what_they_name(made):
    config = SearchConfig(k=20, exclude_self=True, where="row >= 1000")
    (answer,) = search_images("row:1500", made[0], config).results
    rows = [hit.row for hit in answer.hits]
    assert len(rows) == 20 and min(rows) >= 1000 and 1500 not in rows


def test_what_it_does_not_propose_is_looked_for(made, monkeypatch):
    """Too few rows in the cells that are looked at: never fewer hits than there are."""
    index = EmbeddingIndex.open(made[0])
    quick = ApproximateIndex.beside(index)
    few = np.full((1, quick.effort(10)[1]), -1)
    few[0, :3] = [0, 1, 2]
    monkeypatch.setattr(ApproximateIndex, "propose", lambda *_: few)
    assert (quick.search(index.rows[:1], index.rows, 10)[1] < 0).any(), "the case that is wanted"
    (answer,) = search_images("row:0", made[0], SearchConfig(k=10)).results
    expected = nearest(index.rows[:1], index.rows, 10)[1][0]
    assert [hit.row for hit in answer.hits] == expected.tolist()


def test_rows_alone_that_were_moved_away_are_searched_as_they_were(tmp_path, caplog):
    path = tmp_path / "alone.npy"
    np.save(path, clustered(3_000, 32))
    index_approximately(path, ApproximateConfig("rabitq", 0.5))
    index = EmbeddingIndex.open(path)
    assert ApproximateIndex.beside(index) is not None
    path.rename(tmp_path / "elsewhere.npy")
    assert search_images("row:7", index, SearchConfig(k=1)).results[0].hits[0].row == 7
    assert "made of other rows" in caplog.text


def test_many_hits_are_looked_for_in_every_row(made):
    quick = ApproximateIndex.beside(EmbeddingIndex.open(made[0]))
    assert quick.is_worth_it(10)
    assert not quick.is_worth_it(2_000)


def test_many_queries_together_look_at_every_row_where_that_is_quicker(made, caplog):
    """256 queries with 50 hits each took three times as long by it, and missed some."""
    caplog.set_level(logging.INFO, "cgdcli")
    quick = ApproximateIndex.beside(EmbeddingIndex.open(made[0]))
    quick.facts = replace(quick.facts, seconds=0.001, exact_seconds=0.01)
    assert quick.is_worth_it(10, queries=100) and quick.is_worth_it(11, queries=4)
    assert not quick.is_worth_it(11, queries=5)
    assert not quick.is_worth_it(10, plain=False, queries=5)
    quick.facts = replace(quick.facts, exact_seconds=0.005)
    assert quick.is_worth_it(10, queries=16) and not quick.is_worth_it(10, queries=32)
    search_images([f"row:{row}" for row in range(5)], made[0], SearchConfig(k=11))
    assert "proposes" not in caplog.text


@pytest.mark.parametrize(("threads", "asked", "taken"), [(1, 4, 1), (2, 4, 2), (2, 1, 1)])
def test_it_takes_as_many_threads_as_are_allowed(made, monkeypatch, threads, asked, taken):
    seen = []
    monkeypatch.setattr(approximate.imported_faiss(), "omp_set_num_threads", seen.append)
    config = SearchConfig(k=3, scan=ScanConfig(threads=threads))
    search_images([f"row:{row}" for row in range(asked)], made[0], config)
    assert seen == [taken]


def test_rows_that_changed_since_are_noticed(copied, caplog):
    with IndexBuilder(copied, 64) as builder:
        rows = clustered(ROWS, 64)
        rows[77] = -rows[78]
        names = [f"{i:05d}.jpg" for i in range(ROWS)]
        builder.append(rows, pictures("/data", names))
        builder.finish(header(dim=64))
    (answer,) = search_images("row:77", copied, SearchConfig(k=1)).results
    assert answer.hits[0].row == 77
    assert "was made of other rows" in caplog.text and "cgd index" in caplog.text
    assert ApproximateIndex.beside(EmbeddingIndex.open(copied)) is None
    assert index_approximately(copied, ApproximateConfig("rabitq", 0.9)).new
    assert ApproximateIndex.beside(EmbeddingIndex.open(copied)) is not None


def test_an_array_alone_whose_rows_changed(tmp_path):
    rows = clustered(2_000, 16)
    np.save(tmp_path / "f.npy", rows)
    index_approximately(tmp_path / "f.npy", ApproximateConfig("sq8", 0.9))
    assert ApproximateIndex.beside(EmbeddingIndex.open(tmp_path / "f.npy")) is not None
    rows[7] = -rows[7]  # one that is not sampled
    np.save(tmp_path / "f.npy", rows)
    assert ApproximateIndex.beside(EmbeddingIndex.open(tmp_path / "f.npy")) is None


@pytest.mark.parametrize("damage", ["cut", "other", "facts", "kind", "format", "not faiss"])
def test_a_damaged_one_is_not_used_and_said(copied, damage, caplog):
    file, facts = faiss_path(copied), facts_path(copied)
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "other":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "facts":
        facts.write_text("{")
    elif damage == "kind":
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"candidates": "x"}))
    elif damage == "format":
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"format": 99}))
    else:
        file.write_bytes(b"x" * 1_000)
        known = json.loads(facts.read_text())
        facts.write_text(json.dumps(known | {"digest": approximate.file_digest(file)}))
    assert ApproximateIndex.beside(EmbeddingIndex.open(copied)) is None
    assert "every row is looked at instead" in caplog.text and "--force" in caplog.text


def test_without_faiss_search_looks_at_every_row(made, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    assert search_images("row:5", made[0], SearchConfig(k=1)).results[0].hits[0].row == 5
    assert "cgdcli[ann]" in caplog.text
    with pytest.raises(ConfigError, match="not installed"):
        index_approximately(made[0], ApproximateConfig("sq8"))


def test_one_that_is_there_is_left_alone(copied):
    before = faiss_path(copied).stat().st_mtime_ns
    assert not index_approximately(copied, ApproximateConfig(recall=0.95, kind="rabitq")).new
    assert faiss_path(copied).stat().st_mtime_ns == before
    assert index_approximately(copied, ApproximateConfig("rabitq", 0.95), force=True).new


def test_another_kind_is_made_where_short_rows_do_not_do(tmp_path, monkeypatch):
    """Rows without any structure, whose bits tell little."""
    monkeypatch.setattr(approximating, "FEWEST_ROWS", 100)
    monkeypatch.setattr(approximating, "_CANDIDATES", {"rabitq": (11,), "sq8": (50,)})
    values = np.random.default_rng(0).standard_normal((3_000, 24)).astype(np.float32)
    np.save(tmp_path / "f.npy", values / np.linalg.norm(values, axis=1, keepdims=True))
    report = index_approximately(tmp_path / "f.npy", ApproximateConfig(recall=0.97))
    assert report.faiss.endswith("SQ8") and report.recall >= 0.97
    small = ApproximateConfig(recall=0.97, max_memory=100 * 2**20)
    assert approximating.kinds_to_try(small, 10**6, 512) == ["rabitq"]


def test_a_recall_that_cannot_be_reached_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(approximating, "_CANDIDATES", {"rabitq": (11,)})
    values = np.random.default_rng(0).standard_normal((3_000, 24)).astype(np.float32)
    np.save(tmp_path / "f.npy", values / np.linalg.norm(values, axis=1, keepdims=True))
    report = index_approximately(tmp_path / "f.npy", ApproximateConfig("rabitq", 0.999))
    assert report.recall < 0.999 and "is less than" in caplog.text
    facts = ApproximateFacts.read(facts_path(tmp_path / "f.npy"))
    assert facts.recall == report.recall


def test_a_noisy_clock_chooses_nothing_that_is_more_work(copied, monkeypatch):
    """By such a one, 400 candidates of 4 000 rows once seemed quicker than 100 of the same cells,
    and were so many that the index was then thought not to be worth it."""
    monkeypatch.setattr(approximating.Trial, "_seconds", lambda _, facts: 1 / facts.candidates)
    index_approximately(copied, ApproximateConfig("rabitq", 0.98), force=True)
    facts = ApproximateFacts.read(facts_path(copied))
    assert (facts.nprobe, facts.candidates) == (2, 100)


def test_few_rows_want_none(tmp_path):
    path = build(tmp_path / "feats.npy", 50)
    report = index_approximately(path)
    assert report.file is None and not faiss_path(path).exists()
    few = index_approximately(path, ApproximateConfig("sq8", 0.5))
    assert few.file.exists() and EmbeddingIndex.open(path).dim == DIM


@pytest.mark.parametrize("damage", [None, "rows", "facts", "faiss"])
def test_what_is_no_longer_worth_making_is_removed_once_it_is_old(copied, damage, caplog):
    """The hint of the warning that it is old leads out of it."""
    caplog.set_level(logging.INFO, "cgdcli")
    if damage == "rows":
        with IndexBuilder(copied, 64) as builder:
            builder.append(clustered(500, 64), pictures("/data", [f"{i}.jpg" for i in range(500)]))
            builder.finish(header(dim=64))
    elif damage == "facts":
        facts_path(copied).write_text("{")
    elif damage == "faiss":
        faiss_path(copied).write_bytes(b"x")
    report = index_approximately(copied)
    assert (report.file is None and report.fewest_rows > 0) == (damage is not None)
    left = [faiss_path(copied).exists(), facts_path(copied).exists()]
    assert left == [damage is None] * 2
    assert ("is removed" in caplog.text) == (damage is not None)
    caplog.clear()
    assert search_images("row:5", copied, SearchConfig(k=1)).results[0].hits[0].row == 5
    assert "instead" not in caplog.text


def test_one_of_few_rows_that_was_asked_for_is_told_and_made_anew_as_it_is(copied):
    """`cgd index feats.npy` said that there was none, and with --force took it away."""
    before = faiss_path(copied).stat().st_mtime_ns
    report = index_approximately(copied, ApproximateConfig(recall=0.9))
    assert report.file == faiss_path(copied) and not report.new and report.recall >= 0.98
    assert faiss_path(copied).stat().st_mtime_ns == before
    anew = index_approximately(copied, ApproximateConfig(recall=0.9), force=True)
    assert anew.new and anew.faiss == report.faiss
    assert faiss_path(copied).stat().st_mtime_ns > before


def test_what_is_not_known_to_be_one_is_left_alone(tmp_path):
    path = build(tmp_path / "feats.npy", 50)
    faiss_path(path).write_bytes(b"of somebody else")
    index_approximately(path)
    assert faiss_path(path).exists()


def test_a_row_that_is_not_finite_is_no_answer(copied):
    """Which was written after the index was opened and checked."""
    index = EmbeddingIndex.open(copied)
    quick, query = ApproximateIndex.beside(index), np.array(index.rows[5:6])
    with copied.open("r+b") as file:
        file.seek(-64 * 4 * (ROWS - 5), os.SEEK_END)
        file.write(np.full(64, np.nan, np.float32).tobytes())
    with pytest.raises(IndexFileError, match="row 5 of the index is not finite"):
        quick.search(query, index.rows, 10)


def test_a_kind_that_does_not_fit_into_memory_is_refused():
    with pytest.raises(
        ConfigError, match="short by rabitq take 2594 MB; --max-memory allows 1024"
    ) as caught:
        kinds_to_try(ApproximateConfig(max_memory=2**30), 10_000_000, 2_048)
    assert "--max-memory" in caught.value.hint
    with pytest.raises(ConfigError, match="short by sq8"):
        kinds_to_try(ApproximateConfig("sq8", max_memory=2**33), 10_000_000, 2_048)
    assert kinds_to_try(ApproximateConfig(max_memory=2**33), 10_000_000, 2_048) == ["rabitq"]


def test_a_path_that_faiss_cannot_open_is_said(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    np.save(folder / "f.npy", clustered(100, 16))
    with pytest.raises(ConfigError, match="UTF-8"):
        index_approximately(folder / "f.npy", ApproximateConfig("sq8"))


def test_two_at_once(copied):
    with writer_lock(faiss_path(copied)), pytest.raises(OutputError, match="faiss"):
        index_approximately(copied, ApproximateConfig("sq8"), force=True)


def test_nothing_is_left_of_one_that_failed(copied, monkeypatch):
    before = {f.name: f.read_bytes() for f in copied.parent.iterdir()}

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(approximating.Trial, "tuned", fail)
    with pytest.raises(KeyboardInterrupt):
        index_approximately(copied, ApproximateConfig("sq8"), force=True)
    assert {f.name: f.read_bytes() for f in copied.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("rows", "count"), [(1, 1), (100, 2), (10_000, 128), (10**6, 2_048), (10**8, 16_384)]
)
def test_cells(rows, count):
    assert cells(rows) == count


def test_rows_that_there_are_not_are_no_answer(copied):
    file, facts = faiss_path(copied), facts_path(copied)
    data = file.read_bytes()
    damaged = data.replace(np.int64(1_234).tobytes(), np.int64(9_999_999).tobytes())
    assert damaged != data
    file.write_bytes(damaged)
    known = json.loads(facts.read_text())  # the digest is of beginning and end: more is not read
    facts.write_text(json.dumps(known | {"digest": approximate.file_digest(file)}))
    with pytest.raises(IndexFileError, match="proposes row 9999999 of 6000"):
        search_images("row:1234", copied, SearchConfig(k=5))


def found_of(found, expected):
    """Of the expected rows, how many are found, in the mean."""
    return np.mean([np.isin(right, row).mean() for row, right in zip(found, expected, strict=True)])


def test_a_filter_that_goes_with_the_classes_finds_every_row(classes, caplog):
    """Of the few cells that are near a query of another class next to nothing would be left."""
    caplog.set_level(logging.INFO, "cgdcli")
    kept = classes.where('label == "b"')
    asked = [row for row in range(0, 8_000, 400) if row not in set(kept.tolist())]
    config = SearchConfig(k=10, where='label == "b"')
    answers = search_images([f"row:{row}" for row in asked], classes, config).results
    expected = nearest(classes.rows[asked], classes.rows, 10, among=kept)[1]
    assert [[hit.row for hit in answer.hits] for answer in answers] == expected.tolist()
    assert "proposes" not in caplog.text  # and nothing is claimed


def test_questions_that_it_was_not_tuned_for_are_asked_of_more_cells(classes):
    """Many hits, branches weighed anew, and means of rows that have nothing in common."""
    quick, rows = ApproximateIndex.beside(classes), np.asarray(classes.rows)
    asked, other = rows[::160], rows[::-160]
    branch = asked * np.repeat(np.sqrt([2, 0]), 32).astype(np.float32)
    mean = asked + other
    for queries, k, tuned in [
        (asked, 10, True),
        (asked, 100, True),
        (branch, 10, False),
        (branch, 50, False),
        (mean, 10, False),
    ]:
        expected = nearest(queries, rows, k)[1]
        recall = found_of(quick.search(queries, rows, k, plain=tuned)[1], expected)
        assert recall > 0.95, (k, tuned, recall)
    assert quick.effort(10) == (quick.facts.nprobe, quick.facts.candidates) == quick.effort(3)
    assert found_of(quick.propose(mean, 400), nearest(mean, rows, 10)[1]) < 0.9, "no test at all"
