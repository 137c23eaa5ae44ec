"""An index in parts, opened as one.

Nothing is copied: rows are those of all parts one after the other, in order of the parts, and each
part's own table says what they are. A part is renewed by itself; whoever has opened the index keeps
reading the parts as they were.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from cgdcli.errors import IndexFileError, MismatchError
from cgdcli.index.parted_rows import PartedRows
from cgdcli.index.records import IndexHeader, Picture, done_table, sidecar
from cgdcli.index.shards import Shard, shards
from cgdcli.index.store import EmbeddingIndex
from cgdcli.locks import writer_of

# What the headers of the parts of one index need not share.
_OF_ONE_PART = {
    *("rows", "engine", "sources", "relative_sources", "generation", "checksum", "parity", "part"),
    "model",  # see `_model`
}
NAMED = 5


@dataclass
class PartedIndex(EmbeddingIndex):
    """All parts of an index as one `EmbeddingIndex`; `path` is the name of the whole."""

    members: Sequence[EmbeddingIndex] = field(default=(), repr=False)

    @classmethod
    def open_all(cls, whole: Path, of: int, *, root: Path | None = None) -> Self:
        """Open `feats.00000-of-00016.npy` and the others.

        Args:
            whole: `feats.npy`, which is not there itself.
            of: how many parts it has.
            root: a folder to look for the pictures in first.

        Raises:
            MismatchError: a part is missing, or is of another model, precision or source.
            IndexFileError: a part is damaged.
        """
        every = shards(of)
        _check_complete(whole, every)
        with contextlib.ExitStack() as stack:
            members = []
            for shard in every:
                member = EmbeddingIndex.open_one(shard.path(whole), root=root, share=of)
                members.append(member)
                stack.callback(member.close)
            for shard, member in zip(every, members, strict=True):
                _check_alike(shard, member, members[0])
            stack.pop_all()
        rows = PartedRows([cast(NDArray[Any], member.rows) for member in members])
        return cls(whole, rows, _header(members, len(rows)), root, None, tuple(members))

    def close(self) -> None:
        """Let go of the tables; rows stay usable."""
        for member in self.members:
            member.close()

    def picture(self, row: int) -> Picture | None:
        """What a row is."""
        member, number = self._member(row)
        return member.picture(number)

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Every row's picture, in order."""
        start = 0
        for member in self.members:
            for row, picture in member.pictures():
                yield start + row, picture
            start += len(member)

    def labels(self) -> list[str | None]:
        """The label of every row."""
        return [label for member in self.members for label in member.labels()]

    def known_labels(self) -> set[str]:
        """The labels there are."""
        return {label for member in self.members for label in member.known_labels()}

    def has_label(self, label: str) -> bool:
        """Whether a row has it."""
        return any(member.has_label(label) for member in self.members)

    def roots(self) -> list[Path]:
        """The folders that paths are relative to, of all parts."""
        return list(dict.fromkeys(root for member in self.members for root in member.roots()))

    def where(self, expression: str, first_row: int = 0) -> NDArray[np.int64]:
        """Rising numbers of the rows of which an expression is true."""
        found, start = [], first_row
        for member in self.members:
            found.append(member.where(expression, start) + (start - first_row))
            start += len(member)
        return np.concatenate(found)

    def skipped(self) -> list[tuple[str, str]]:
        """Pictures that could not be read when the parts were made: path and reason."""
        return [pair for member in self.members for pair in member.skipped()]

    def find_rows(self, file: Path, sha256: str) -> tuple[list[int], bool]:
        """As that of one index; a picture's place is in one part, its content may be in several."""
        found: dict[bool, list[int]] = {True: [], False: []}
        start = 0
        for member in self.members:
            rows, at_place = member.find_rows(file, sha256)
            found[at_place] += [start + row for row in rows]
            start += len(member)
        return (found[True], True) if found[True] else (found[False], False)

    def file(self, row: int) -> Path | None:
        """Where a row's picture is."""
        member, number = self._member(row)
        return member.file(number)

    def _member(self, row: int) -> tuple[EmbeddingIndex, int]:
        assert isinstance(self.rows, PartedRows)
        part, number = self.rows.place(row)
        return self.members[part], number


def _check_complete(whole: Path, every: Sequence[Shard]) -> None:
    missing = [shard for shard in every if not _is_there(shard.path(whole))]
    if not missing:
        return
    names = ", ".join(f"`{shard.path(whole).name}`" for shard in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    writers = filter(None, (writer_of(shard.path(whole)) for shard in missing))
    writer = next(writers, None)
    under_way = f"; one is being written ({writer})" if writer else ""
    raise MismatchError(
        f"`{whole}` is in {len(every)} parts, and {len(missing)} of them are not there with both "
        f"files: {names}{more}{under_way}",
        hint=f"make them (cgd embed ... --shard {missing[0]}), or copy them to `{whole.parent}`",
    )


def _is_there(npy: Path) -> bool:
    return npy.exists() and (sidecar(npy).exists() or done_table(npy).exists())


def _check_alike(shard: Shard, member: EmbeddingIndex, first: EmbeddingIndex) -> None:
    """Refuse parts that were not made as parts of one index.

    Raises:
        MismatchError: it names both.
        IndexFileError: a part does not say what it is.
    """
    one, other = member.header, first.header
    if one is None or other is None:  # its table vanished since it was looked for
        raise IndexFileError(
            f"`{member.path}` has no table beside it", hint="copy both files of each part"
        )
    if one.part != [shard.part, shard.of]:
        said = "a whole index" if one.part is None else f"part {one.part[0]} of {one.part[1]}"
        raise MismatchError(
            f"`{member.path}` says that it is {said}, not part {shard.part} of {shard.of}",
            hint="give it back the name that it had, or make the part again",
        )
    for name, a, b in _compared(member, first):
        if a != b:
            raise MismatchError(
                f"`{member.path.name}` and `{first.path.name}` are not parts of one index: they "
                f"have another {name}, {_short(a)} and {_short(b)}",
                hint="make all parts with the same sources, model and settings: those of one of "
                "the two again, with --rebuild",
            )


def _compared(member: EmbeddingIndex, first: EmbeddingIndex) -> Iterator[tuple[str, Any, Any]]:
    assert member.header is not None and first.header is not None
    yield "model", _model(member.header), _model(first.header)
    for setting in dataclasses.fields(IndexHeader):
        if setting.name not in _OF_ONE_PART:
            yield setting.name, *(getattr(i.header, setting.name) for i in (member, first))
    yield "type of rows", member.rows.dtype.name, first.rows.dtype.name
    # Absolute ones differ where some parts were refreshed since all moved; relative ones where the
    # parts were made in several places.
    names = ("sources", "relative_sources")
    a, b = ([sorted(getattr(h, n)) for n in names] for h in (member.header, first.header))
    if a[0] != b[0] and a[1] != b[1]:
        yield "source", a[0], b[0]


def _model(header: IndexHeader) -> str:
    """By what identifies it alone: its file may lie elsewhere on each machine."""
    return str(header.model.get("fingerprint"))[:12]


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _header(members: Sequence[EmbeddingIndex], rows: int) -> IndexHeader:
    """What the whole says of itself: its generation changes with any part's."""
    headers = [member.header for member in members if member.header is not None]
    generations = "".join(header.generation for header in headers)
    return dataclasses.replace(
        headers[0],
        rows=rows,
        part=None,
        generation=hashlib.sha256(generations.encode()).hexdigest()[:32],
        checksum=hashlib.sha256("".join(h.checksum for h in headers).encode()).hexdigest(),
    )
