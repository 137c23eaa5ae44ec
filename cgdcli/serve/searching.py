"""One thread that searches: it alone has index and network, and answers together what waits.

SQLite's connections belong to a thread, and a network computes eight pictures in a fraction of the
time of eight times one.
"""

import hashlib
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import Device, SearchConfig, ServeConfig
from cgdcli.engines import Engine
from cgdcli.engines.vectors import VectorEngine
from cgdcli.errors import CGDError, DatasetError, ImageError, MismatchError
from cgdcli.images.decoding import decode_image, pixel_count
from cgdcli.images.transforms import enough_to_resize, eval_pixels
from cgdcli.index.approximate import ApproximateIndex, facts_path, faiss_path, state_of
from cgdcli.index.records import index_path, sidecar
from cgdcli.index.scanning import check_files
from cgdcli.index.shards import parts_meant, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.networks import Model
from cgdcli.querying import query_engine
from cgdcli.remote import place_of
from cgdcli.reports import Hit
from cgdcli.retrieval.hits import Searched, hits_of
from cgdcli.retrieval.queries import Query
from cgdcli.retrieval.vectors import blocks_of

logger = logging.getLogger("cgdcli")

Pixels = NDArray[np.uint8]
MOST_MEGAPIXELS = 100  # of a picture that is asked with


class RenewedError(MismatchError):
    """The index is another one than the one that a question names rows of."""


@dataclass(frozen=True)
class Facts:
    """What the index is.

    Attributes:
        labels: by label, how many rows have it.
        branches: letters, where columns belong to descriptors.
    """

    name: str
    rows: int
    dim: int
    model: str
    labels: dict[str, int]
    branches: tuple[str, ...]
    generation: str


@dataclass(frozen=True)
class Answer:
    """The row that was asked with, and what is nearest.

    Attributes:
        row: of the index, where the question was one.
        generation: of the index that answered.
    """

    vector: NDArray[np.float32]
    hits: tuple[Hit, ...]
    label: str | None = None
    row: int | None = None
    generation: str = ""


@dataclass(frozen=True)
class Asked:
    """One question: a row of the index, a vector, or a picture at each size the network takes.

    Attributes:
        of: the generation of the index whose rows are named; None: whatever is there now.
    """

    config: SearchConfig
    row: int | None = None
    vector: NDArray[np.float32] | None = None
    pixels: tuple[Pixels, ...] = ()
    of: str | None = None
    answer: "Future[Answer]" = field(default_factory=Future)


