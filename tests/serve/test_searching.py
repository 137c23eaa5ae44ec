"""The thread that searches: it outlives whatever is asked, and looks at the index that is there."""

import os
import shutil
import threading

import numpy as np
import pytest
from cli_toys import draw

from cgdcli import embed_images
from cgdcli.config import SearchConfig
from cgdcli.embedding import EmbedRequest
from cgdcli.embedding.sharding import embed_parts
from cgdcli.errors import IndexFileError
from cgdcli.index.approximate import ApproximateIndex
from cgdcli.index.store import EmbeddingIndex
from cgdcli.serve.searching import Asked, Searching


@pytest.fixture
def copied(toy, tmp_path):
    for name in ("feats.npy", "feats.sqlite"):
        shutil.copy(toy.folder / name, tmp_path / name)
    return tmp_path / "feats.npy"


def asked(row, **settings):
    return Asked(SearchConfig(k=3, **settings), row=row)


def rows(answer):
    return [hit.row for hit in answer.hits]


def test_a_question_that_nobody_waits_for_any_more(copied):
    with Searching(copied) as searching:
        hold = threading.Event()
        held = searching.call(lambda _: hold.wait(20))
        given_up = [asked(0), asked(1, exclude_self=True), asked(99)]
        waiting = [searching.ask(question) for question in given_up]
        call = searching.call(lambda _: None)
        assert all(answer.cancel() for answer in [*waiting, call])
        hold.set()
        assert held.result(20)
        assert rows(searching.ask(asked(4)).result(20))[0] == 4


def test_nothing_that_goes_wrong_ends_it(copied, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("whatever it is")

    with Searching(copied) as searching:
        with monkeypatch.context() as patched:
            patched.setattr(EmbeddingIndex, "picture", broken)
            patched.setattr(EmbeddingIndex, "open", broken)
            os.utime(copied)
            vector = np.eye(searching.facts.dim)[0]
            for question in (asked(4), Asked(SearchConfig(), vector=vector)):
                with pytest.raises(RuntimeError, match="whatever"):
                    searching.ask(question).result(20)
            with pytest.raises(RuntimeError, match="whatever"):
                searching.call(lambda index: index.file(4)).result(20)
        assert rows(searching.ask(asked(4)).result(20))[0] == 4


def test_rows_that_were_cut_short_end_no_server(copied):
    with Searching(copied) as searching:
        assert rows(searching.ask(asked(4)).result(20))[0] == 4
        os.truncate(copied, 200)
        with pytest.raises(IndexFileError, match="shorter"):
            searching.ask(asked(4)).result(20)


def test_an_approximate_index_is_opened_once_for_each_that_is_there(copied, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(ApproximateIndex, "beside", lambda index: opened.append(index.path))
    with Searching(copied) as searching:
        for turn in range(3):
            searching.ask(asked(turn)).result(20)
        assert len(opened) == 1
        (tmp_path / "feats.faiss").write_bytes(b"another")  # as `cgd index` makes one meanwhile
        for turn in range(3):
            searching.ask(asked(turn)).result(20)
        assert len(opened) == 2
        os.utime(copied)
        for turn in range(3):
            searching.ask(asked(turn)).result(20)
        assert len(opened) == 3


def test_an_index_renewed_while_it_is_opened_is_noticed(toy, copied, tmp_path, monkeypatch):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    draw(tmp_path / "imgs/red/new.png", "red", 99)
    new = tmp_path / "new.npy"
    embed_images([tmp_path / "imgs"], new, model=toy.model)
    opened = EmbeddingIndex.open

    def slow(*given, **named):
        index = opened(*given, **named)
        if new.exists():
            new.replace(copied)
            new.with_suffix(".sqlite").replace(copied.with_suffix(".sqlite"))
        return index

    monkeypatch.setattr(EmbeddingIndex, "open", slow)
    with Searching(copied) as searching:
        assert searching.call(len).result(20) == 10


def test_an_index_in_parts_that_was_renewed_is_noticed(toy, tmp_path):
    shutil.copytree(toy.folder / "imgs", tmp_path / "imgs")
    request = EmbedRequest([tmp_path / "imgs"], tmp_path / "feats.npy", model=toy.model)
    embed_parts(request, 2)
    with Searching(tmp_path / "feats.npy") as searching:
        assert searching.call(len).result(20) == 9
        draw(tmp_path / "imgs/red/new.png", "red", 99)
        embed_parts(request, 2)
        assert searching.call(len).result(20) == 10
