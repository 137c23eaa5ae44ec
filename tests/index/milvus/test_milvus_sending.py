"""An index goes to Milvus whole, however often it is stopped; readers never see a half."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from galleries import DIM, LiteServer, Wire, build, pictures, unit

from cgdcli.config import MilvusConfig
from cgdcli.errors import ConfigError, IndexFileError, MismatchError, OutputError
from cgdcli.index.milvus import layout, sending
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.milvus.sending import send_to_milvus
from cgdcli.index.milvus.server import open_server
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.whitening import Projection

ROWS = 300
SMALL = MilvusConfig(batch_bytes=10 * 332)  # ten rows at a time


@pytest.fixture
def file(tmp_path):
    return build(tmp_path / "feats.npy", ROWS)


@pytest.fixture(params=["embedded", "socket"])
def address(request, tmp_path, lite_server):
    if request.param == "embedded":
        return str(tmp_path / "gallery.db")
    return lite_server.address(f"to_{random.getrandbits(60):x}")


@pytest.fixture
def served(lite_server):
    return lite_server.address(f"to_{random.getrandbits(60):x}")


def is_whole(file, address):
    """Every row and picture is there, once, and found."""
    with EmbeddingIndex.open(file) as here, EmbeddingIndex.open(address) as there:
        assert there.header == here.header
        assert dict(there.pictures()) == dict(here.pictures())
        assert np.array_equal(there.rows[:], here.rows[:])
        assert there.server.count(there.collection) == len(here)
        asked = np.asarray(here.rows[::40])
        assert np.array_equal(there.search(asked, 9)[1], here.search(asked, 9)[1])
    return True


def collections(address):
    with open_server(milvus_address(address)) as server:
        name = server.address.collection
        return [known for known in server.ask("list_collections") if known.startswith(name)]


def stops(after):
    def on_progress(done, total, _):
        if done >= after:
            raise KeyboardInterrupt

    return on_progress


def test_sent_once(file, address):
    seen = []
    report = send_to_milvus(file, address, config=SMALL, on_progress=lambda *a: seen.append(a))
    assert seen[0] == (10, ROWS, 0) and seen[-1] == (ROWS, ROWS, 0) and len(seen) == 30
    assert (report.sent, report.continued, report.rows) == (ROWS, 0, ROWS)
    assert (report.recall, report.sampled) == (1.0, 32)
    whole = "CGD_TESTS_MILVUS" in os.environ and address.startswith("http")
    assert report.index_type == ("HNSW" if whole else "FLAT")
    assert report.address == address and not report.replaced
    again = send_to_milvus(file, address)
    assert (again.sent, again.recall, again.rows) == (0, None, ROWS)
    assert is_whole(file, address)


def test_a_sender_that_is_stopped_goes_on_and_nobody_reads_the_half(file, address):
    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(file, address, config=SMALL, on_progress=stops(120))
    with pytest.raises(MismatchError, match="is not whole") as caught:
        EmbeddingIndex.open(address)
    assert caught.value.exit_code == 4 and "goes on" in caught.value.hint
    seen = []
    report = send_to_milvus(file, address, on_progress=lambda *a: seen.append(a[0]))
    assert (report.continued, report.sent) == (120, 180)
    assert seen[0] == 130  # with batches of the size that it had begun with
    assert is_whole(file, address)


def test_a_batch_that_arrived_in_part(file, served):
    """A server may have taken some of its rows: they are not counted, and not twice there."""
    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(file, served, config=SMALL, on_progress=stops(50))
    with open_server(milvus_address(served)) as server:
        (rows,) = layout.generations(server, server.address.collection)
        server.ask("delete", rows, ids=[44, 47, 49])
    assert send_to_milvus(file, served).continued == 40
    assert is_whole(file, served)


def test_rows_that_the_server_lost_are_told_and_sent_anew(file, served):
    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(file, served, config=SMALL, on_progress=stops(100))
    with open_server(milvus_address(served)) as server:
        (rows,) = layout.generations(server, server.address.collection)
        server.ask("delete", rows, ids=[3])
        server.ask("delete", rows, ids=list(range(20, 30)))
    with pytest.raises(OutputError, match="289 of 300 rows are at") as caught:
        send_to_milvus(file, served)
    assert "sends them anew" in caught.value.hint
    assert send_to_milvus(file, served).continued == 0
    assert is_whole(file, served)


def test_a_newer_generation_takes_the_place_in_one_step(file, served):
    send_to_milvus(file, served)
    with EmbeddingIndex.open(served) as before:
        build(file, ROWS + 20, seed=1)
        with pytest.raises(KeyboardInterrupt):
            send_to_milvus(file, served, config=SMALL, on_progress=stops(200))
        with EmbeddingIndex.open(served) as there:  # the old one, whole
            assert len(there) == ROWS and there.header == before.header
        report = send_to_milvus(file, served)
        assert report.replaced and (report.continued, report.sent) == (200, 120)
        assert is_whole(file, served)
        with pytest.raises(IndexFileError) as caught:  # it is told, and answered nothing
            before.search(unit(1), 3)
        assert "give the command again" in caught.value.hint
    assert len(collections(served)) == 2


def test_what_was_begun_of_an_index_that_is_no_more_is_removed(file, served):
    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(file, served, config=SMALL, on_progress=stops(50))
    build(file, ROWS, seed=2)
    assert send_to_milvus(file, served).continued == 0
    assert len(collections(served)) == 2 and is_whole(file, served)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": {"source": "m", "fingerprint": "e" * 64}}, "of the model ffffffffffff"),
        ({"dim": 4, "blocks": None}, "of columns 8"),
        ({"sources": ["/other"]}, "of /data"),
    ],
)
def test_another_index_is_replaced_by_force_alone(file, served, tmp_path, values, words):
    address = served
    send_to_milvus(file, address)
    other = build(tmp_path / "other.npy", 30, **values)
    with pytest.raises(MismatchError, match=words) as caught:
        send_to_milvus(other, address)
    assert caught.value.exit_code == 4 and "--force" in caught.value.hint
    assert is_whole(file, address)
    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(other, address, replace=True, config=SMALL, on_progress=stops(20))
    assert is_whole(file, address)
    report = send_to_milvus(other, address, replace=True)
    assert report.replaced and report.continued in (10, 20)
    assert is_whole(other, address)
    assert send_to_milvus(other, address, replace=True).sent == 30  # the same once more


def test_what_queries_go_through_travels(tmp_path, served):
    rng = np.random.default_rng(0)
    projection = Projection(
        rng.standard_normal(9).astype(np.float32),
        rng.standard_normal((9, DIM)).astype(np.float32),
        50,
        0.3,
    )
    graph = rng.bytes(100_000)
    source = EmbeddingIndex.open(build(tmp_path / "feats.npy", 20))
    import dataclasses
    import hashlib

    source.header = dataclasses.replace(
        source.header,
        projection=projection.to_dict(),
        calibration=hashlib.sha256(graph).hexdigest(),
    )
    source.projection = projection
    source.graph = lambda: graph
    send_to_milvus(source, served)
    with EmbeddingIndex.open(served) as there:
        assert there.graph() == graph
        found = there.projection
        assert np.array_equal(found.mean, projection.mean) and found.to_dict() == (
            projection.to_dict()
        )
        rows = unit(3, dim=9)
        assert np.array_equal(found.apply(rows), projection.apply(rows))


def test_half_precision_rows_and_an_empty_index(tmp_path, served):
    from cgdcli.index.builder import IndexBuilder
    from cgdcli.index.records import IndexHeader

    half = tmp_path / "half.npy"
    from cgdcli.config import VectorConfig

    with IndexBuilder(half, DIM, vectors=VectorConfig(dtype="float16")) as builder:
        builder.append(unit(20), pictures(20))
        model = {"source": "m", "fingerprint": "f" * 64}
        builder.finish(IndexHeader(0, DIM, model, "torch", "fp32", None, ["/data"]))
    send_to_milvus(half, served)
    assert is_whole(half, served)
    send_to_milvus(build(tmp_path / "none.npy", 0, vectors=unit(0)), served)
    with EmbeddingIndex.open(served) as there:
        assert len(there) == 0 and there.search(unit(1), 5)[1].shape == (1, 0)


def test_what_cannot_be_sent(file, tmp_path, lite_server):
    address = lite_server.address("none")
    np.save(tmp_path / "alone.npy", unit(3))
    with pytest.raises(MismatchError, match="no table"):
        send_to_milvus(tmp_path / "alone.npy", address)
    for wrong in ("feats", "s3://bucket/x", "http://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="no address of a Milvus collection"):
            send_to_milvus(file, wrong)
    (tmp_path / "old.db").write_bytes(b"SQLite")
    with pytest.raises(ConfigError, match="is a file"):
        send_to_milvus(file, tmp_path / "old.db")
    send_to_milvus(file, address)
    with pytest.raises(ConfigError, match="in Milvus already"):
        send_to_milvus(address, address)


def test_two_of_one_machine_do_not_send_side_by_side(file, served):
    def second(*_):
        with pytest.raises(OutputError, match=r"being written|is writ"):
            send_to_milvus(file, served)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_to_milvus(file, served, config=SMALL, on_progress=second)


# Real kills


def sent_and_killed(file, address, at):
    """A process that is sending, killed when it has said that so many rows are there."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("sender.py")), str(file), address],
        stdout=subprocess.PIPE,
    ) as sender:
        for line in sender.stdout:
            if int(line) >= at:
                sender.send_signal(signal.SIGKILL)
                break
    assert sender.returncode == -signal.SIGKILL
    return at


