"""An index in Milvus, opened: the same questions as of one in files."""

import functools
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import MilvusConfig, ScanConfig
from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.exact import nearest
from cgdcli.index.kept_graphs import checked_graph
from cgdcli.index.milvus.address import MilvusAddress
from cgdcli.index.milvus.layout import (
    FACTS,
    MOST_HITS,
    VECTOR,
    About,
    dim_of,
    generations,
    load,
    not_ours,
    picture_of,
    read_about,
    read_blob,
    rows_name,
    shown_text,
)
from cgdcli.index.milvus.rows import MilvusRows
from cgdcli.index.milvus.server import MilvusServer, open_server
from cgdcli.index.records import Picture
from cgdcli.index.store import EmbeddingIndex
from cgdcli.index.where import Compare, RowFilter, milvus, parse
from cgdcli.index.whitening import Projection

_ROWS_A_PAGE = 5_000
_PICTURES_KEPT = 100_000
_ANSWER_BYTES = 16 << 20
_MOST_NUMBERS = 10_000  # of a condition


@dataclass
class MilvusIndex(EmbeddingIndex):
    """A collection that an index was sent to.

    Candidates come from Milvus and are scored again here, in float64 from their stored vectors, so
    that similarities are what an index in files gives, equal ones in row order. Which rows are
    candidates its graph says: on a server a neighbour may be missed.
    """

    server: MilvusServer | None = field(default=None, repr=False)
    about: About | None = field(default=None, repr=False)
    collection: str = ""
    _pictures: OrderedDict[int, Picture] = field(
        default_factory=OrderedDict, repr=False, init=False
    )

    @classmethod
    def open_at(
        cls,
        address: MilvusAddress,
        *,
        root: Path | None = None,
        config: MilvusConfig | None = None,
        collection: str | None = None,
    ) -> Self:
        """Open what an address names.

        Args:
            root: a folder to look for the pictures in first.
            collection: a generation of it, instead of the one that is finished.

        Raises:
            IndexFileError: no server answers, or nothing is there.
            MismatchError: it is being sent, or is not of cgd, or its vectors are of another index.
        """
        if address.file is not None and not address.file.exists():
            raise _nothing(address)
        server = open_server(address, config)
        if address.file is None:  # for what is known of it besides, such as its calibration
            address.place.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows = collection or finished(server)
            load(server, rows)
            about = read_about(server, rows)
            _check_dim(server, rows, about)
        except BaseException:
            server.close()
            raise
        header = about.header
        vectors = MilvusRows(server, rows, header.rows, header.dim)
        return cls(address.place, vectors, header, root, None, server, about, rows)

    def close(self) -> None:
        """Let go of the connection."""
        self._server.close()

    @property
    def proposed_by(self) -> str:
        """The kind of index that Milvus has of the vectors; FLAT looks at all of them."""
        return self._about.index_type

    def state(self) -> tuple[object, ...]:
        """Another one once another generation has taken its place."""
        return (self._server.behind(self._server.address.collection),)

    @functools.cached_property
    def projection(self) -> Projection | None:
        """What a network's rows go through to be rows of this index; None: nothing."""
        facts = self._about.header.projection
        if facts is None:
            return None
        mean, matrix = (self._blob(name) for name in ("projection.mean", "projection.matrix"))
        return Projection(
            np.frombuffer(mean, "<f4"),
            np.frombuffer(matrix, "<f4").reshape(facts["from"], facts["to"]),
            facts["learned_on"],
            facts["shrinkage"],
        )

    def graph(self) -> bytes:
        """The quantized network that made the rows of an int8 index."""
        digest = self._about.header.calibration or ""
        return checked_graph(self._blob("graph"), str(self._server.address), digest)

    def search(
        self,
        queries: NDArray[Any],
        k: int,
        *,
        exclude: list[set[int]] | None = None,
        among: NDArray[np.int64] | RowFilter | None = None,
        config: ScanConfig | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The `k` nearest rows of each query row, as far as Milvus offers them.

        Raises:
            ConfigError: more hits are wanted than Milvus gives to a query.
        """
        hidden = exclude or [set()] * len(queries)
        k = min(k, len(self))
        wanted = k + max(map(len, hidden), default=0)
        if wanted > MOST_HITS:
            raise ConfigError(
                f"{wanted} hits of a query are wanted; Milvus gives {MOST_HITS} at most",
                hint=f"ask for fewer, or search the index in files: -k {MOST_HITS // 2}",
            )
        wanted = min(max(2 * wanted, self._server.config.candidates), MOST_HITS)
        found = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64)
        if not k:
            return found
        condition = self._condition(among)
        few = self._few(condition)
        offered: Iterable[list[int]] = [few or []] * len(queries)
        if few is None:
            offered = self._candidates(queries, wanted, condition)
        for number, candidates in enumerate(offered):
            rows = np.array(sorted(set(candidates) - hidden[number]), np.int64)
            vectors = self._rows.gathered(rows)
            near, places = nearest(queries[number : number + 1], vectors, k, config=config)
            found[0][number, : near.shape[1]] = near[0]
            found[1][number, : near.shape[1]] = rows[places[0]]
        return found

    def among(self, expression: str) -> RowFilter:
        """The rows of which an expression is true, for `search`: Milvus looks for them itself."""
        return RowFilter(milvus(parse(expression), prefixes=self._server.prefixes))

    def where(self, expression: str, first_row: int = 0) -> NDArray[np.int64]:
        """Rising numbers of the rows of which an expression is true."""
        condition = self.among(expression).condition
        found = [int(record["row"]) for page in self._pages(["row"], condition) for record in page]
        return np.array(found, dtype=np.int64)

    def picture(self, row: int) -> Picture | None:
        """What a row is."""
        if row not in self._pictures:
            for record in self._records(f"row == {row}"):
                self._remember(record)
        return self._pictures.get(row)

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Every row's picture, in order."""
        for page in self._pages(FACTS):
            for record in page:
                self._remember(record)
                yield int(record["row"]), picture_of(record, self._about.roots)

    def labels(self) -> list[str | None]:
        """The label of every row."""
        return [picture.label for _, picture in self.pictures()]

    def known_labels(self) -> set[str]:
        """The labels there are."""
        return {label for label in self.labels() if label is not None}

    def has_label(self, label: str) -> bool:
        """Whether a row has it."""
        known = shown_text(label)
        found = self._server.ask(
            "query",
            self.collection,
            filter=milvus(Compare("label", "==", known)),
            output_fields=FACTS,
            limit=1_000 if "\ufffd" in known else 1,  # several labels are shown so
        )
        return any(picture_of(record, self._about.roots).label == label for record in found)

    def skipped(self) -> list[tuple[str, str]]:
        """Pictures that could not be read when the index was made: path and reason."""
        import json

        return [(path, reason) for path, reason in json.loads(self._blob("skipped"))]

    def roots(self) -> list[Path]:
        """The folders that paths are relative to."""
        return list(self._about.roots.values())

    def find_rows(self, file: Path, sha256: str) -> tuple[list[int], bool]:
        """Rows of a picture: by its place, else by its content; and whether the place matched."""
        same = [self._remember(record) for record in self._records(f'sha256 == "{sha256}"')]
        here = os.path.realpath(file)
        candidates = {*same, *self._rows_under_roots(file)}
        at_place = [r for r in candidates if os.path.realpath(self.file(r) or "") == here]
        return (sorted(at_place), True) if at_place else (sorted(same), False)

    def file(self, row: int) -> Path | None:
        """Where a row's picture is: under `root`, or where it was."""
        picture = self.picture(row)
        if picture is None:
            return None
        bases = [base for base in (self.root, picture.root) if base is not None]
        there = (base / picture.path for base in bases if (base / picture.path).exists())
        return Path(os.path.abspath(next(there, picture.root / picture.path)))

    def _rows_under_roots(self, file: Path) -> list[int]:
        found: list[int] = []
        for number, root in self._about.roots.items():
            path = Path(os.path.abspath(file))
            if path.is_relative_to(root):
                name = str(path.relative_to(root))
                named = milvus(Compare("path", "==", shown_text(name)))
                for record in self._records(f"root == {number} and {named}"):
                    row = self._remember(record)
                    found += [row] if self._pictures[row].path == name else []
        return found

    def _few(self, condition: str) -> list[int] | None:
        """All rows of which a condition is true, where a graph decides and they are few: among
        filtered rows it misses hits. Of 12 000 rows 480 were left, and 51 % of the ten nearest
        found (server 2.3.5, examples/benchmarks/milvus.py)."""
        if not condition or self.proposed_by == "FLAT":
            return None
        count = self._server.count(self.collection, condition)
        if count > min(MOST_HITS, _ANSWER_BYTES // (4 * self.dim)):
            return None
        return [self._remember(record) for record in self._records(condition)]

    def _candidates(
        self, queries: NDArray[Any], wanted: int, condition: str
    ) -> Iterator[list[int]]:
        """Rows that Milvus offers to each query; what came with them is kept at hand."""
        options = {"ef": max(128, 2 * wanted)} if self._about.index_type == "HNSW" else {}
        row_bytes = 4 * self.dim + 500
        with_vectors = wanted * row_bytes <= _ANSWER_BYTES
        fields = [*FACTS, VECTOR] if with_vectors else FACTS
        at_once = max(1, _ANSWER_BYTES // (wanted * row_bytes))
        for start in range(0, len(queries), at_once):
            asked = np.asarray(queries[start : start + at_once], np.float32)
            answers = self._server.ask(
                "search",
                self.collection,
                asked.tolist(),
                anns_field=VECTOR,
                limit=wanted,
                filter=condition,
                output_fields=fields,
                search_params={"metric_type": "IP", "params": options},
                consistency_level="Bounded",
            )
            for hits in answers:
                yield [self._remember(hit["entity"]) for hit in hits]

    def _condition(self, among: NDArray[np.int64] | RowFilter | None) -> str:
        if among is None or isinstance(among, RowFilter):
            return "" if among is None else among.condition
        if len(among) > _MOST_NUMBERS:
            raise MismatchError(
                f"{len(among)} row numbers are too many for a condition of Milvus; "
                f"{_MOST_NUMBERS} at most",
                hint="say it as an expression: index.among('label == \"007\"')",
            )
        return f"row in [{', '.join(map(str, among.tolist()))}]" if len(among) else "row < 0"

    def _records(self, condition: str, fields: Sequence[str] = FACTS) -> list[dict[str, Any]]:
        return self._server.query(self.collection, condition, list(fields))

    def _pages(self, fields: Sequence[str], condition: str = "") -> Iterator[list[dict[str, Any]]]:
        """Records in order of rows; windows of rows, since a server gives no order and no more than
        16 384 at a time."""
        also = f" and ({condition})" if condition else ""
        for start in range(0, len(self), _ROWS_A_PAGE):
            page = self._records(f"row >= {start} and row < {start + _ROWS_A_PAGE}{also}", fields)
            yield sorted(page, key=lambda record: int(record["row"]))

    def _remember(self, record: dict[str, Any]) -> int:
        row = int(record["row"])
        self._pictures[row] = picture_of(record, self._about.roots)
        if len(self._pictures) > _PICTURES_KEPT:
            self._pictures.popitem(last=False)
        if VECTOR in record:
            self._rows.keep(row, record[VECTOR])
        return row

    def _blob(self, name: str) -> bytes:
        data = read_blob(self._server, self.collection, name)
        if data is None:
            raise IndexFileError(
                f"`{self._server.address}` has lost what it kept as `{name}`",
                hint="send the index again, with --force",
            )
        return data

    @property
    def _server(self) -> MilvusServer:
        assert self.server is not None
        return self.server

    @property
    def _about(self) -> About:
        assert self.about is not None
        return self.about

    @property
    def _rows(self) -> MilvusRows:
        assert isinstance(self.rows, MilvusRows)
        return self.rows


def finished(server: MilvusServer) -> str:
    """The collection of the newest generation that is whole.

    Raises:
        IndexFileError: nothing is there.
        MismatchError: it is being sent, or it was not made by cgd.
    """
    name = server.address.collection
    rows = server.behind(name)
    if rows is not None:
        if rows not in generations(server, name):
            raise not_ours(server)
        return rows
    if server.has(name):
        raise not_ours(server)
    begun = generations(server, name)
    if not begun:
        raise _nothing(server.address)
    raise MismatchError(
        f"`{server.address}` is not whole: it is being sent, or that was stopped",
        hint="give the command that sends it again: it goes on from there",
    )


def _nothing(address: MilvusAddress) -> IndexFileError:
    return IndexFileError(
        f"no index is at `{address}`", hint=f"send one: cgd index feats.npy --to {address}"
    )


def _check_dim(server: MilvusServer, rows: str, about: About) -> None:
    there = dim_of(server, rows)
    if there != about.header.dim or rows != rows_name(
        server.address.collection, about.header.generation
    ):
        raise MismatchError(
            f"`{server.address}` says it has {about.header.dim} columns, its vectors have {there}: "
            "they are not of one index",
            hint="send the index again, with --force",
        )
