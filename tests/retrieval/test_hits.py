"""From rows of queries to hits: whatever becomes of the files meanwhile."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cgdcli.config import ApproximateConfig
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.indexing import index_approximately

CUT = """
import os, sys
from cgdcli.config import RerankConfig, SearchConfig
from cgdcli.errors import IndexFileError
from cgdcli.index.approximate import ApproximateIndex
from cgdcli.index.store import EmbeddingIndex
from cgdcli.retrieval.hits import Searched, hits_of
from cgdcli.retrieval.queries import Query, QueryReader
from cgdcli.retrieval.vectors import blocks_of

way, path = sys.argv[1:]
index = EmbeddingIndex.open(path)
row = index.rows[3_999].copy()

def cut():
    os.truncate(path, 4_096)

def cut_after(work):
    def cutting(*given, **named):
        found = work(*given, **named)
        cut()
        return found
    return cutting

config = {
    "rerank": SearchConfig(exact=True, rerank=RerankConfig("aqe", 20)),
    "explain": SearchConfig(exact=True, explain=True),
}.get(way, SearchConfig())
if way in ("rerank", "explain"):
    EmbeddingIndex.search = cut_after(EmbeddingIndex.search)
elif way == "approximate":
    ApproximateIndex.propose = cut_after(ApproximateIndex.propose)
else:
    cut()
try:
    if way == "query":
        QueryReader(["row:3999"], index, None, "cpu").read(["row:3999"])
    else:
        query = Query("row", row, None, None, frozenset())
        list(hits_of([query], Searched(index, config, blocks_of(index, config), None)))
except IndexFileError as error:
    print(error.what)
"""


@pytest.fixture
def cuttable(tmp_path):
    """4 000 rows of 64 in two branches, an approximate index beside them; the `.npy` alone."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 64))[np.arange(4_000) % 40] + rng.standard_normal((4_000, 64))
    blocks = rows.reshape(-1, 2, 32)
    rows = (blocks / np.linalg.norm(blocks, axis=2, keepdims=True)).reshape(-1, 64) / np.sqrt(2)
    model = {"source": "m.safetensors", "fingerprint": "f" * 64}
    about = IndexHeader(0, 64, model, "torch", "fp32", [("S", 0, 32), ("G", 32, 64)], ["/data"])
    with IndexBuilder(tmp_path / "feats.npy", 64) as builder:
        seen = [Picture(Path("/data"), f"{i}.jpg", None, i, i, f"{i:064x}") for i in range(4_000)]
        builder.append(rows.astype(np.float32), seen)
        builder.finish(about)
    np.save(tmp_path / "alone.npy", rows.astype(np.float32))
    for name in ("feats.npy", "alone.npy"):
        index_approximately(tmp_path / name, ApproximateConfig("rabitq", 0.5))
    return tmp_path


@pytest.mark.parametrize("way", ["approximate", "rerank", "explain", "query", "beside"])
def test_rows_that_are_cut_short_meanwhile_are_an_error_and_no_crash(cuttable, way):
    """A process of its own: to touch a map beyond the end of its file would end this one."""
    path = cuttable / ("alone.npy" if way == "beside" else "feats.npy")
    ran = subprocess.run(
        [sys.executable, "-c", CUT, way, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "become shorter" in ran.stdout