class Searching:
    """A thread with an index; `ask` from any other.

    Args:
        model: to embed pictures; None for the one that made the index.
        root: where to look for the index's pictures first.

    Raises:
        CGDError: the index cannot be opened, or no network can be found for it.
    """

    def __init__(
        self,
        index: Path | str,
        *,
        model: Model = None,
        root: Path | None = None,
        device: Device = Device.auto,
        config: ServeConfig | None = None,
    ) -> None:
        self.path, self.root, self.model, self.device = index, root, model, device
        self.config = config or ServeConfig()
        self._waiting: queue.Queue[Any] = queue.Queue(self.config.waiting)
        self._ready: Future[None] = Future()
        self._quick: tuple[object, ApproximateIndex | None] | None = None
        self._thread = threading.Thread(target=self._work, name="searching", daemon=True)
        self._thread.start()
        self._ready.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def ask(self, asked: Asked) -> "Future[Answer]":
        """Put a question to those that wait.

        Raises:
            queue.Full: too many do.
        """
        self._waiting.put_nowait(asked)
        return asked.answer

    def call(self, work: Any) -> "Future[Any]":
        """Run `work(index)` in the thread that has it.

        Raises:
            queue.Full: too many wait.
        """
        result: Future[Any] = Future()
        self._waiting.put_nowait((work, result))
        return result

    def check_generation(self, of: str | None) -> None:
        """Whether rows still are what they were for who names them; of work in the thread.

        Raises:
            RenewedError: the index was renewed since.
        """
        if of is not None and of != self.facts.generation:
            raise RenewedError(
                "the index was renewed since: its rows may be other pictures now",
                hint="look for the picture again, or leave out `of`",
            )

    def pixels(self, data: bytes) -> tuple[Pixels, ...]:
        """A picture's bytes as the network wants them; any thread may call it.

        Raises:
            ImageError: it is no picture that can be read, or of more than `MOST_MEGAPIXELS`.
        """
        megapixels = pixel_count(data) / 1e6
        if megapixels > MOST_MEGAPIXELS:
            raise ImageError(
                f"the picture has {megapixels:.0f} megapixels; at most {MOST_MEGAPIXELS} are taken",
                hint="ask with a smaller one",
            )
        image = decode_image(data, at_least=self._at_least)
        return tuple(eval_pixels(image, size) for size in self._sizes)

    def _work(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while (first := self._waiting.get()) is not None:
            batch, ended = self._together(first)
            batch = [item for item in batch if _is_waited_for(item)]
            self._reopen_if_renewed()
            questions = [item for item in batch if isinstance(item, Asked)]
            for item in batch:
                if not isinstance(item, Asked):
                    _settle(item[1], lambda work=item[0]: work(self.index))
            self._answer(questions)
            if ended:
                break
        self.index.close()

    def _together(self, first: Any) -> tuple[list[Any], bool]:
        """What waits already, up to one pass; and whether that is all for ever."""
        batch = [first]
        while len(batch) < self.config.together:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _open(self) -> None:
        files = _files(self.path)
        seen = _state(files)  # before: what is renewed while it is opened is opened again
        index = EmbeddingIndex.open(self.path, root=self.root)
        try:
            engine: Engine = query_engine(index, self.model, self.device)
            facts = _facts(index)
        except BaseException:
            index.close()
            raise
        own = (engine.config.transform.image_size,)
        sizes = engine.sizes if isinstance(engine, VectorEngine) else own
        exact = index.header is None or index.header.exact_decode
        self._at_least = None if exact else enough_to_resize(max(sizes))
        self._sizes, self._files = sizes, files
        self._seen = (*seen, *index.state())
        self.index, self.engine, self.facts = index, engine, facts

    def _reopen_if_renewed(self) -> None:
        """Search what is there now; what was there before stays where that cannot be opened."""
        old = self.index
        try:
            seen = (*_state(self._files), *old.state())
            if seen == self._seen:
                return
            self._seen = seen
            self._open()
        except Exception as error:  # whatever it is, those that wait are answered
            words = error.what if isinstance(error, CGDError) else error
            logger.warning("the index as it was is searched: %s", words)
            return
        logger.info("the index was renewed: %d rows", len(self.index))
        old.close()

    def _answer(self, questions: Sequence[Asked]) -> None:
        """All pictures in one pass, then all questions of the same kind in one search."""
        pictures = [asked for asked in questions if asked.pixels]
        vectors: dict[int, NDArray[np.float32]] = {}
        try:
            if pictures:
                vectors = dict(zip(map(id, pictures), self._embedded(pictures), strict=True))
        except Exception as error:
            for asked in pictures:
                asked.answer.set_exception(error)
            questions = [asked for asked in questions if not asked.pixels]
        kinds: dict[SearchConfig, list[tuple[Asked, Query]]] = {}
        for asked in questions:
            try:
                query = self._query(asked, vectors.get(id(asked)))
            except Exception as error:
                asked.answer.set_exception(error)
                continue
            kinds.setdefault(asked.config, []).append((asked, query))
        for config, alike in kinds.items():
            self._search(config, alike)

    def _embedded(self, pictures: Sequence[Asked]) -> NDArray[np.float32]:
        if isinstance(self.engine, VectorEngine):
            sizes = zip(*(asked.pixels for asked in pictures), strict=True)
            return self.engine.embed_sizes([np.stack(size) for size in sizes])
        return self.engine.embed(np.stack([asked.pixels[0] for asked in pictures]))

    def _query(self, asked: Asked, vector: NDArray[np.float32] | None) -> Query:
        self.check_generation(asked.of)
        if asked.row is not None:
            if not 0 <= asked.row < len(self.index):
                raise DatasetError(
                    f"row {asked.row} is not in the index, whose rows are 0 to "
                    f"{len(self.index) - 1}",
                    hint="see /api/index",
                )
            check_files(self.index.rows)
            picture = self.index.picture(asked.row)
            row = np.asarray(self.index.rows[asked.row], dtype=np.float32)
            label = picture.label if picture else None
            return Query(f"row:{asked.row}", row, label, None, frozenset({asked.row}))
        found = asked.vector if vector is None else vector
        assert found is not None
        if len(found) != self.index.dim:
            raise MismatchError(
                f"a vector of {len(found)} numbers; the index has {self.index.dim} columns",
                hint="ask with the picture again",
            )
        return Query("picture", found, None, None, frozenset())

    def _approximate(self) -> ApproximateIndex | None:
        """That of the index, opened once as long as both are what they are."""
        path = self.index.path
        state = (self._seen, *_state([facts_path(path), faiss_path(path)]))
        if self._quick is None or self._quick[0] != state:
            self._quick = state, ApproximateIndex.beside(self.index)
            if self._quick[1] is not None:
                logger.info("`%s` proposes what is looked at", faiss_path(path))
        return self._quick[1]

    def _search(self, config: SearchConfig, alike: Sequence[tuple[Asked, Query]]) -> None:
        try:
            among = None if config.where is None else self.index.among(config.where)
            blocks = blocks_of(self.index, config)
            searched = Searched(self.index, config, blocks, among, opened=self._approximate)
            found = list(hits_of([query for _, query in alike], searched))
        except Exception as error:
            for asked, _ in alike:
                asked.answer.set_exception(error)
            return
        for (asked, query), hits in zip(alike, found, strict=True):
            answer = Answer(query.row, hits, query.label, asked.row, self.facts.generation)
            asked.answer.set_result(answer)


def _settle(result: "Future[Any]", work: Any) -> None:
    try:
        result.set_result(work())
    except Exception as error:
        result.set_exception(error)


def _is_waited_for(item: Any) -> bool:
    """False where who asked has gone; from then on the answer cannot be called off."""
    answer: Future[Any] = item.answer if isinstance(item, Asked) else item[1]
    return answer.set_running_or_notify_cancel()


def _files(index: Path | str) -> list[Path]:
    """Both files of an index, or of each of its parts."""
    place = place_of(index)
    meant = parts_meant(place)
    rows = [index_path(place)] if meant is None else [s.path(meant[0]) for s in shards(meant[1])]
    return [file for npy in rows for file in (npy, sidecar(npy))]


def _state(files: Sequence[Path]) -> tuple[object, ...]:
    """What changes where other files are renamed into the place of these, or are written over."""
    found: list[object] = []
    for path in files:
        try:
            facts = path.stat()
            found.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _facts(index: EmbeddingIndex) -> Facts:
    counts: dict[str, int] = {}
    for label in index.labels():
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    header = index.header
    blocks = header.blocks if header is not None and header.projection is None else None
    return Facts(
        index.path.name,
        len(index),
        index.dim,
        "" if header is None else str(header.model.get("source", "")),
        dict(sorted(counts.items())),
        tuple(letter for letter, _, _ in blocks or ()),
        header.generation if header is not None else _digest(state_of(index)[3]),
    )


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:32]


__all__ = ["Answer", "Asked", "Facts", "ImageError", "RenewedError", "Searching"]
