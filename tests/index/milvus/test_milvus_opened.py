"""An index in Milvus answers what the same index in files answers; both forms, by one client."""

import contextlib
import dataclasses
import os

import numpy as np
import pytest
from galleries import DIM, ROOT, build, unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgdcli.config import MilvusConfig, RerankConfig, SearchConfig, branch_weights
from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.milvus import layout
from cgdcli.index.milvus.opened import MilvusIndex
from cgdcli.index.milvus.sending import send_to_milvus
from cgdcli.index.milvus.server import open_server
from cgdcli.index.store import EmbeddingIndex
from cgdcli.retrieval import search_images

ROWS = 300
NO_UTF8 = 3  # the row of such a name: SQLite compares bytes with no text


@pytest.fixture(scope="module", params=["embedded", "socket"])
def pair(request, tmp_path_factory, lite_server):
    """The index in files, and where it was sent."""
    folder = tmp_path_factory.mktemp("opened")
    file = build(folder / "feats.npy", ROWS)
    address = folder / "gallery.db" if request.param == "embedded" else lite_server.address("read")
    send_to_milvus(file, address)
    with EmbeddingIndex.open(address) as there, EmbeddingIndex.open(file) as here:
        assert isinstance(there, MilvusIndex)
        yield here, there


def same_answers(here, there, queries, k, **options):
    a, b = here.search(queries, k, **options), there.search(queries, k, **options)
    assert np.array_equal(a[1], b[1]) and np.array_equal(a[0], b[0])


def test_everything_comes_back(pair):
    here, there = pair
    assert there.header == here.header and len(there) == ROWS and there.dim == DIM
    assert dict(there.pictures()) == dict(here.pictures())
    assert [there.picture(row) for row in range(9)] == [here.picture(row) for row in range(9)]
    assert there.picture(ROWS) is None
    assert there.labels() == here.labels() and there.known_labels() == here.known_labels()
    assert there.skipped() == [("/data/broken.jpg", "cut short")]
    assert there.roots() == here.roots() == [ROOT] and there.projection is None
    assert [there.file(row) for row in range(5)] == [here.file(row) for row in range(5)]
    for label in ("007", "", "nobody", os.fsdecode(b"\xfe"), os.fsdecode(b"\xfd")):
        assert there.has_label(label) == here.has_label(label)


def test_a_picture_is_found_by_its_place_or_its_content(pair):
    here, there = pair
    for file, digest in (
        (ROOT / "front/a.jpg", "none"),
        (ROOT / "elsewhere.jpg", f"{2:064x}"),
        (ROOT / 'back/100%_[x]*?\\ "q"\n.jpg', "none"),
        (ROOT / "漢/ü.jpg", f"{3:064x}"),
        (ROOT.parent / "front/a.jpg", "none"),
        (ROOT / os.fsdecode(b"back/\xff.jpg"), "none"),
        (ROOT / os.fsdecode(b"back/\xfe.jpg"), "none"),  # shown alike
    ):
        assert there.find_rows(file, digest) == here.find_rows(file, digest)


