"""Job: pictures become an index."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cgdcli.config import EmbedConfig, VectorConfig
from cgdcli.datasets.folders import folder_labels, read_label_table
from cgdcli.embedding.engines import Engines
from cgdcli.embedding.refreshing import refresh
from cgdcli.errors import ConfigError, DatasetError, OutputError
from cgdcli.files import check_output
from cgdcli.images.decoding import pixel_limit
from cgdcli.images.finding import Listing, absolute_path, find_images, list_images
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.milvus.address import milvus_address
from cgdcli.index.records import IndexHeader, index_path, relative_to_index
from cgdcli.index.remote import fetch_target, send_index
from cgdcli.index.replacing import check_replaceable, header_there
from cgdcli.index.shards import Shard, check_layout, part_of
from cgdcli.index.whitening import check_enough
from cgdcli.networks import Model, Network, known_network
from cgdcli.remote import address_of, place_of, shown
from cgdcli.reports import EmbedReport
from cgdcli.streaming import OnProgress

_LABELS_WITHOUT_TABLE = ("folder", "none")


@dataclass(frozen=True)
class EmbedRequest:
    """What is asked for.

    Attributes:
        sources: pictures, folders, or patterns such as `imgs/**/*.jpg`; or addresses such as
            `s3://bucket/folder`, which become the places of their copies (`remote`).
        output: the `.npy`, be it at an address; of an index in parts the name of the whole.
        model: a `CGD`, or what `weights.loading.load_model` takes.
        listed: `sources` are pictures, whatever they are called; what is no longer among them when
            the index is refreshed leaves it.
        labels: `folder` (the class folder, where a source holds class folders), `none`, or the
            path of a CSV file with columns path,label.
        exclude: patterns of pictures to leave out; see `images.finding.find_images`.
        verify: compare the content of every picture with the index, not only size and time.
        rebuild: start over, also from an index of other sources or another model.
    """

    sources: Sequence[Path]
    output: Path
    model: Model = None
    listed: bool = False
    labels: str = "folder"
    exclude: Sequence[str] = ()
    verify: bool = False
    rebuild: bool = False
    config: EmbedConfig = EmbedConfig()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        # Addresses become places once, before anything asks a disk for them.
        object.__setattr__(self, "sources", [place_of(source) for source in self.sources])
        object.__setattr__(self, "output", target_of(self.output))


@dataclass(frozen=True)
class EmbedJob:
    """What is embedded, by what and where to: the same for every part of an index.

    Attributes:
        target: the `.npy` of the whole.
        listing: the pictures of all the parts that this process makes.
        names: their labels.
        engines: gives the engine, always the same one.
        origins: the absolute sources.
    """

    request: EmbedRequest
    target: Path
    listing: Listing
    names: list[str | None]
    network: Network
    engines: Engines
    origins: list[str]


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
        sources: one or several; for this and all that follows see `EmbedRequest`.

    Raises:
        DatasetError: no picture is found, none can be read, or a folder is gone half-way.
        MismatchError: `output` is something else than an index of these sources by this model.
        OutputError: it cannot be written.
    """
    given = [sources] if isinstance(sources, (str, Path)) else sources
    request = EmbedRequest(
        [place_of(source) for source in given],
        target_of(output),
        model=model,
        listed=listed,
        labels=labels,
        exclude=exclude,
        verify=verify,
        rebuild=rebuild,
        config=config or EmbedConfig(),
    )
    return embed_whole(request, on_progress)


def embed_whole(request: EmbedRequest, on_progress: OnProgress | None = None) -> EmbedReport:
    """As `embed_images`."""
    started = time.monotonic()
    report = make_part(prepared(request), on_progress=on_progress)
    return replace(report, seconds=time.monotonic() - started)


def prepared(request: EmbedRequest, shards: Sequence[Shard] = ()) -> EmbedJob:
    """All that comes before the first picture is read.

    Args:
        shards: the parts that will be made; none: the whole as one.

    Raises:
        CGDError: as `embed_images`.
    """
    target = checked_output(request.output)
    check_layout(target, shards)
    if address_of(target) is not None:
        for npy in [shard.path(target) for shard in shards] or [target]:
            fetch_target(npy, rebuild=request.rebuild)
    listing, names = _found(request, shards)
    network = known_network(request.model)
    there = None if request.rebuild else _header_there(target, shards)
    _check_vectors(network, request.config.vectors, len(listing.images), there)
    files = [image.file for image in listing.images]
    engines = Engines(network, request.config, files, target, there, whole=not shards)
    engines.choose()
    origins = [Path.cwd()] if request.listed else request.sources
    places = sorted(shown(absolute_path(path)) for path in origins)
    return EmbedJob(request, target, listing, names, network, engines, places)


