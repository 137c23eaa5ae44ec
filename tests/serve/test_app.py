"""The addresses of `cgd serve`, asked over a real socket."""

import base64
import io
import json
import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from cli_toys import contents, draw, picture
from PIL import Image
from serving import served

from cgdcli import SearchConfig, embed_images, search_images
from cgdcli.errors import DatasetError
from cgdcli.index.store import EmbeddingIndex


@pytest.fixture(scope="module")
def server(toy):
    with served(toy.index, rate=10_000, upload=300_000) as running:
        yield running


JSON = {"Content_Type": "application/json"}


def jpeg(label="red", number=50, size=(44, 36)):
    stream = io.BytesIO()
    picture(label, number, size).save(stream, "PNG")
    return stream.getvalue()


def as_text(vector):
    return base64.b64encode(vector.tobytes()).decode()


def rows(reply):
    assert reply.status == 200, reply.data
    return [(hit["row"], hit["similarity"]) for hit in reply.json["hits"]]


def found(answer):
    return [(hit.row, hit.similarity) for hit in answer.hits]


def test_a_row_gives_what_search_gives(server, toy):
    (answer,) = search_images("row:4", toy.index, SearchConfig(k=5, explain=True)).results
    reply = server.get("/api/search?row=4&k=5")
    assert rows(reply) == found(answer)
    assert reply.json["label"] == answer.label and reply.json["row"] == 4
    for body, hit in zip(reply.json["hits"], answer.hits, strict=True):
        assert (body["label"], body["branches"]) == (hit.label, hit.branches)
        assert body["picture"] == f"/api/pictures/{hit.row}"


def test_a_picture_gives_what_search_gives(server, toy, tmp_path):
    file = tmp_path / "query.png"
    file.write_bytes(jpeg())
    (answer,) = search_images(file, toy.index, SearchConfig(k=9)).results
    reply = server.get("/api/search?k=9", jpeg(), Content_Type="image/png")
    assert [row for row, _ in rows(reply)] == [row for row, _ in found(answer)]
    expected = [similarity for _, similarity in found(answer)]
    assert [s for _, s in rows(reply)] == pytest.approx(expected, abs=1e-5)


def test_the_vector_of_an_answer_asks_again(server):
    first = server.get("/api/search?k=4", jpeg(), Content_Type="image/png")
    body = json.dumps({"vector": first.json["vector"]}).encode()
    again = server.get("/api/search?k=4", body, Content_Type="application/json")
    assert rows(again) == rows(first)


def test_settings(server, toy):
    labelled = server.get("/api/search?row=0&label=green").json["hits"]
    assert labelled and {hit["label"] for hit in labelled} == {"green"}
    both = server.get("/api/search?row=0&label=green&where=row%20%3C%204").json["hits"]
    assert {hit["row"] for hit in both} < {hit["row"] for hit in labelled}
    config = SearchConfig(k=9, branches=(("G", 1.0),))
    (answer,) = search_images("row:0", toy.index, config).results
    assert rows(server.get("/api/search?row=0&k=9&branches=G=1")) == found(answer)
    near = server.get("/api/search?row=0&min_similarity=0.99").json["hits"]
    assert near and all(hit["similarity"] >= 0.99 for hit in near)
    assert 0 not in [r for r, _ in rows(server.get("/api/search?row=0&exclude_self=true"))]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("row=9", "0 to 8"),
        ("row=-1", "0 to 8"),
        ("row=0&branches=X%3D1", "branches"),
        ("row=0&branches=S", "LETTER=WEIGHT"),
        ("row=0&where=colour%3D1", "label, path, row, size"),
        ("row=0&k=0", "greater than or equal to 1"),
        ("row=x", "integer"),
        ("row=0&k=1001", "1001 hits are wanted; one answer has at most 1000; k=1000, or fewer"),
        ("row=0&label=red&where=" + quote("row < 3) or (row > 5"), "is wanted"),
        ("row=0&label=red&where=" + quote("row < 3 or row > 5)"), "is wanted"),
        ("row=0&label=red&where=" + quote('label == "'), "is wanted"),
    ],
)
def test_what_cannot_be_asked_is_said(server, path, words):
    reply = server.get(f"/api/search?{path}")
    assert reply.status == 422 and words in reply.data.decode()
    assert "--" not in reply.data.decode()  # options are the command's, and these are parameters


