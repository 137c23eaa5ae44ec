"""Where an index in Milvus is: `http://host:19530/collection`, `gallery.db`, `gallery.db/name`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cgdcli.errors import ConfigError
from cgdcli.remote import place_of

# `Path` makes http:/host of http://host. A name with a dot is a file that a web server has.
_SERVER = re.compile(r"(https?):/+([^/]+)/+([A-Za-z_][A-Za-z0-9_]*)/?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
LONGEST_NAME = 200  # of Milvus's 255, for what is put behind it
DEFAULT_NAME = "cgd"
ENDING = ".db"
HINT = "a server's is http://host:19530/collection, the embedded form's gallery.db"


@dataclass(frozen=True)
class MilvusAddress:
    """A collection of a server, or of the embedded form.

    Attributes:
        uri: for the client: without the collection, and without credentials.
        collection: what the user calls it; an alias, there.
        file: the folder of the embedded form; None for a server.
    """

    uri: str
    collection: str
    file: Path | None = None

    def __str__(self) -> str:
        if self.file is None:
            return f"{self.uri}/{self.collection}"
        named = self.collection != DEFAULT_NAME
        return str(self.file / self.collection if named else self.file)

    @property
    def place(self) -> Path:
        """A path that stands for it, as `remote.place_of` has one for each address."""
        return Path(str(self)) if self.file is not None else place_of(str(self))


def milvus_address(given: Path | str) -> MilvusAddress | None:
    """What a path or an address means, if it means Milvus; None for any other.

    Raises:
        ConfigError: credentials are in it, or the collection's name is too long.
    """
    text = str(given)
    match = _SERVER.fullmatch(text)
    if match is not None and not Path(f"{match[1]}:").is_dir():
        scheme, host, name = match.groups()
        if "@" in host:
            raise ConfigError(
                f"the address {scheme}://...@{host.rpartition('@')[2]}/{name} holds credentials, "
                "which would be shown and recorded",
                hint="leave them out, and set MILVUS_TOKEN=user:password (or an API key)",
            )
        return _checked(MilvusAddress(f"{scheme}://{host}", name))
    path = Path(text)
    if _is_embedded(path):
        return MilvusAddress(os.path.abspath(path), DEFAULT_NAME, path)
    if _is_embedded(path.parent) and _NAME.fullmatch(path.name):
        return _checked(MilvusAddress(os.path.abspath(path.parent), path.name, path.parent))
    return None


def _is_embedded(path: Path) -> bool:
    """By its name; a file of that name is something else."""
    return path.suffix == ENDING and not path.is_file()


def _checked(address: MilvusAddress) -> MilvusAddress:
    if len(address.collection) > LONGEST_NAME:
        raise ConfigError(
            f"the collection's name in `{address}` has {len(address.collection)} letters; at most "
            f"{LONGEST_NAME} are wanted",
            hint=HINT,
        )
    return address
