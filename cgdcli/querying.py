"""What embeds the queries of an index: its own model, compiled before or loaded now.

Nothing here imports torch before it must: a query by a network that OpenVINO has in its cache needs
none of it, and torch with torchvision would take longer than all the rest.
"""

import logging
from functools import partial
from pathlib import Path

from cgdcli.config import TORCHVISION, CGDConfig, Device, EmbedPrecision, EngineName, is_timm
from cgdcli.engines import Engine
from cgdcli.engines.choosing import make_engine, without_int8
from cgdcli.engines.openvino_engine import cached_engine, quantized_engine
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.engines.vectors import AtSize, at_size, vector_engine
from cgdcli.errors import MismatchError
from cgdcli.index.store import EmbeddingIndex
from cgdcli.networks import Model, Network, known_network
from cgdcli.remote import shown
from cgdcli.weights.header import read_header
from cgdcli.weights.sources import find_by_fingerprint

logger = logging.getLogger("cgdcli")


def query_engine(
    index: EmbeddingIndex, model: Model = None, device: Device = Device.auto
) -> Engine:
    """The engine for queries: as the index was made, in its precision, of its views, projected.

    Args:
        model: None for the one that made the index.

    Raises:
        MismatchError: the model found is another than the one that made the index.
        CheckpointError: it cannot be found.
    """
    precision = EmbedPrecision.fp32
    if index.header is not None and index.header.precision in list(EmbedPrecision):
        precision = EmbedPrecision(index.header.precision)
    project = None if index.projection is None else partial(index.projection.apply, each=True)
    if precision is EmbedPrecision.int8:
        engine = _quantized(index, model, device)
        if engine is not None:
            return vector_engine(lambda _: engine, index.vectors, engine.config, project)
        precision = EmbedPrecision.fp32
    if model is None and device in (Device.auto, Device.cpu):
        compiled = _compiled_before(index, precision)
        if compiled is not None:
            config, engines = compiled
            return vector_engine(engines.__getitem__, index.vectors, config, project)
    network = model_of_index(index, model)
    dim = index.dim if index.projection is None else index.projection.dim
    if dim != network.embedding_dim:
        raise MismatchError(
            f"`{shown(index.path)}` was made of {dim} columns, the model gives "
            f"{network.embedding_dim}",
            hint="search with the model that made it",
        )

    def make(size: int) -> Engine:
        return make_engine(AtSize(network, size), precision=precision, device=device)

    return vector_engine(make, index.vectors, network.config, project)


def model_of_index(index: EmbeddingIndex, model: Model, runs: Path = Path("runs")) -> Network:
    """The model to embed queries with: the one given, else the one that made the index.

    The latter is looked for where it was, beside the index, and among the runs by fingerprint.

    Raises:
        MismatchError: the model found is another than the one that made the index.
        CheckpointError: it cannot be found.
    """
    if index.header is None or not index.header.model["fingerprint"]:
        if model is None:
            why = "has no .sqlite beside it, so it" if index.header is None else "was converted and"
            raise MismatchError(
                f"`{shown(index.path)}` {why} does not say which model made it",
                hint="name the model with --model, or ask by row: cgd search row:0 --index ...",
            )
        network = known_network(model)
        logger.warning("%s does not say which model made it: unchecked", shown(index.path))
        return network
    wanted = index.header.model["fingerprint"]
    if model is None:
        model = _recorded_model(index, runs)
    network = known_network(model)
    found = network.info
    if found.fingerprint != wanted:
        made_by = index.header.model["source"]
        same = f"{made_by} as it was then" if made_by == found.source else made_by
        raise MismatchError(
            f"the model {found.source} ({found.fingerprint[:12]}) did not make "
            f"`{shown(index.path)}`; that was {same} ({wanted[:12]})",
            hint="search with the index's own model, or embed the pictures again with this one",
        )
    return network


def _quantized(index: EmbeddingIndex, model: Model, device: Device) -> Engine | None:
    """The engine of the quantized network that the index keeps; it needs no model beside it.

    None where this machine cannot compute it, which is said.

    Raises:
        IndexFileError: the index has lost it.
        MismatchError: `model` is another than the one that made the index.
    """
    header = index.header
    assert header is not None
    why_not = without_int8(EngineName.auto, device)
    if why_not:
        logger.warning(
            "%s is int8, and its queries are computed in fp32, since %s; of a hundred about ten "
            "find another nearest neighbour",
            shown(index.path),
            why_not,
        )
        return None
    if model is not None:
        model_of_index(index, model)
    config = CGDConfig.from_dict(header.model["config"])
    digest = header.calibration or ""
    compiled = cached_engine(digest, EmbedPrecision.int8, config)
    if compiled is not None:
        return compiled
    return quantized_engine(QuantizedGraph(index.graph()), config)


def _compiled_before(
    index: EmbeddingIndex, precision: EmbedPrecision
) -> tuple[CGDConfig, dict[int, Engine]] | None:
    """The network and its engines in the cache, by size, if all of them are there and the index's
    model is a backbone's name or is where it was."""
    if index.header is None or not index.header.model["fingerprint"]:
        return None
    described = index.header.model
    recorded, source = described.get("path"), str(described["source"])
    if recorded is None:
        there = source in TORCHVISION or is_timm(source)
    else:
        there = Path(recorded).is_file() and (
            _fingerprint_there(Path(recorded)) == described["fingerprint"]
        )
    if not there:
        return None
    config = CGDConfig.from_dict(described["config"])
    engines: dict[int, Engine] = {}
    for size in index.vectors.sizes(config.transform.image_size):
        fingerprint, sized = at_size(described["fingerprint"], config, size)
        found = cached_engine(fingerprint, precision, sized)
        if found is None:
            return None
        engines[size] = found
    return config, engines


def _recorded_model(index: EmbeddingIndex, runs: Path) -> str | Path:
    assert index.header is not None
    described = index.header.model
    recorded = described.get("path")
    if recorded is None:
        return str(described["source"])  # a backbone's name
    there = Path(recorded).is_file()
    if there and _fingerprint_there(Path(recorded)) in (None, described["fingerprint"]):
        return Path(recorded)
    folders = [index.path.absolute().parent, *sorted(runs.glob("*/"))]
    found = find_by_fingerprint(described["fingerprint"], folders)
    if found is None and there:
        return Path(recorded)  # refused by its fingerprint, with both names
    if found is None:
        raise MismatchError(
            f"the model that made `{shown(index.path)}` is gone: `{recorded}` is not there, and no "
            f"checkpoint beside the index or under `{runs}` has its fingerprint "
            f"{described['fingerprint'][:12]}",
            hint="say where it is: --model FILE",
        )
    logger.info("model: %s (found by its fingerprint)", found)
    return found


def _fingerprint_there(path: Path) -> str | None:
    """What the header of a checkpoint of ours says; None for another kind of weights file."""
    if path.suffix != ".safetensors":
        return None
    metadata = read_header(path).metadata
    return None if metadata is None else str(metadata.get("fingerprint"))