def test_the_sender_is_killed(file, address):
    at = sent_and_killed(file, address, random.randrange(20, 250))
    report = send_to_milvus(file, address)
    assert at - 10 < report.continued < ROWS
    assert report.sent == ROWS - report.continued and is_whole(file, address)


def test_the_server_is_killed_restarted_and_reached_again(file, tmp_path):
    server = LiteServer(tmp_path / "data").start()
    try:
        address = server.address()

        def kill_for_good(done, total, _):
            if done == 90:
                server.kill()

        impatient = MilvusConfig(batch_bytes=SMALL.batch_bytes, request_seconds=0.5)
        with pytest.raises(OutputError, match="failed") as caught:
            send_to_milvus(file, address, config=impatient, on_progress=kill_for_good)
        assert address in caught.value.what and "goes on" in caught.value.hint
        server.start()
        with pytest.raises(MismatchError, match="is not whole"):
            EmbeddingIndex.open(address)

        def kill_and_restart(done, total, _):
            if done == 170:
                server.kill()
                threading.Thread(target=server.start, args=[False]).start()

        report = send_to_milvus(file, address, config=SMALL, on_progress=kill_and_restart)
        assert (report.continued, report.sent) == (90, 210)  # within its patience: nothing is said
        server.kill()
        server.start()
        assert is_whole(file, address)
    finally:
        server.kill()


