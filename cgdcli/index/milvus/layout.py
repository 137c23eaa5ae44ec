"""What an index is in Milvus: two collections a generation, and an alias that names the newest.

`NAME`                an alias, which is there once all rows are
`NAME__GENERATION`    the pictures: a row each, with its vector
`NAME__GENERATION_about`    header, roots and what queries go through, in pieces: the embedded form
    drops a collection's description, and a server's is too small for a projection

Fields that may be null say so by another: servers know no null before 2.5.
"""

import base64
import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgdcli.errors import ConfigError, IndexFileError, MismatchError
from cgdcli.index.milvus.server import MilvusServer
from cgdcli.index.records import IndexHeader, Picture, root_of, root_text, text_of

LAYOUT = 1
VECTOR = "vector"
FACTS = ["row", "path", "label", "labelled", "root", "size", "mtime_ns", "sha256", "odd"]
LONGEST_TEXT = 65_535  # bytes, of Milvus
MOST_HITS = 16_384  # of one query, of Milvus
NO_SIZE, NO_TIME = -1, -(2**63) + 1
_PIECE = 48_000  # bytes, 64 000 letters in base64
_PIECES_AT_ONCE = 32
_HNSW = {"M": 16, "efConstruction": 200}


@dataclass(frozen=True)
class About:
    """What the second collection says first.

    Attributes:
        roots: by their number, as `records.root_text` has them.
        index_type: of the vectors. FLAT in the embedded form, whose graphs lose hits as soon as
            rows are filtered (0.2 of 3 found); HNSW on a server.
        batch: rows that were sent at a time.
    """

    header: IndexHeader
    roots: dict[int, Path]
    index_type: str
    batch: int


def rows_name(name: str, generation: str) -> str:
    return f"{name}__{generation[:12]}"


def about_name(rows: str) -> str:
    return f"{rows}_about"


def generations(server: MilvusServer, name: str) -> list[str]:
    """The collections of pictures that are there under a name, finished or not."""
    ours = re.compile(rf"{re.escape(name)}__[0-9a-f]{{1,12}}")
    known = {about.removesuffix("_about") for about in server.ask("list_collections")}
    return sorted(filter(ours.fullmatch, known))


def create(server: MilvusServer, name: str, dim: int, index_type: str) -> None:
    """Make the two collections of a generation where they are not there."""
    from pymilvus import DataType, MilvusClient

    texts = {"path": LONGEST_TEXT, "label": LONGEST_TEXT, "sha256": 64, "odd": LONGEST_TEXT}
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    for field in FACTS[1:]:
        if field in texts:
            schema.add_field(field, DataType.VARCHAR, max_length=texts[field])
        else:
            schema.add_field(field, DataType.BOOL if field == "labelled" else DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    _create(server, name, schema, index_type, "sha256")
    about = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    about.add_field("number", DataType.INT64, is_primary=True)
    for field in ("name", "data", "digest"):
        about.add_field(field, DataType.VARCHAR, max_length=LONGEST_TEXT)
    for field in ("place", "pieces"):
        about.add_field(field, DataType.INT64)
    about.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=2)  # a collection must have one
    _create(server, about_name(name), about, "FLAT", "")


def _create(server: MilvusServer, name: str, schema: Any, index_type: str, looked_up: str) -> None:
    if server.has(name):
        return
    from pymilvus import MilvusClient

    params = MilvusClient.prepare_index_params()
    options = _HNSW if index_type == "HNSW" else {}
    params.add_index(VECTOR, index_type=index_type, metric_type="IP", params=options)
    if looked_up and not server.embedded:  # there a scan is as fast
        kind = "Trie" if server.version < (2, 4) else "INVERTED"
        params.add_index(looked_up, index_type=kind)
    # Each by itself: together the client polls every half a second for what is there at once.
    server.ask("create_collection", name, schema=schema)
    server.ask("create_index", name, params, sync=False)


def record(row: int, picture: Picture, root: int, vector: Any) -> dict[str, Any]:
    """A row as it is sent.

    Raises:
        ConfigError: a path or label is longer than Milvus keeps.
    """
    path, label = picture.path, picture.label or ""
    odd = "" if _is_utf8(path + label) else json.dumps([path, label])
    for text in (path, label, odd):
        if len(text.encode("utf-8", "replace")) > LONGEST_TEXT:
            raise ConfigError(
                f"row {row} has a path or label of {len(text)} letters; Milvus keeps "
                f"{LONGEST_TEXT} bytes",
                hint="give the picture a shorter label, and embed again",
            )
    return {
        "row": row,
        "path": shown_text(path),
        "label": shown_text(label),
        "labelled": picture.label is not None,
        "root": root,
        "size": NO_SIZE if picture.size is None else picture.size,
        "mtime_ns": NO_TIME if picture.mtime_ns is None else picture.mtime_ns,
        "sha256": picture.sha256 or "",
        "odd": odd,
        VECTOR: vector,
    }