def test_pictures_may_have_moved(pair, tmp_path, monkeypatch):
    _, there = pair
    (tmp_path / "front").mkdir()
    (tmp_path / "front/a.jpg").write_bytes(b"")
    monkeypatch.setattr(there, "root", tmp_path)
    assert there.file(0) == tmp_path / "front/a.jpg" and there.file(1) == ROOT / "front/b.jpg"


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_hits_are_those_of_files_to_the_last_bit(pair, k):
    here, there = pair
    asked = np.concatenate([here.rows[:5], unit(20, seed=5)])
    same_answers(here, there, asked, k)
    assert there.search(here.rows[3:4], 2)[1].tolist() == [[3, ROWS // 2]]  # equal ones by row


def test_hits_without_the_query_itself(pair):
    here, there = pair
    same_answers(here, there, here.rows[:6], 7, exclude=[{i, 40 + i} for i in range(6)])
    same_answers(here, there, here.rows[:2], ROWS, exclude=[{0}, set()])


def test_hits_too_large_to_come_with_their_vectors(pair, monkeypatch):
    """Candidates first, then their rows in pages; and one query at a time."""
    here, there = pair
    monkeypatch.setattr("cgdcli.index.milvus.opened._ANSWER_BYTES", 1_000)
    there.rows._kept.clear()
    same_answers(here, there, here.rows[:4], 20)


def test_more_hits_than_milvus_gives(pair, monkeypatch):
    monkeypatch.setattr("cgdcli.index.milvus.opened.MOST_HITS", 100)
    with pytest.raises(ConfigError, match="101 hits of a query are wanted; Milvus gives 100"):
        pair[1].search(unit(1), 100, exclude=[{1}])


@pytest.mark.parametrize(
    "expression",
    ['label == "007"', 'label != "007"', "label is null", 'not (label == "007" or size > 500)',
     'path like "front/%"', 'path like "%/_.jpg"', 'path like "back/%[x]*?\\\\\\\\ %"',
     "row in [1, 2, 999999]", "path is null", "size is null", 'label == "say \\"hi\\"\\\\"',
     'path like "漢/%"', 'label == ""'],
)  # fmt: skip
def test_where(pair, expression):
    here, there = pair
    expression = f"row != {NO_UTF8} and ({expression})"
    rows = here.where(expression)
    with refused_by_servers_before_2_4(there):
        assert np.array_equal(there.where(expression), rows)
        found_by_expression(here, there, expression, rows)


def found_by_expression(here, there, expression, rows):
    a = here.search(here.rows[:5], 10, among=here.among(expression))
    b = there.search(here.rows[:5], 10, among=there.among(expression))
    count = a[1].shape[1]
    assert np.array_equal(b[1][:, :count], a[1]) and (b[1][:, count:] == -1).all()
    assert np.array_equal(there.search(here.rows[:5], 10, among=rows)[1], b[1])


@contextlib.contextmanager
def refused_by_servers_before_2_4(there):
    """They look for no text but by its beginning."""
    try:
        yield
    except ConfigError as error:
        assert there.server.prefixes and "before 2.4" in error.what


texts = st.sampled_from(["007", "002", 'say "hi"\\', "", "front/a.jpg", "d1/", "漢", "a\nb", "\\"])
patterns = st.text(st.sampled_from('%_fdabck/0129.jpg*?[x]\\"\n漢'), max_size=6)
quoted = texts.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
quoted_patterns = patterns.map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
numbers = st.sampled_from(["-1", "0", "1", "3", "40", "299", "9223372036854775807"])
leaves = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["label", "path"]), signs, quoted),
    st.builds("{} {} {}".format, st.sampled_from(["row", "size"]), signs, numbers),
    st.builds("label in [{}, {}]".format, quoted, quoted),
    st.builds("{} not in [{}, {}]".format, st.sampled_from(["row", "size"]), numbers, numbers),
    st.builds("{} like {}".format, st.sampled_from(["label", "path"]), quoted_patterns),
    st.builds("{} is null".format, st.sampled_from(["label", "path", "row", "size"])),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=6,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(expression=expressions)
def test_milvus_reads_every_expression_as_the_table_does(pair, expression):
    here, there = pair
    with refused_by_servers_before_2_4(there):
        a, b = (set(index.where(expression).tolist()) - {NO_UTF8} for index in (here, there))
        assert a == b, expression


def test_reweighted_reranked_and_explained(pair):
    here, there = pair
    for config in (
        SearchConfig(k=8, branches=branch_weights("S=1,G=2"), explain=True, exclude_self=True),
        SearchConfig(k=8, rerank=RerankConfig("k-reciprocal", top=30), where='label != "001"'),
        SearchConfig(k=8, mean=True, min_similarity=0.3),
    ):
        a, b = (search_images(["row:7", "row:12"], index, config) for index in (here, there))
        assert a == b and a.results[0].hits


def test_evaluate_works_as_long_as_all_rows_fit(pair, monkeypatch):
    from cgdcli.evaluation import evaluate

    here, there = pair
    assert dataclasses.replace(evaluate(index=there), what="") == dataclasses.replace(
        evaluate(index=here), what=""
    )


def test_exact_is_refused_where_a_graph_decides(pair, monkeypatch):
    _, there = pair
    exact = SearchConfig(k=3, exact=True)
    if there.proposed_by == "FLAT":
        assert search_images("row:1", there, exact).results[0].hits
    monkeypatch.setattr(there, "about", dataclasses.replace(there.about, index_type="HNSW"))
    with pytest.raises(ConfigError, match="found by its HNSW graph"):
        search_images("row:1", there, exact)