def test_the_connection_is_lost_midway(file, lite_server):
    wire = Wire(lite_server.port)
    name = f"wire_{random.getrandbits(60):x}"
    impatient = MilvusConfig(batch_bytes=SMALL.batch_bytes, request_seconds=0.5)
    for at, harm in ((60, wire.stall), (130, wire.cut)):
        wire.mode = "pass"

        def on_progress(done, total, _, at=at, harm=harm):
            if done == at:
                harm()

        with pytest.raises(OutputError, match="failed"):
            send_to_milvus(file, wire.address(name), config=impatient, on_progress=on_progress)
    report = send_to_milvus(file, lite_server.address(name))
    assert report.continued >= 130 and is_whole(file, lite_server.address(name))


def test_a_server_that_finds_too_little_is_told(file, lite_server, monkeypatch, caplog):
    """A graph may be behind its rows for a while; for how long it is waited is bounded."""
    monkeypatch.setattr(sending, "SECONDS_TO_SETTLE", 0.1)
    monkeypatch.setattr(sending, "NEIGHBOURS", 10)
    from cgdcli.index.milvus.opened import MilvusIndex

    search = MilvusIndex.search
    monkeypatch.setattr(
        MilvusIndex,
        "search",
        lambda self, queries, k: tuple(
            np.where(np.arange(k) < 9, found, lost)
            for found, lost in zip(search(self, queries, k), (-np.inf, -1), strict=True)
        ),
    )
    report = send_to_milvus(file, lite_server.address("little"))
    assert report.recall == pytest.approx(0.9)
    assert "finds 90.0 % of the 10 nearest rows" in caplog.text
