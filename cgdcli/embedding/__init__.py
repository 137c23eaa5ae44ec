"""Job: pictures become an index."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from cgdcli.config import EmbedConfig, Precision, VectorConfig
from cgdcli.datasets.folders import folder_labels, read_label_table
from cgdcli.embedding.parity import Parity, chosen_precision
from cgdcli.embedding.refreshing import refresh
from cgdcli.engines import Engine
from cgdcli.engines.choosing import make_engine
from cgdcli.engines.vectors import AtSize, vector_engine
from cgdcli.errors import DatasetError, OutputError
from cgdcli.files import check_output
from cgdcli.images.decoding import pixel_limit
from cgdcli.images.finding import FoundImage, Listing, absolute_path, find_images, list_images
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, index_path, relative_to_index
from cgdcli.index.replacing import check_replaceable, header_there
from cgdcli.index.whitening import check_enough
from cgdcli.networks import Model, Network, known_network
from cgdcli.reports import EmbedReport
from cgdcli.streaming import OnProgress


def embed_images(
    sources: Iterable[Path | str] | Path | str,
    output: Path | str,
    *,
    model: Model = None,
    listed: bool = False,
    labels: str = "folder",
    exclude: Sequence[str] = (),
    verify: bool = False,
    rebuild: bool = False,
    config: EmbedConfig | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Embed files and folders into an index: `output` (.npy) and the `.sqlite` beside it.

    An index of the same sources and model is refreshed: only what is new or has changed is
    embedded. What a killed run had done is not done again.

    Args:
        sources: pictures, folders, or patterns such as `imgs/**/*.jpg`.
        model: a `CGD`, or what `weights.loading.load_model` takes.
        listed: `sources` are pictures, whatever they are called; what is no longer among them when
            the index is refreshed leaves it.
        labels: `folder` (the class folder, where a source holds class folders), `none`, or the
            path of a CSV file with columns path,label.
        exclude: patterns of pictures to leave out; see `images.finding.find_images`.
        verify: compare the content of every picture with the index, not only size and time.
        rebuild: start over, also from an index of other sources or another model.

    Raises:
        DatasetError: no picture is found, none can be read, or a folder is gone half-way.
        MismatchError: `output` is something else than an index of these sources by this model.
        OutputError: it cannot be written.
    """
    config = config or EmbedConfig()
    started = time.monotonic()
    paths = [Path(s) for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
    target = checked_output(Path(output))
    listing = list_images(paths, exclude) if listed else find_images(paths, exclude, tolerant=True)
    _check_found(paths, listing)
    names = _labels(labels, listing.images)
    network = known_network(model)
    there = None if rebuild else header_there(target)
    _check_vectors(network, config.vectors, len(listing.images), there)
    make, precision, parity = _engine(network, listing, config, there)
    origins = sorted(str(absolute_path(path)) for path in ([Path.cwd()] if listed else paths))
    made_by = there.engine if there else ""
    header = _header(network, made_by, precision, parity, config, origins, labels, target)
    writer = _builder(target, header, network, config.vectors, listed, rebuild)
    with writer as builder, pixel_limit(config.max_megapixels):
        done = refresh(builder, header, listing, names, make, config, verify, on_progress)
    return EmbedReport(
        index=target,
        rows=done.rows,
        embedding_dim=header.dim,
        model=network.info,
        seconds=time.monotonic() - started,
        skipped=done.skipped,
        passed_over=listing.passed_over,
        zero_blocks=done.zero_blocks,
        labels=done.labels,
        embedded=done.embedded,
        renamed=done.renamed,
        relabelled=done.relabelled,
        dropped=done.dropped,
        continued=done.continued,
        excluded=listing.excluded,
        engine=done.engine,
        precision=precision,
        times=done.times,
        vectors=str(config.vectors),
    )


def _engine(
    network: Network, listing: Listing, config: EmbedConfig, there: IndexHeader | None
) -> tuple[Callable[[], Engine], Precision, Parity | None]:
    """What makes the engine, its precision, and how that agreed with fp32 where it is reduced.

    Args:
        there: of the index that is refreshed.
    """
    before = None
    if there is not None and there.model["fingerprint"] == network.fingerprint:
        before = there.precision, there.parity

    @cache
    def make(precision: Precision) -> Engine:
        def at(size: int) -> Engine:
            return make_engine(
                AtSize(network, size),
                engine=config.engine,
                precision=precision,
                device=config.device,
            )

        return vector_engine(at, config.vectors, network.config)

    with pixel_limit(config.max_megapixels):
        files = [image.file for image in listing.images]
        precision, parity = chosen_precision(make, files, config, before)
    return lambda: make(precision), precision, parity


def _check_vectors(
    network: Network, vectors: VectorConfig, pictures: int, there: IndexHeader | None
) -> None:
    """Say what cannot be before hours of embedding."""
    vectors.sizes(network.config.transform.image_size)
    dim = vectors.stored_dim(network.embedding_dim)
    if vectors.projects and there is None:
        check_enough(pictures, dim)


def _builder(
    target: Path,
    header: IndexHeader,
    network: Network,
    vectors: VectorConfig,
    listed: bool,
    rebuild: bool,
) -> IndexBuilder:
    """What writes the index: it goes on with rows of this model, precision, views and sources
    only."""

    def refreshes() -> bool:
        return check_replaceable(target, header, rebuild=rebuild) and not rebuild

    settings = {
        "model": header.model["fingerprint"],
        "precision": header.precision,
        "decode": header.decode,
        "sources": header.sources,
        "listed": listed,
    }
    if header.vectors:
        settings["vectors"] = str(vectors)
    return IndexBuilder(
        target,
        network.embedding_dim,
        settings=settings,
        refreshes=refreshes,
        restart=rebuild,
        vectors=vectors,
    )


def checked_output(output: Path) -> Path:
    """The `.npy` to write; its folder must exist and be writable.

    Raises:
        OutputError: another suffix, a folder, or a folder that is missing or not writable.
    """
    target = index_path(output) if not output.is_dir() else output
    if target.suffix != ".npy" and not target.is_dir():
        raise OutputError(
            f"the index `{output}` should end in .npy: it is a NumPy array",
            hint=f"try -o {output}.npy",
        )
    check_output(target, force=True, what="index")
    return target


def _check_found(paths: list[Path], listing: Listing) -> None:
    if listing.images:
        return
    if not paths:
        raise DatasetError(
            "the list of files is empty; at least one picture is wanted",
            hint="one file a line, or with -0 one after each NUL: find imgs -print0 | cgd embed "
            "--files-from - -0 -o feats.npy",
        )
    where = ", ".join(f"`{path}`" for path in paths[:5])
    empty = f"no picture among {listing.passed_over} files" if listing.passed_over else "no files"
    raise DatasetError(
        f"{where}: {empty}; at least one picture (.jpg, .png, .webp ...) is wanted",
        hint="give a picture or a folder with pictures in it or below it",
    )


def _labels(labels: str, images: Sequence[FoundImage]) -> list[str | None]:
    if labels == "none":
        return [None] * len(images)
    if labels == "folder":
        return folder_labels(images)
    return read_label_table(Path(labels), images)


def _header(
    network: Network,
    engine: str,
    precision: Precision,
    parity: Parity | None,
    config: EmbedConfig,
    sources: list[str],
    labels: str,
    target: Path,
) -> IndexHeader:
    described = network.info.to_dict()
    if Path(network.info.source).is_file():
        described["path"] = os.path.abspath(network.info.source)
    return IndexHeader(
        rows=0,  # the builder counts
        dim=config.vectors.stored_dim(network.embedding_dim),
        model=described,
        engine=engine,
        precision=precision.value,
        blocks=None if config.vectors.projects else network.blocks,
        sources=sources,
        relative_sources=[str(relative_to_index(source, target)) for source in sources],
        labels=labels,
        parity=parity.to_dict() if parity else None,
        decode="exact" if config.exact_decode else "scaled",
        vectors=config.vectors.to_dict() if str(config.vectors) else {},
    )