def test_the_remedy_is_one_that_can_be_asked(server):
    refused = server.get("/api/search?row=0&branches=X%3D1").json["detail"]
    assert refused.endswith("name those: branches=S=1,G=1")
    assert server.get("/api/search?row=0&branches=S=1,G=1").status == 200


def test_a_label_that_could_end_the_expression_is_a_label(server):
    label = quote('" or row >= 0 or label == "')
    reply = server.get(f"/api/search?row=0&label={label}")
    assert reply.status == 200 and reply.json["hits"] == []


def test_a_condition_and_a_label_are_both_true(server):
    where = quote("row < 3 or row > 5")
    reply = server.get(f"/api/search?row=0&label=green&where={where}")
    labels = {hit["label"] for hit in reply.json["hits"]}
    alone = {row for row, _ in rows(server.get(f"/api/search?row=0&where={where}"))}
    of_label = {row for row, _ in rows(server.get("/api/search?row=0&label=green"))}
    assert labels <= {"green"} and {row for row, _ in rows(reply)} == alone & of_label


def test_without_a_number_an_answer_is_as_long_as_one_may_be(toy):
    with served(toy.index, most_hits=4) as server:
        assert len(rows(server.get("/api/search?row=0"))) == 4
        assert server.get("/api/search?row=0&k=5").status == 422
        assert server.get("/api/index").json["most_hits"] == 4