def test_where_few_are_left_all_of_them_are_looked_at(pair, monkeypatch):
    """A graph misses hits among filtered rows."""
    here, there = pair
    monkeypatch.setattr(there, "about", dataclasses.replace(there.about, index_type="HNSW"))
    monkeypatch.setattr(there, "_candidates", lambda *_: pytest.fail("the graph was asked"))
    for expression in ('label == "002"', 'path == "nowhere"', "row < 40"):
        a = here.search(here.rows[:5], 10, among=here.among(expression))
        b = there.search(here.rows[:5], 10, among=there.among(expression))
        count = a[1].shape[1]
        assert np.array_equal(b[1][:, :count], a[1]) and (b[1][:, count:] == -1).all()
    monkeypatch.undo()
    monkeypatch.setattr(there, "about", dataclasses.replace(there.about, index_type="HNSW"))
    monkeypatch.setattr("cgdcli.index.milvus.opened._ANSWER_BYTES", 20 * 4 * DIM)
    same_answers(here, there, here.rows[:3], 4, among=None)
    asked = there.search(here.rows[:3], 4, among=there.among("row < 40"))  # more than 20
    assert np.array_equal(asked[1], here.search(here.rows[:3], 4, among=here.among("row < 40"))[1])


def test_an_approximate_index_of_the_files_is_not_asked(tmp_path, monkeypatch):
    """It lies beside gallery.db where that is beside gallery.npy, and knows the same rows."""
    from cgdcli.retrieval import hits

    file = build(tmp_path / "gallery.npy")
    send_to_milvus(file, tmp_path / "gallery.db")
    asked = []
    monkeypatch.setattr(hits.ApproximateIndex, "beside", lambda index: asked.append(index.path))
    for index in (tmp_path / "gallery.db", file):
        search_images("row:1", index)
    assert asked == [file]


def test_who_serves_it_sees_a_newer_generation(lite_server, tmp_path):
    """As `cgd serve` does, before each answer."""
    address, file = lite_server.address("renewed"), tmp_path / "feats.npy"
    send_to_milvus(build(file, 30), address)
    with EmbeddingIndex.open(address) as index:
        state = index.state()
        assert index.state() == state
        send_to_milvus(build(file, 31), address)
        assert index.state() != state
        with EmbeddingIndex.open(address) as newer:
            assert newer.state() == index.state() and len(newer) == 31


# What is not whole, not ours, not there


def test_nothing_there(lite_server, tmp_path):
    for address in (lite_server.address("nothing"), tmp_path / "nothing.db"):
        with pytest.raises(IndexFileError, match="no index is at") as caught:
            EmbeddingIndex.open(address)
        assert str(address) in caught.value.what and "cgd index" in caught.value.hint
    assert not (tmp_path / "nothing.db").exists()


def foreign(server, name, dim=4):
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    server.ask("create_collection", name, schema=schema)


def test_a_collection_of_somebody_else(lite_server, tmp_path):
    from cgdcli.index.milvus.address import milvus_address

    address = milvus_address(lite_server.address("theirs"))
    with open_server(address) as server:
        foreign(server, "theirs")
        foreign(server, "other")
        server.ask("create_alias", "other", "aliased")
        for name in ("theirs", "aliased"):
            with pytest.raises(MismatchError, match="was not made by cgd") as caught:
                EmbeddingIndex.open(lite_server.address(name))
            assert caught.value.exit_code == 4
            with pytest.raises(MismatchError, match="was not made by cgd"):
                send_to_milvus(build(tmp_path / "feats.npy"), lite_server.address(name))
            assert server.has(name)


def test_vectors_of_another_dimension(lite_server, tmp_path):
    from cgdcli.index.milvus.address import milvus_address

    address = lite_server.address("swapped")
    file = build(tmp_path / "feats.npy")
    send_to_milvus(file, address)
    header = EmbeddingIndex.open(file).header
    with open_server(milvus_address(address)) as server:
        rows = layout.rows_name("swapped", header.generation)
        server.ask("drop_alias", "swapped")
        server.ask("drop_collection", rows)
        foreign(server, rows, dim=4)
        server.ask("create_alias", rows, "swapped")
        params = server._clients[0].prepare_index_params()
        params.add_index("vector", index_type="FLAT", metric_type="IP")
        server.ask("create_index", rows, params)
    with pytest.raises(MismatchError, match="8 columns, its vectors have 4") as caught:
        EmbeddingIndex.open(address)
    assert caught.value.exit_code == 4


def test_an_answer_that_never_comes(lite_server, tmp_path):
    from galleries import Wire

    from cgdcli.index.milvus.address import milvus_address

    send_to_milvus(build(tmp_path / "feats.npy"), lite_server.address("slow"))
    wire = Wire(lite_server.port)
    with MilvusIndex.open_at(
        milvus_address(wire.address("slow")), config=MilvusConfig(request_seconds=0.5)
    ) as index:
        assert index.search(unit(1), 3)[1].shape == (1, 3)
        wire.stall()
        with pytest.raises(IndexFileError, match="failed") as caught:
            index.search(unit(1), 3)
        assert wire.address("slow") in caught.value.what
        wire.cut()
        with pytest.raises(IndexFileError, match="failed"):
            index.search(unit(1), 3)
