"""Sending an index to Milvus: in batches, from where a run that was stopped left off.

Each generation of an index goes to collections of its own, in order of rows, and the alias that
readers know is moved when all rows are there and have been compared: so nobody sees a half. What
the alias stood for before is removed then; who is still reading it is told to ask again.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import MilvusConfig
from cgdcli.errors import ConfigError, MismatchError, OutputError
from cgdcli.files import user_cache
from cgdcli.index.exact import nearest
from cgdcli.index.milvus import layout
from cgdcli.index.milvus.address import HINT, MilvusAddress, milvus_address
from cgdcli.index.milvus.layout import About
from cgdcli.index.milvus.opened import MilvusIndex
from cgdcli.index.milvus.server import MilvusServer, open_server
from cgdcli.index.records import IndexHeader
from cgdcli.index.store import EmbeddingIndex, open_index
from cgdcli.locks import writer_lock
from cgdcli.reports import SentReport

logger = logging.getLogger("cgdcli")

OnRows = Callable[[int, int, int], None]
"""Called with rows done, rows in all, and 0: none is skipped."""

NEIGHBOURS = 10
# A server goes over from its scan of new rows to its graph by itself, and gives fewer hits while it
# does: 1 451 of 10 000 once, right after the rows were written out.
ENOUGH_RECALL, SECONDS_TO_SETTLE = 0.95, 120.0


def send_to_milvus(
    index: EmbeddingIndex | Path | str,
    address: Path | str,
    *,
    replace: bool = False,
    config: MilvusConfig | None = None,
    on_progress: OnRows | None = None,
) -> SentReport:
    """Send an index to a collection, or go on with that. The same index is not sent twice.

    A newer generation of the index that is there (the same model and pictures) takes its place, all
    of it being sent.

    Args:
        address: `http://host:19530/collection`, or `gallery.db` for the embedded form.
        replace: also another index may be replaced; and this one, if it is whole there, is sent
            anew, nothing being there meanwhile.

    Raises:
        ConfigError: `address` is none of Milvus.
        MismatchError: another index is there, or a collection that is not of cgd; or the index has
            no table.
        OutputError: the server is away, or not all rows arrived; what is there stays, and counts.
    """
    started = time.monotonic()
    place = _place(address)
    with contextlib.ExitStack() as stack:
        source = open_index(index)
        if source is not index:
            stack.callback(source.close)
        header = _checked(source)
        stack.enter_context(_one_sender(place))
        server = stack.enter_context(open_server(place, config))
        server.failure = OutputError
        server.left = "nothing is lost: the same command goes on from there once it runs again"
        sending = _Sending(source, header, server, on_progress)
        before = sending.before(replace=replace)
        if before == sending.rows and not replace:
            layout.load(server, before)
            about = layout.read_about(server, before)
            return _report(source, place, about, started=started)
        if before == sending.rows:
            sending.drop(before)
            before = None
        continued = sending.begin()
        sending.send(continued)
        recall, sampled = sending.check()
        sending.publish(before)
    return _report(
        source,
        place,
        sending.about,
        sent=header.rows - continued,
        continued=continued,
        replaced=before is not None,
        recall=recall,
        sampled=sampled,
        started=started,
    )


class _Sending:
    """One index on its way."""

    def __init__(
        self,
        source: EmbeddingIndex,
        header: IndexHeader,
        server: MilvusServer,
        on_progress: OnRows | None,
    ) -> None:
        self.source, self.header, self.server = source, header, server
        self.on_progress = on_progress
        self.name = server.address.collection
        self.rows = layout.rows_name(self.name, header.generation)
        batch = max(1, server.config.batch_bytes // (4 * header.dim + 300))
        roots = dict(enumerate(sorted(source.roots())))
        self.about = About(header, roots, "FLAT" if server.embedded else "HNSW", batch)

    def before(self, *, replace: bool) -> str | None:
        """The collection that readers have now; None where they have none.

        Raises:
            MismatchError: what is there is not to be replaced.
        """
        there = self.server.behind(self.name)
        if there is None:
            if self.server.has(self.name):
                raise layout.not_ours(self.server)
            return None
        if there not in layout.generations(self.server, self.name):
            raise layout.not_ours(self.server)
        if not replace and there != self.rows:
            layout.load(self.server, there)
            self._check_alike(layout.read_about(self.server, there).header)
        return there

    def begin(self) -> int:
        """Make the collections, or find what is there of them.

        Returns:
            So many rows, from the first on, are there.
        """
        live = self.server.behind(self.name)
        for other in layout.generations(self.server, self.name):
            if other not in (self.rows, live):
                self.drop(other)  # a run that was stopped, of an index that is no more
        layout.create(self.server, self.rows, self.header.dim, self.about.index_type)
        layout.load(self.server, self.rows)
        count = self.server.count(self.rows)
        if count:
            # The last batch may have arrived in part; all before it are whole. Of what size the
            # batches were is said before the first one goes.
            self.about = layout.read_about(self.server, self.rows)
            return min(count, self.header.rows) // self.about.batch * self.about.batch
        layout.write_about(self.server, self.rows, self.about, _blobs(self.source))
        return 0

    def send(self, first: int) -> None:
        """Send the rows from `first` on. A row that is there already is replaced by itself."""
        number_of = {root: number for number, root in self.about.roots.items()}
        total = self.header.rows
        pictures = (pair for pair in self.source.pictures() if pair[0] >= first)
        while batch := list(islice(pictures, self.about.batch)):
            numbers = np.array([row for row, _ in batch])
            vectors = np.asarray(self.source.stored(slice(numbers[0], numbers[-1] + 1)), np.float32)
            self.server.ask(
                "upsert",
                self.rows,
                [
                    layout.record(row, picture, number_of[picture.root], vector)
                    for (row, picture), vector in zip(batch, vectors, strict=True)
                ],
            )
            if self.on_progress is not None:
                self.on_progress(int(numbers[-1]) + 1, total, 0)
        layout.flush(self.server, self.rows)

    def check(self) -> tuple[float, int]:
        """Whether all rows arrived, as they are here; and how well they are found.

        Returns:
            The share of the nearest rows that is found, and of how many rows.

        Raises:
            OutputError: rows are missing, twice there, or others than here.
        """
        count = self.server.count(self.rows)
        opened = MilvusIndex.open_at(
            self.server.address, config=self.server.config, collection=self.rows
        )
        with opened:
            step = max(1, self.header.rows // self.server.config.sampled)
            asked = np.arange(0, self.header.rows, step)[: self.server.config.sampled]
            here = np.asarray(self.source.stored(asked), np.float32)
            if count != self.header.rows or not np.array_equal(opened.rows[asked], here):
                self.drop(self.rows)
                raise OutputError(
                    f"{count} of {self.header.rows} rows are at `{self.server.address}`, or some "
                    "are others than here: two sent at once, or the server lost some",
                    hint="the same command sends them anew; what readers had there they still have",
                )
            return self._recall(opened, here), len(asked)

    def publish(self, before: str | None) -> None:
        """Let readers have it, in one step, and remove what they had."""
        kind = "create_alias" if self.server.behind(self.name) is None else "alter_alias"
        self.server.ask(kind, self.rows, self.name)
        if before is not None:
            self.drop(before)

    def _recall(self, opened: MilvusIndex, asked: NDArray[np.float32]) -> float:
        if not len(asked):
            return 1.0
        wanted, _ = nearest(asked, self.source.rows, NEIGHBOURS)
        deadline = time.monotonic() + SECONDS_TO_SETTLE
        while True:
            found, _ = opened.search(asked, NEIGHBOURS)
            # By similarity: of equal ones any may be found.
            recall = float(np.mean(found >= wanted[:, -1:] - 1e-9))
            if recall >= ENOUGH_RECALL or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        if recall < ENOUGH_RECALL:
            logger.warning(
                "%s finds %.1f %% of the %d nearest rows", self.server.address, 100 * recall,
                NEIGHBOURS,
            )  # fmt: skip
        return recall

    def _check_alike(self, there: IndexHeader) -> None:
        """Refuse to take the place of another index."""
        for what, a, b in (
            ("of the model", *(str(h.model.get("fingerprint"))[:12] for h in (there, self.header))),
            ("of columns", there.dim, self.header.dim),
            ("of", *(", ".join(sorted(h.sources)) for h in (there, self.header))),
        ):
            if a != b:
                raise MismatchError(
                    f"`{self.server.address}` is an index {what} {a}, and `{self.source.path}` is "
                    f"one {what} {b}",
                    hint="choose another collection, or add --force to replace what is there",
                )

    def drop(self, rows: str) -> None:
        """Remove a generation."""
        for name in (rows, layout.about_name(rows)):
            if self.server.behind(self.name) == name:
                self.server.ask("drop_alias", self.name)
            if self.server.has(name):
                self.server.ask("drop_collection", name)


def _place(address: Path | str) -> MilvusAddress:
    place = milvus_address(address)
    if place is not None:
        return place
    if Path(address).suffix == ".db":
        raise ConfigError(
            f"`{address}` is a file; Milvus Lite since version 3 keeps a folder",
            hint="choose another name, or remove it yourself",
        )
    raise ConfigError(f"`{address}` is no address of a Milvus collection", hint=HINT)


def _checked(source: EmbeddingIndex) -> IndexHeader:
    if isinstance(source, MilvusIndex):
        raise ConfigError(
            f"`{source.path}` is in Milvus already", hint="give the index in files: feats.npy"
        )
    if source.header is None:
        raise MismatchError(
            f"`{source.path}` has no table beside it that says what its rows are",
            hint="copy the .sqlite of the index, too",
        )
    return source.header


@contextlib.contextmanager
def _one_sender(place: MilvusAddress) -> Iterator[None]:
    """Two of this machine would send the same rows side by side."""
    name = hashlib.sha256(f"{place.uri}/{place.collection}".encode()).hexdigest()[:24]
    folder = user_cache() / "milvus"
    folder.mkdir(parents=True, exist_ok=True)
    with writer_lock(folder / name, f"`{place}`"):
        yield


def _blobs(source: EmbeddingIndex) -> dict[str, bytes]:
    """What goes with an index beside its header and roots."""
    blobs = {"skipped": json.dumps(source.skipped()).encode()}
    if source.projection is not None:
        blobs["projection.mean"] = np.ascontiguousarray(source.projection.mean, "<f4").tobytes()
        blobs["projection.matrix"] = np.ascontiguousarray(source.projection.matrix, "<f4").tobytes()
    if source.header is not None and source.header.calibration:
        blobs["graph"] = source.graph()
    return blobs


def _report(
    source: EmbeddingIndex,
    place: MilvusAddress,
    about: About,
    *,
    started: float,
    sent: int = 0,
    continued: int = 0,
    replaced: bool = False,
    recall: float | None = None,
    sampled: int = 0,
) -> SentReport:
    return SentReport(
        index=source.path,
        address=str(place),
        rows=about.header.rows,
        embedding_dim=about.header.dim,
        sent=sent,
        continued=continued,
        replaced=replaced,
        index_type=about.index_type,
        recall=recall,
        sampled=sampled,
        seconds=time.monotonic() - started,
    )