def make_part(
    job: EmbedJob, shard: Shard | None = None, on_progress: OnProgress | None = None
) -> EmbedReport:
    """Make or refresh one part of an index, or the whole as one. A part may be empty."""
    started = time.monotonic()
    target = shard.path(job.target) if shard else job.target
    asked = job.request
    header = _header(job, target, shard)
    listing, names = _of_shard(job.listing, job.names, shard)
    vectors = asked.config.vectors
    builder = _builder(target, header, job.network, vectors, asked.listed, asked.rebuild)
    with builder, pixel_limit(asked.config.max_megapixels):
        done = refresh(
            builder,
            header,
            listing,
            names,
            job.engines.chosen,
            asked.config,
            asked.verify,
            on_progress,
            graph=job.engines.new_graph(),
        )
    if address_of(target) is not None:
        send_index(target)
    return EmbedReport(
        index=target,
        rows=done.rows,
        embedding_dim=header.dim,
        model=job.network.info,
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
        precision=header.precision,
        times=done.times,
        vectors=str(vectors),
        bytes=target.stat().st_size,
    )


def _found(request: EmbedRequest, shards: Sequence[Shard]) -> tuple[Listing, list[str | None]]:
    """The pictures of the parts to be made, and their labels.

    Those of other parts are counted and not kept, where no table of labels must be matched with all
    of them: of 100 million pictures a process has room for its own.
    """
    asked = {shard.part for shard in shards}
    some = bool(shards) and len(asked) < shards[0].of

    def keep(path: str) -> bool:
        return part_of(path, shards[0].of) in asked

    early = keep if some and request.labels in _LABELS_WITHOUT_TABLE else None
    if request.listed:
        listing = list_images(request.sources, request.exclude, keep=early)
    else:
        listing = find_images(request.sources, request.exclude, tolerant=True, keep=early)
    _check_found(request.sources, listing)
    names = _labels(request.labels, listing)
    if some and not early:
        kept = [i for i, image in enumerate(listing.images) if keep(image.path)]
        listing = replace(listing, images=tuple(listing.images[i] for i in kept))
        names = [names[i] for i in kept]
    return listing, names


def _of_shard(
    listing: Listing, names: list[str | None], shard: Shard | None
) -> tuple[Listing, list[str | None]]:
    if shard is None:
        return listing, names
    places = [i for i, image in enumerate(listing.images) if shard.holds(image.path)]
    images = tuple(listing.images[i] for i in places)
    return replace(listing, images=images), [names[i] for i in places]


def _header_there(target: Path, shards: Sequence[Shard]) -> IndexHeader | None:
    """Of the index that is refreshed; of one in parts, of the first that is there."""
    of = shards[0].of if shards else 0
    files = [Shard(part, of).path(target) for part in range(of)] or [target]
    return next((found for found in map(header_there, files) if found is not None), None)


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
    if header.calibration is not None:
        settings["calibration"] = header.calibration
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
    if address_of(output) is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    target = index_path(output) if not output.is_dir() else output
    if target.suffix != ".npy" and not target.is_dir():
        raise OutputError(
            f"the index `{output}` should end in .npy: it is a NumPy array",
            hint=f"try -o {output}.npy",
        )
    check_output(target, force=True, what="index")
    return target


def _check_found(paths: Sequence[Path], listing: Listing) -> None:
    if listing.found:
        return
    if not paths:
        raise DatasetError(
            "the list of files is empty; at least one picture is wanted",
            hint="one file a line, or with -0 one after each NUL: find imgs -print0 | cgd embed "
            "--files-from - -0 -o feats.npy",
        )
    where = ", ".join(f"`{shown(path)}`" for path in paths[:5])
    empty = f"no picture among {listing.passed_over} files" if listing.passed_over else "no files"
    raise DatasetError(
        f"{where}: {empty}; at least one picture (.jpg, .png, .webp ...) is wanted",
        hint="give a picture or a folder with pictures in it or below it",
    )


def _labels(labels: str, listing: Listing) -> list[str | None]:
    if labels == "none":
        return [None] * len(listing.images)
    if labels == "folder":
        return folder_labels(listing.images, listing.folders)
    return read_label_table(Path(labels), listing.images)


def _header(job: EmbedJob, target: Path, shard: Shard | None) -> IndexHeader:
    """What the index or the part will say of itself; its engine is that of the one there."""
    network, asked, vectors = job.network, job.request, job.request.config.vectors
    there = None if asked.rebuild else header_there(target)
    parity = job.engines.parity
    described = network.info.to_dict()
    if Path(network.info.source).is_file():
        described["path"] = os.path.abspath(network.info.source)
    return IndexHeader(
        rows=0,  # the builder counts
        dim=vectors.stored_dim(network.embedding_dim),
        model=described,
        engine=there.engine if there else "",
        precision=job.engines.precision.value,
        blocks=None if vectors.projects else network.blocks,
        sources=job.origins,
        relative_sources=[relative_to_index(source, target) or source for source in job.origins],
        labels=asked.labels,
        parity=parity.to_dict() if parity else None,
        calibration=job.engines.digest(),
        decode="exact" if asked.config.exact_decode else "scaled",
        vectors=vectors.to_dict() if str(vectors) else {},
        part=[shard.part, shard.of] if shard else None,
    )


def target_of(output: Path | str) -> Path:
    """The place of what is to be made.

    Raises:
        ConfigError: it is an address of Milvus, where an index is sent once it is made.
    """
    address = milvus_address(output)
    if address is not None and address.file is None:
        raise ConfigError(
            f"`{address}` is a Milvus collection, and an index is made in files",
            hint=f"-o feats.npy, and then: cgd index feats.npy --to {address}",
        )
    return place_of(output)
