"""What embeds the queries of an index does what was done to its rows, also without its network."""

import numpy as np
import pytest
import torch
from cli_toys import draw_classes

from cgdcli import embed_images, querying
from cgdcli.config import CGDConfig, Device, EmbedConfig, Transform, VectorConfig
from cgdcli.engines import openvino_engine as fast
from cgdcli.errors import MismatchError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.model.cgd import CGD
from cgdcli.querying import query_engine
from cgdcli.streaming import embed_files
from cgdcli.weights.checkpoint import Checkpoint

VECTORS = VectorConfig(flip=True, scales=(1, 1.5), whiten=True, dim=4)


@pytest.fixture
def made(tmp_path):
    """An index of twelve pictures, its model beside it; made by an engine."""
    torch.manual_seed(0)
    config = CGDConfig(transform=Transform(image_size=32), embedding_dim=16)
    Checkpoint(config, dict(CGD(config).state_dict())).save(tmp_path / "m.safetensors")
    draw_classes(tmp_path / "imgs", "red green blue", 4)

    def make(engine, name="f.npy"):
        how = EmbedConfig(4, 1, Device.cpu, engine=engine, vectors=VECTORS)
        embed_images(
            tmp_path / "imgs", tmp_path / name, model=tmp_path / "m.safetensors", config=how
        )
        return EmbeddingIndex.open(tmp_path / name)

    return make


def queries(index, engine):
    files = [index.file(row) for row in range(len(index))]
    (batch,) = embed_files(engine, files, batch_size=12, workers=1)
    return batch.rows


def test_queries_are_the_rows_again(made):
    with made("torch") as index:
        assert np.allclose(queries(index, query_engine(index)), index.rows, atol=1e-5)


def test_a_model_of_other_columns_is_refused(made, tmp_path):
    config = CGDConfig(transform=Transform(image_size=32), embedding_dim=8)
    with made("torch") as index:
        index.header.model["fingerprint"] = ""  # as of an index that was converted
        with pytest.raises(MismatchError, match="made of 16 columns, the model gives 8"):
            query_engine(index, CGD(config))


@pytest.mark.openvino
@pytest.mark.skipif(not fast.is_installed(), reason="OpenVINO is not installed")
def test_graphs_of_every_size_in_the_cache_need_no_network(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with made("openvino") as index:
        graphs = sorted((tmp_path / "cache/cgd/engines").iterdir())
        assert len(graphs) == 2
        real = querying.model_of_index
        monkeypatch.setattr(querying, "model_of_index", None)  # calling it would fail
        assert np.allclose(queries(index, query_engine(index)), index.rows, atol=1e-5)
        graphs[0].unlink()
        with pytest.raises(TypeError, match="not callable"):
            query_engine(index)
        monkeypatch.setattr(querying, "model_of_index", real)
        assert np.allclose(queries(index, query_engine(index)), index.rows, atol=1e-5)
