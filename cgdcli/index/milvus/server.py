"""A connection to either form of Milvus: every call with its time limit, every failure in words."""

import contextlib
import logging
import os
import re
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Self

from cgdcli.config import MilvusConfig
from cgdcli.errors import CGDError, ConfigError, IndexFileError, MismatchError
from cgdcli.index.milvus.address import MilvusAddress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

EXTRA = "pip install 'cgdcli[milvus]'"
_NO_COLLECTION, _CONNECT_FAILED = 100, 2  # of Milvus, and of its client
_LOOKED_FOR = ("collection not found", "not exist", "find collection")
# Embedded databases that this process serves, and how many connections use each.
_serving: dict[str, int] = {}
_serving_lock = threading.Lock()


class CollectionGoneError(IndexFileError):
    """What is asked for is not there, or not there any more."""


class MilvusServer:
    """One connection; to be closed. Use `open_server`.

    Attributes:
        embedded: whether it is the form that lies in a folder, be it behind a socket.
        version: of a server, (2, 3); of the embedded form nobody asks.
    """

    def __init__(self, address: MilvusAddress, config: MilvusConfig, client: Any) -> None:
        self.address, self.config = address, config
        self._clients = [client]  # the one in use
        self._finish = weakref.finalize(self, _let_go, self._clients, address)
        self.failure: type[CGDError] = IndexFileError
        self.left = "check that it runs and can be reached; the same command goes on"
        said = str(self.ask("get_server_version", seconds=config.connect_seconds))
        self.embedded = said.startswith("milvus_lite")
        numbers = re.search(r"(\d+)\.(\d+)", said)
        self.version = (int(numbers[1]), int(numbers[2])) if numbers else (2, 3)

    @property
    def prefixes(self) -> bool:
        """Whether it looks for no text but by its beginning: `_` means itself there."""
        return not self.embedded and self.version < (2, 4)

    def ask(self, method: str, *given: Any, seconds: float | None = None, **options: Any) -> Any:
        """Call the client, again while the server is away: what is asked may be asked twice.

        Raises:
            CollectionGoneError: there is no such collection.
            CGDError: of the kind `failure`: no answer in time, or a refusal.
        """
        deadline = time.monotonic() + (seconds or self.config.request_seconds)
        pause = 0.1
        while True:
            left = max(deadline - time.monotonic(), 0.1)
            try:
                return getattr(self._clients[0], method)(*given, timeout=left, **options)
            except failures() as error:
                if not _is_away(error) or time.monotonic() + pause > deadline:
                    raise self._worded(error) from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
            self._reconnect()

    def _worded(self, error: Exception) -> CGDError:
        message = _message(error)
        code = getattr(error, "code", None)
        if code == _NO_COLLECTION or any(words in message for words in _LOOKED_FOR):
            return CollectionGoneError(
                f"`{self.address}`: {message}",
                hint="it was removed, or replaced by a newer one: give the command again",
            )
        return self.failed(message)

    def _reconnect(self) -> None:
        """The client's own attempt gives up at once, and leaves it without a channel."""
        if self.address.file is not None:
            return
        with contextlib.suppress(*failures()):
            client = _client(self.address, self.config.connect_seconds)
            with contextlib.suppress(Exception):
                self._clients[0].close()
            self._clients[0] = client

    def failed(self, why: str) -> CGDError:
        """The error to raise of what went wrong."""
        return self.failure(f"the Milvus at `{self.address}` failed: {why}", hint=self.left)

    def query(self, collection: str, condition: str, fields: list[str]) -> list[dict[str, Any]]:
        """Rows of which a condition is true. It must be true of few: no limit is set."""
        found = self.ask(
            "query",
            collection,
            filter=condition,
            output_fields=fields,
            consistency_level="Bounded",
        )
        return [dict(row) for row in found]

    def count(self, collection: str, condition: str = "") -> int:
        """Rows there of which a condition is true; without one what was just written is counted,
        for which a server waits 200 ms."""
        found = self.ask(
            "query",
            collection,
            filter=condition,
            output_fields=["count(*)"],
            consistency_level="Bounded" if condition else "Strong",
        )
        return int(found[0]["count(*)"])

    def has(self, collection: str) -> bool:
        """Whether a collection, or an alias, of that name is there."""
        return bool(self.ask("has_collection", collection))

    def behind(self, alias: str) -> str | None:
        """The collection that an alias stands for; None where it is none."""
        if not self.has(alias):
            return None
        try:
            return str(self.ask("describe_alias", alias)["collection_name"])
        except CGDError as error:
            if _is_unanswered(error.__cause__):  # else it is a collection of that name
                raise
            return None

    def close(self) -> None:
        """Let go of it; what is embedded is then free for another process."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_server(address: MilvusAddress, config: MilvusConfig | None = None) -> MilvusServer:
    """Connect. Credentials come from MILVUS_TOKEN, the database from MILVUS_DB_NAME.

    Raises:
        ConfigError: the extra is not installed.
        IndexFileError: no server answers in time, or another process has the embedded form.
        OutputError: the folder for the embedded form is not there.
    """
    config = config or MilvusConfig()
    _check_installed(address)
    if address.file is not None:
        _check_folder(address, address.file)
        with _serving_lock:
            _serving[address.uri] = _serving.get(address.uri, 0) + 1
    try:
        client = _client(address, config.connect_seconds)
    except BaseException as error:
        if address.file is not None:
            _stop_serving(address.uri)
        if isinstance(error, failures()):
            raise _unreachable(address, error) from error
        raise
    return MilvusServer(address, config, client)


def failures() -> tuple[type[Exception], ...]:
    """What the client raises."""
    import grpc
    from pymilvus import MilvusException

    return MilvusException, grpc.RpcError


def _client(address: MilvusAddress, seconds: float) -> Any:
    from pymilvus import MilvusClient

    options: dict[str, Any] = {}
    if address.file is None:
        options["token"] = os.environ.get("MILVUS_TOKEN", "")
        options["db_name"] = os.environ.get("MILVUS_DB_NAME", "")
    # Not shared: a shared one outlives its server, and is no use once that has restarted.
    return MilvusClient(address.uri, timeout=seconds, dedicated=True, **options)


def _check_installed(address: MilvusAddress) -> None:
    try:
        import pymilvus  # noqa: F401

        if address.file is not None:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"`{address}` is a Milvus address, and {error.name} is not installed", hint=EXTRA
        ) from error
    # Both print each failed call with its traceback; what is to be said is in the error.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_folder(address: MilvusAddress, folder: Path) -> None:
    if folder.is_file():
        raise MismatchError(
            f"`{folder}` is a file; Milvus Lite since version 3 keeps a folder",
            hint="choose another name, or remove it yourself",
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / "LOCK").exists():
        raise MismatchError(
            f"`{folder}` is a folder, and not one of Milvus Lite's",
            hint="choose another name for the embedded form, such as gallery.db",
        )
    parent = Path(address.uri).parent
    if not parent.is_dir():
        raise IndexFileError(
            f"`{address}` cannot be there: there is no folder `{parent}`",
            hint="make it first, or check the spelling",
        )


def _unreachable(address: MilvusAddress, error: Exception) -> CGDError:
    if address.file is not None:
        if _is_locked(Path(address.uri)):
            return IndexFileError(
                f"`{address}` is open in another process; Milvus Lite serves one at a time",
                hint="wait until that one has ended, or let all ask one server: milvus-lite server "
                f"--data-dir {address.file} --host 127.0.0.1 --port 19530",
            )
        return IndexFileError(
            f"`{address}` cannot be opened by Milvus Lite: {_message(error)}",
            hint="check the permissions and the space there; an older Milvus Lite's is not read",
        )
    why = str(error).lower()
    if any(word in why for word in ("auth", "permission", "privilege")):
        return IndexFileError(
            f"the Milvus server at `{address}` does not let us in",
            hint="set MILVUS_TOKEN=user:password (or an API key), and check it",
        )
    return IndexFileError(
        f"no Milvus server answers at `{address}`",
        hint="check that it runs, the port (19530 unless told) and the network, and give the same "
        "command again: nothing is lost",
    )


def _is_locked(folder: Path) -> bool:
    if fcntl is None:
        return False
    with contextlib.suppress(FileNotFoundError), (folder / "LOCK").open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _let_go(clients: list[Any], address: MilvusAddress) -> None:
    with contextlib.suppress(Exception):  # a broken connection is closed as well as it can be
        clients[0].close()
    if address.file is not None:
        _stop_serving(address.uri)


def _stop_serving(folder: str) -> None:
    """End the server of an embedded database once nobody here uses it; its lock lives as long."""
    from milvus_lite.server_manager import server_manager_instance

    with _serving_lock:
        _serving[folder] -= 1
        if _serving[folder] == 0:
            server_manager_instance.release_server(folder)


def _is_away(error: Exception) -> bool:
    """Whether the server could not be reached, and may be soon."""
    code = getattr(error, "code", None)
    code = code() if callable(code) else code
    return code == _CONNECT_FAILED or "UNAVAILABLE" in f"{code} {_message(error)}"


def _is_unanswered(error: BaseException | None) -> bool:
    """Whether the server said nothing, instead of no."""
    if not isinstance(error, Exception):
        return True
    code = getattr(error, "code", None)
    code = code() if callable(code) else code
    said = f"{code} {_message(error)}"
    return _is_away(error) or "DEADLINE_EXCEEDED" in said or "timeout" in said.lower()


def _message(error: Exception) -> str:
    """In a line, without the state of the channel, which names the machine's sockets."""
    details = getattr(error, "details", None)
    text = getattr(error, "message", None) or (details() if callable(details) else str(error))
    line = (str(text).strip().splitlines() or [type(error).__name__])[0]
    return re.split(r", (?:channel_state|debug)=", line)[0][:300]