@pytest.mark.parametrize(
    "body",
    [b"no picture", b"\xff\xd8\xff\xe0" + b"x" * 500, jpeg()[: len(jpeg()) // 2]],
)
def test_what_is_no_picture(server, body):
    reply = server.get("/api/search", body, Content_Type="image/png")
    assert reply.status == 422 and "hint" not in reply.data.decode() and reply.json["detail"]


def test_a_bomb_is_refused_before_it_is_decoded(server, monkeypatch):
    stream = io.BytesIO()
    Image.new("1", (11_000, 10_000)).save(stream, "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    reply = server.get("/api/search", stream.getvalue(), Content_Type="image/png")
    assert reply.status == 422 and "110 megapixels; at most 100" in reply.json["detail"]


def test_no_program_of_a_stranger_is_run(server, monkeypatch):
    """Pillow has an EPS drawn by Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("run"))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    reply = server.get("/api/search", program, Content_Type="image/jpeg")
    assert reply.status == 422 and "not a picture" in reply.json["detail"]


def test_the_length_of_a_vector_counts_not(server, toy):
    vector = np.load(toy.index)[4]
    one, long = (
        server.get("/api/search?k=9", json.dumps({"vector": as_text(given)}).encode(), **JSON)
        for given in (vector, 1e5 * vector)
    )
    assert [row for row, _ in rows(one)] == [row for row, _ in rows(long)]
    near = [similarity for _, similarity in rows(one)]
    assert [similarity for _, similarity in rows(long)] == pytest.approx(near, abs=1e-6)
    assert near[-1] < 0.999


def half_a_picture(server):
    connection = socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])))
    head = "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
    connection.sendall(head.encode() + b"x" * 99)
    return connection


def test_who_sends_slowly_is_not_waited_for(toy, monkeypatch):
    monkeypatch.setattr("cgdcli.serve.uploads.SECONDS_OF_AN_UPLOAD", 0.3)
    with served(toy.index) as server, half_a_picture(server) as connection:
        connection.settimeout(20)
        assert b"408" in connection.recv(100)


def test_only_so_much_is_received_at_a_time(toy, monkeypatch, capfd):
    data = jpeg()
    monkeypatch.setattr("cgdcli.serve.uploads.LARGEST_AT_ONCE", 1)
    with served(toy.index, rate=10_000, upload=len(data) + 150) as server:
        slow = [half_a_picture(server) for _ in range(2)]  # 198 bytes in all
        time.sleep(0.3)
        reply = server.get("/api/search", data)
        assert reply.status == 503 and reply.headers["retry-after"] == "1"
        assert server.get("/api/search?row=0").status == 200
        for connection in slow:
            connection.close()
        time.sleep(0.3)
        assert server.get("/api/search", data).status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_names_that_are_not_utf8_are_shown_and_asked_for_as_they_are_shown(toy, tmp_path):
    folder = tmp_path / os.fsdecode(b"imgs/caf\xe9")
    folder.mkdir(parents=True)
    for number in range(2):
        draw(folder / f"{number}.png", "red", number)
    draw(tmp_path / "imgs/b/x.png", "blue", 1)
    embed_images([tmp_path / "imgs"], tmp_path / "feats.npy", model=toy.model)
    with served(tmp_path / "feats.npy") as server:
        assert server.get("/api/index").json["labels"] == {"b": 1, "caf\ufffd": 2}
        reply = server.get("/api/search?row=1&label=" + quote("caf\ufffd"))
        assert [row for row, _ in rows(reply)] == [1, 2]
        assert reply.json["label"] == reply.json["hits"][0]["label"] == "caf\ufffd"
        assert reply.json["hits"][0]["path"].endswith("caf\ufffd/0.png")


def test_a_picture_that_cannot_be_fetched_is_gone(toy, monkeypatch):
    def fails(_):
        raise DatasetError("the network is down", hint="wait")

    monkeypatch.setattr("cgdcli.serve.pictures.fetch", fails)
    with served(toy.index) as server:
        assert server.get("/api/pictures/0").status == 404


def test_an_empty_body(server):
    assert server.get("/api/search", b"", Content_Type="image/png").status == 422


@pytest.mark.parametrize(
    "vector",
    ["", "!!", *(as_text(np.full(n, v, "<f4")) for n, v in ((256, 0), (3, 1), (256, np.nan)))],
)
def test_what_is_no_vector(server, vector):
    body = json.dumps({"vector": vector}).encode()
    assert server.get("/api/search", body, Content_Type="application/json").status == 422


def test_a_picture_that_is_too_large_is_not_read(server):
    reply = server.get("/api/search", b"x" * 300_001, Content_Type="image/png")
    assert reply.status == 413 and "0.286" in reply.json["detail"]


def test_pictures_are_those_of_the_index_and_no_others(server, toy):
    reply = server.get("/api/pictures/3?size=160")
    assert reply.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(reply.data)) as image:
        assert max(image.size) <= 160
    for path in ("9", "-1", "x", "..%2F..%2F..%2Fetc%2Fpasswd", "../../../../etc/passwd", "3%00"):
        assert server.get(f"/api/pictures/{path}").status in (404, 422), path
    for path in ("/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/feats.sqlite"):
        assert server.get(path).status == 404, path
    assert server.get("/api/pictures/3?size=999").status == 422


def test_what_is_dropped_is_stored_nowhere(server, toy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = contents(toy.folder)
    for number in range(5):
        assert server.get("/api/search", jpeg(number=60 + number)).status == 200
    assert contents(toy.folder) == before and not list(tmp_path.iterdir())


def test_what_the_index_is(server, toy):
    about = server.get("/api/index").json
    assert (about["rows"], about["branches"]) == (9, ["S", "G"])
    assert about["labels"] == {"blue": 3, "green": 3, "red": 3}


def test_pages_ask_nothing_of_others_and_say_so(server):
    for path in ("/", "/api"):
        reply = server.get(path)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and reply.status == 200
        text = reply.data.decode()
        assert "http://" not in text and "https://" not in text
    paths = server.get("/openapi.json").json["paths"]
    assert set(paths) == {"/api/search", "/api/index", "/api/pictures/{row}"}


def test_another_name_for_this_machine_is_refused(server):
    refused = server.get("/api/index", Host="evil.example")
    assert refused.status == 421 and "nosniff" in refused.headers["x-content-type-options"]
    assert server.get("/api/index", Host="localhost:99").status == 200


def test_fifty_at_once_are_answered_alike_and_together(server, monkeypatch):
    passes, engine = [], server.searching.engine
    embed = type(engine).embed

    def counted(self, pixels):
        passes.append(len(pixels))
        time.sleep(0.05)  # so that others come meanwhile
        return embed(self, pixels)

    monkeypatch.setattr(type(engine), "embed", counted)
    pictures = [jpeg(("red", "green", "blue")[i % 3], 70 + i) for i in range(50)]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda data: rows(server.get("/api/search?k=3", data)), pictures))
    assert sum(passes) == 50 and len(passes) < 25 and max(passes) <= 16
    for number in (0, 20, 49):
        alone = rows(server.get("/api/search?k=3", pictures[number]))
        assert [row for row, _ in alone] == [row for row, _ in together[number]]


def test_haste_is_told_to_wait(toy):
    with served(toy.index, rate=1) as server:
        replies = [server.get("/api/search?row=0") for _ in range(6)]
        assert [reply.status for reply in replies] == [200] * 4 + [429] * 2
        assert replies[-1].headers["retry-after"] == "1"
        assert "default-src 'none'" in replies[-1].headers["content-security-policy"]
        assert server.get("/api/index").status == 200
        time.sleep(1.1)
        assert server.get("/api/search?row=0").status == 200


def test_pictures_have_a_rate_of_their_own(toy, monkeypatch):
    monkeypatch.setattr("cgdcli.serve.app.PICTURES_A_SECOND", 0.5)
    with served(toy.index, rate=0.5) as server:
        assert [server.get("/api/pictures/0").status for _ in range(4)] == [200, 200, 429, 429]
        assert server.get("/api/search?row=0").status == 200


def test_one_that_listens_everywhere_knows_its_names(toy):
    with served(toy.index, host="0.0.0.0", names=("pictures.lan",)) as server:  # says so alone
        for host, status in (("10.1.2.3", 200), ("pictures.lan:80", 200), ("evil.example", 421)):
            assert server.get("/api/index", Host=host).status == status, host


def test_too_many_that_wait_are_told(toy):
    with served(toy.index, rate=10_000, waiting=1) as server:
        hold = threading.Event()
        server.searching.call(lambda _: hold.wait(20))
        time.sleep(0.2)
        server.searching.call(lambda _: None)
        reply = server.get("/api/search?row=0")
        hold.set()
        assert reply.status == 503 and reply.headers["retry-after"] == "1"


def test_an_index_that_was_renewed_is_searched_as_it_is_now(toy, tmp_path):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    index = tmp_path / "feats.npy"
    embed_images([tmp_path / "imgs"], index, model=toy.model)
    with served(index) as server:
        assert server.get("/api/index").json["rows"] == 9
        before = server.get("/api/search?row=0").json["generation"]
        draw(tmp_path / "imgs/red/new.png", "red", 99)
        embed_images([tmp_path / "imgs"], index, model=toy.model)
        reply = server.get("/api/search?row=9&k=1&where=row%20%3D%3D%209")
        assert rows(reply) == [(9, pytest.approx(1, abs=1e-6))]
        assert server.get("/api/index").json["rows"] == 10
        assert before != reply.json["generation"] == server.get("/api/index").json["generation"]
        index.with_suffix(".sqlite").write_bytes(b"broken")
        assert server.get("/api/search?row=9").status == 200  # as it was
        assert server.get("/api/index").json["rows"] == 10
    assert len(EmbeddingIndex.open(toy.index)) == 9


def test_a_row_of_an_index_that_was_renewed_is_not_taken_for_another_picture(toy, tmp_path):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    index = tmp_path / "feats.npy"
    embed_images([tmp_path / "imgs"], index, model=toy.model)
    with served(index) as server:
        of = server.get("/api/index").json["generation"]
        kept = server.get(f"/api/pictures/0?size=160&of={of}").data
        assert server.get(f"/api/search?row=0&of={of}").status == 200
        vector = json.dumps({"vector": server.get("/api/search?row=0").json["vector"]}).encode()
        min((tmp_path / "imgs/blue").iterdir()).unlink()  # the first row: all others move up
        embed_images([tmp_path / "imgs"], index, model=toy.model, rebuild=True)
        for path in (f"/api/search?row=1&of={of}", f"/api/pictures/1?of={of}"):
            reply = server.get(path)
            assert reply.status == 409 and "the index was renewed" in reply.json["detail"], path
        assert server.get(f"/api/search?of={of}&where=row==1", vector, **JSON).status == 409
        assert server.get(f"/api/pictures/0?size=160&of={of}").data == kept  # still known
        assert server.get("/api/pictures/0?size=160").data != kept
        now = server.get("/api/index").json
        assert (now["rows"], now["generation"] != of) == (8, True)
        assert server.get(f"/api/search?row=1&of={now['generation']}").status == 200
        assert server.get("/api/search?row=1").status == 200  # whatever it is now
        assert server.get("/api/search", vector, **JSON).status == 200


def test_a_picture_without_a_generation_is_the_one_there_now(toy, tmp_path):
    """It was the one kept of the index before, for as long as nobody searched."""
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    index = tmp_path / "feats.npy"
    embed_images([tmp_path / "imgs"], index, model=toy.model)
    with served(index) as server:
        before = server.get("/api/pictures/0?size=160").data
        assert server.get("/api/pictures/0?size=160").data == before
        min((tmp_path / "imgs/blue").iterdir()).unlink()
        embed_images([tmp_path / "imgs"], index, model=toy.model, rebuild=True)
        assert server.get("/api/pictures/0?size=160").data != before
        assert server.get("/api/pictures/0?size=160&of=").status == 409


def test_rows_alone_that_were_renewed_are_told_apart_too(toy, tmp_path):
    rows = np.load(toy.index)
    np.save(tmp_path / "alone.npy", rows)
    with served(tmp_path / "alone.npy", model=toy.model) as server:
        of = server.get("/api/index").json["generation"]
        assert server.get(f"/api/search?row=3&of={of}").status == 200
        np.save(tmp_path / "new.npy", rows[::-1])
        (tmp_path / "new.npy").replace(tmp_path / "alone.npy")
        assert server.get(f"/api/search?row=3&of={of}").status == 409
        assert server.get("/api/index").json["generation"] != of


def test_who_asks_what_the_index_is_leaves_room_for_searches(toy):
    """However many do: they wait for one look."""
    with served(toy.index, waiting=4) as server, ThreadPoolExecutor(12) as pool:
        held, hold = threading.Event(), threading.Event()
        server.searching.call(lambda _: (held.set(), hold.wait(20)))
        assert held.wait(20)
        asking = [pool.submit(server.get, "/api/index") for _ in range(11)]
        time.sleep(0.5)
        search = pool.submit(server.get, "/api/search?row=1")
        deadline = time.monotonic() + 20
        while server.searching._waiting.qsize() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.searching._waiting.qsize() == 2
        hold.set()
        assert {reply.result().status for reply in asking} == {200}
        assert search.result().status == 200


def test_what_the_index_is_is_what_it_is_now(toy, tmp_path):
    """Before anybody has searched it."""
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    embed_images([tmp_path / "imgs"], tmp_path / "feats.npy", model=toy.model)
    with served(tmp_path / "feats.npy") as server:
        draw(tmp_path / "imgs/red/new.png", "red", 99)
        embed_images([tmp_path / "imgs"], tmp_path / "feats.npy", model=toy.model)
        assert server.get("/api/index").json["rows"] == 10
