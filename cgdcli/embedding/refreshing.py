"""An index is brought to what is found now: what is gone leaves, what is new is embedded."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np

from cgdcli.config import EmbedConfig
from cgdcli.embedding.changes import Changes, find_changes
from cgdcli.engines import Engine, Rows
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.errors import DatasetError, ImageError, OutputError
from cgdcli.images.decoding import read_image
from cgdcli.images.finding import FoundImage, Listing
from cgdcli.images.mirror import fetch
from cgdcli.index.builder import IndexBuilder
from cgdcli.index.records import IndexHeader, Picture
from cgdcli.remote import shown
from cgdcli.reports import SkippedImage, StageTimes
from cgdcli.streaming import EmbeddedBatch, OnProgress, ReadPicture, embed_files, nothing_readable
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")


@dataclass(frozen=True)
class Refreshed:
    """What was done to an index.

    Attributes:
        rows, labels, skipped: of the whole index.
        embedded, zero_blocks: rows that were made now, and those of them with an all-zero block.
        renamed, relabelled, dropped: rows kept under another name or with another label, and rows
            left out, a changed picture's former one included.
        continued: rows that a run which was stopped had made.
        engine: what computed the rows, the last one where there were several.
        times: of the rows that were made now.
    """

    rows: int
    labels: int
    skipped: tuple[SkippedImage, ...]
    embedded: int
    zero_blocks: int
    renamed: int
    relabelled: int
    dropped: int
    continued: int
    engine: str
    times: StageTimes


def refresh(
    builder: IndexBuilder,
    header: IndexHeader,
    listing: Listing,
    labels: Sequence[str | None],
    make_engine: Callable[[], Engine],
    config: EmbedConfig,
    verify: bool,
    on_progress: OnProgress | None,
    graph: QuantizedGraph | None = None,
) -> Refreshed:
    """Do it, and give the index its names.

    Args:
        header: all but what is counted; its engine that of the index there, empty without.
        make_engine: called only if there is something to embed.
        labels: of the pictures of `listing`, in its order.
        graph: the quantized network that makes the rows, where the index does not hold it yet.

    Raises:
        DatasetError: no picture can be read (of a part of an index that is no failure), or a folder
            is gone half-way.
    """
    before = builder.skipped()
    tried = {path for path, _ in before} if builder.continued else set()
    known = list(builder.known())
    changes = find_changes(known, listing, labels, done=tried, verify=verify)
    continued = len(known) if builder.continued else 0
    if continued:
        logger.info("going on: %s done by a run that was stopped", counted(continued, "picture"))
    if builder.refresh and not builder.continued and _nothing_to_do(changes, before, listing):
        skipped = tuple(SkippedImage(*pair) for pair in before)
        named = {p.label for _, p in known if p.label is not None}
        return Refreshed(
            len(known), len(named), skipped, 0, 0, 0, 0, 0, 0, header.engine, StageTimes()
        )
    with _said_what_is_kept(builder):
        builder.begin()
        if graph is not None:
            builder.keep_graph(graph.digest, graph.data)
        builder.remove(sorted(changes.gone))
        builder.describe(changes.described.items())
        embedded, zero_blocks, times = 0, 0, StageTimes()
        if changes.todo or not header.engine:
            engine = make_engine()
            header = replace(header, engine=engine.name)
            embedded, zero_blocks, times = _embed(
                builder, header, changes, listing, labels, engine, config, on_progress
            )
        for folder in listing.unreadable.keys() - tried:
            builder.skip(folder, f"cannot be read: {listing.unreadable[folder]}")
        skipped = tuple(SkippedImage(*pair) for pair in builder.skipped())
        rows = builder.rows
        if not rows and header.part is None:  # a part may be empty: the others are not
            raise nothing_readable(len(skipped), skipped)
        label_count = builder.labels()
        builder.finish(header)
    return Refreshed(
        rows,
        label_count,
        skipped,
        embedded,
        zero_blocks,
        changes.renamed,
        changes.relabelled,
        len(changes.gone),
        continued,
        header.engine,
        times,
    )


def count_zero_blocks(rows: Rows, blocks: Sequence[tuple[str, int, int]]) -> int:
    """Rows in which some branch is all zero: there a similarity is no mean of branch cosines."""
    zero = np.zeros(len(rows), dtype=bool)
    for _, start, stop in blocks:
        zero |= ~rows[:, start:stop].any(axis=1)
    return int(zero.sum())


def _embed(
    builder: IndexBuilder,
    header: IndexHeader,
    changes: Changes,
    listing: Listing,
    labels: Sequence[str | None],
    engine: Engine,
    config: EmbedConfig,
    on_progress: OnProgress | None,
) -> tuple[int, int, StageTimes]:
    """Put every picture of the list into the index, block by block.

    Returns:
        Rows added, those of them with an all-zero block, and what it took.
    """
    images = [listing.images[place] for place in changes.todo]
    names = [labels[place] for place in changes.todo]
    embedded = skipped = zero_blocks = 0
    times = StageTimes()
    for batch in embed_files(
        engine,
        [image.file for image in images],
        batch_size=config.pass_size(on_cpu=engine.on_cpu, filled=True),
        workers=config.workers,
        filled=True,
        exact_decode=header.exact_decode,
    ):
        _check_there(batch.skipped, images)
        started = time.perf_counter()
        if len(batch.rows):
            zero_blocks += count_zero_blocks(batch.rows, engine.config.blocks(builder.dim))
            builder.append(batch.rows, _pictures(batch, images, names))
            embedded += len(batch.rows)
        for picture in batch.skipped:
            skipped += 1
            builder.skip(shown(picture.file), picture.reason)
        builder.commit()
        times += batch.times() + StageTimes(write=time.perf_counter() - started)
        if on_progress:
            on_progress(embedded + skipped, len(images), skipped)
    return embedded, zero_blocks, times


def _check_there(skipped: Sequence[ReadPicture], images: Sequence[FoundImage]) -> None:
    """A picture that is missing may have been deleted; a folder that is gone, or empty as the place
    of a disk that is no longer mounted, is no reason to index the rest of it as unreadable.

    Raises:
        DatasetError: it is.
    """
    for picture in skipped:
        if not picture.unread:
            continue
        root = images[picture.position].root
        try:
            with os.scandir(root) as entries:
                if next(entries, None) is not None:
                    continue
            reason = "it is empty now"
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
        raise DatasetError(
            f"the folder `{shown(root)}` was there at the start and is gone now ({reason}); "
            f"nothing is taken from the index for it",
            hint="once it is back, the same command goes on from where it stopped",
        )


def _nothing_to_do(changes: Changes, before: Sequence[tuple[str, str]], listing: Listing) -> bool:
    """Whether the index is what an embedding now would give: no change, but for pictures that
    could not be read then and cannot now."""
    if changes.gone or changes.described:
        return False
    unreadable = {path for path, _ in before}
    expected = {shown(listing.images[place].file) for place in changes.todo} | {*listing.unreadable}
    return expected == unreadable and not any(
        _can_be_read(listing.images[place]) for place in changes.todo
    )


def _can_be_read(image: FoundImage) -> bool:
    try:
        read_image(fetch(image.file))
    except ImageError:
        return False
    return True


def _pictures(
    batch: EmbeddedBatch, images: Sequence[FoundImage], names: Sequence[str | None]
) -> list[Picture]:
    return [
        Picture(
            images[p.position].root,
            images[p.position].path,
            names[p.position],
            p.size,
            p.mtime_ns,
            p.sha256,
        )
        for p in batch.pictures
    ]


@contextmanager
def _said_what_is_kept(builder: IndexBuilder) -> Iterator[None]:
    """Whoever is stopped half-way is told that it was not for nothing."""
    try:
        yield
    except BaseException:
        with suppress(OutputError):  # which has been said, if that is what stops it
            builder.commit(now=True)
        kept = builder.kept()
        if kept:
            logger.info(
                "%s kept: the same command goes on from there", counted(kept, "finished picture")
            )
        raise
