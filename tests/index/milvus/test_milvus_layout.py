"""What travels with the rows: what Milvus has no word for, and what no field has room for."""

import os
from pathlib import Path

import numpy as np
import pytest
from galleries import ROOT, pictures, unit

from cgdcli.errors import ConfigError, IndexFileError
from cgdcli.index.milvus import layout
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.milvus.layout import About, picture_of, record
from cgdcli.index.milvus.server import open_server
from cgdcli.index.records import IndexHeader, Picture


def test_every_picture_comes_back():
    for row, picture in enumerate(pictures(10)):
        sent = record(row, picture, 7, unit(1)[0])
        for text in (sent["path"], sent["label"], sent["odd"]):
            text.encode()  # what protobuf takes
        assert picture_of(sent, {7: ROOT}) == picture


def test_a_text_that_is_too_long():
    with pytest.raises(ConfigError, match="70000 letters"):
        record(0, Picture(ROOT, "a.jpg", "x" * 70_000), 0, unit(1)[0])


def test_what_is_said_of_the_rows_may_be_large(tmp_path):
    header = IndexHeader(5, 8, {"classes": ["x" * 100] * 2_000}, "torch", "fp32", None, ["/data"])
    odd = Path(os.fsdecode(b"/d\xff"))
    said = About(header, {0: ROOT, 1: odd}, "FLAT", 3)
    large = np.random.default_rng(0).bytes(2_000_000)
    with open_server(milvus_address(tmp_path / "a.db")) as server:
        layout.create(server, "a__1", 8, "FLAT")
        layout.load(server, "a__1")
        layout.write_about(server, "a__1", said, {"large": large, "empty": b""})
        assert layout.read_about(server, "a__1") == said
        assert layout.read_blob(server, "a__1", "large") == large
        assert layout.read_blob(server, "a__1", "empty") == b""
        assert layout.read_blob(server, "a__1", "none") is None
        server.ask("delete", "a__1_about", filter='name == "large" and place == 40')
        with pytest.raises(IndexFileError, match="not whole"):
            layout.read_blob(server, "a__1", "large")