def picture_of(record: dict[str, Any], roots: dict[int, Path]) -> Picture:
    """The inverse."""
    path, label = json.loads(record["odd"]) if record["odd"] else (record["path"], record["label"])
    return Picture(
        roots[int(record["root"])],
        path,
        label if record["labelled"] else None,
        None if record["size"] == NO_SIZE else int(record["size"]),
        None if record["mtime_ns"] == NO_TIME else int(record["mtime_ns"]),
        record["sha256"] or None,
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_text(text: str) -> str:
    """What of it can be looked for: of a name that is no UTF-8 the rest."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_about(server: MilvusServer, rows: str, about: About, blobs: dict[str, bytes]) -> None:
    """Say what the rows of a collection are, `blobs` by name beside it."""
    roots = {number: text_of(root_text(root)) for number, root in about.roots.items()}
    said = {
        "layout": LAYOUT,
        "header": dataclasses.asdict(about.header),
        "roots": roots,
        "index_type": about.index_type,
        "batch": about.batch,
    }
    everything = {"about": json.dumps(said).encode()} | blobs
    records: list[dict[str, Any]] = []
    for name, data in everything.items():
        starts = range(0, max(1, len(data)), _PIECE)
        for place, start in enumerate(starts):
            piece = base64.b64encode(data[start : start + _PIECE]).decode()
            facts = {"name": name, "data": piece, "digest": hashlib.sha256(data).hexdigest()}
            numbers = {"number": len(records), "place": place, "pieces": len(starts)}
            records.append(facts | numbers | {VECTOR: np.array([1, 0], np.float32)})
    name = about_name(rows)
    if server.count(name):  # of a run that was stopped
        server.ask("delete", name, filter="number >= 0")
    for first in range(0, len(records), _PIECES_AT_ONCE):
        server.ask("upsert", name, records[first : first + _PIECES_AT_ONCE])
    # Until it counts all it might not show them to who asks next without insisting.
    if server.count(name) != len(records):
        raise server.failed(f"not all of what is said of the rows arrived in `{name}`")


def read_blob(server: MilvusServer, rows: str, name: str) -> bytes | None:
    """What was kept under a name; None where nothing was.

    Raises:
        IndexFileError: a piece of it is missing.
    """
    found = list(_pieces(server, rows, name))
    if not found:
        return None
    data = b"".join(base64.b64decode(piece["data"]) for piece in found)
    if hashlib.sha256(data).hexdigest() != found[0]["digest"]:
        raise IndexFileError(
            f"what `{server.address}` says of its rows (`{name}`) is not whole",
            hint="send the index again, with --force",
        )
    return data


def _pieces(server: MilvusServer, rows: str, name: str) -> Iterator[dict[str, Any]]:
    first, pieces = 0, 1
    while first < pieces:
        last = first + _PIECES_AT_ONCE
        condition = f'name == "{name}" and place >= {first} and place < {last}'
        found = server.query(about_name(rows), condition, ["place", "pieces", "data", "digest"])
        if not found:
            return
        yield from sorted(found, key=lambda piece: int(piece["place"]))
        first, pieces = last, int(found[0]["pieces"])


def read_about(server: MilvusServer, rows: str) -> About:
    """What the rows of a collection are.

    Raises:
        MismatchError: no cgd made it, or a later one.
        IndexFileError: it is damaged.
    """
    data = read_blob(server, rows, "about") if server.has(about_name(rows)) else None
    if data is None:
        raise not_ours(server)
    said = json.loads(data)
    if said["layout"] != LAYOUT:
        raise MismatchError(
            f"`{server.address}` has layout {said['layout']!r}; this cgd reads {LAYOUT}",
            hint="use the version of cgd that sent it, or send the index again with --force",
        )
    header = said["header"]
    blocks = header["blocks"]
    header["blocks"] = None if blocks is None else [(c, int(a), int(b)) for c, a, b in blocks]
    roots = {int(number): root_of(text) for number, text in said["roots"].items()}
    return About(IndexHeader(**header), roots, said["index_type"], int(said["batch"]))


def not_ours(server: MilvusServer) -> MismatchError:
    """Of a collection that somebody else made."""
    return MismatchError(
        f"the collection `{server.address}` was not made by cgd",
        hint="choose another name: cgd index feats.npy --to ADDRESS makes the collection itself",
    )


def dim_of(server: MilvusServer, rows: str) -> int:
    """Columns of the vectors there; 0 where there are none."""
    fields = server.ask("describe_collection", rows)["fields"]
    sizes = [int(f.get("params", {}).get("dim", 0)) for f in fields if f["name"] == VECTOR]
    return sizes[0] if sizes else 0


def flush(server: MilvusServer, rows: str) -> None:
    """Have both collections written out.

    Raises:
        CGDError: they are not by `load_seconds`, or the server is away.
    """
    deadline = time.monotonic() + server.config.load_seconds
    for name in (rows, about_name(rows)):
        while True:
            try:
                server.ask("flush", name)
                break
            except server.failure:
                server.has(name)  # whether it is busy, or away
                if time.monotonic() > deadline:
                    raise


def load(server: MilvusServer, rows: str) -> None:
    """Have both collections ready to be asked.

    Raises:
        CGDError: they are not by `load_seconds`.
    """
    deadline, pause = time.monotonic() + server.config.load_seconds, 0.01
    for name in (rows, about_name(rows)):
        while "Loaded" not in str(server.ask("get_load_state", name)["state"]):
            if time.monotonic() > deadline:
                raise server.failed(
                    f"`{name}` is not loaded after {server.config.load_seconds:g} s"
                )
            server.ask("load_collection", name, _async=True)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
