"""Addresses such as `s3://bucket/folder`, and the copies that this machine keeps of what is there.

An address and the place of its copy below the user's cache name each other: inside, all paths are
places, and whoever shows or records one says `shown`. Transfers are fsspec's (extra `cloud`), with
its own credentials, endpoints and retries.
"""

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cgdcli.errors import CGDError, ConfigError, DatasetError, OutputError
from cgdcli.files import user_cache

# `Path` makes s3:/bucket of s3://bucket. Two letters at least: C:/ is a drive.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "sha256", "md5", "Content-MD5")
_TIMES = (
    "LastModified",
    "last_modified",
    "mtime",
    "modified",
    "updated",
    "Last-Modified",
    "created",
)
_PACKAGES = {"s3": "'cgdcli[cloud]'", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
LONGEST_NAME = 255  # bytes, of Linux and macOS


def place_of(path: Path | str) -> Path:
    """The place of an address's copy on this machine; any other path as it is.

    Raises:
        ConfigError: an address that no file could be named like.
    """
    match = _ADDRESS.fullmatch(str(path))
    if match is None or (isinstance(path, Path) and Path(path.parts[0]).is_dir()):
        return Path(path)
    names = match[2].rstrip("/").split("/")
    if not all(map(can_be_named, names)):
        raise ConfigError(
            f"the address `{path}` has an empty name, `.` or `..` in it, or one of more than "
            f"{LONGEST_NAME} bytes",
            hint="write it as in s3://bucket/folder, gs://bucket/folder or https://host/picture.jpg",
        )
    return _root() / match[1] / Path(*names)


def address_of(path: Path | str) -> str | None:
    """The address that a place is the copy of; None for any other path."""
    root, text = f"{_root()}{os.sep}", str(path)
    if not text.startswith(root):
        return None
    scheme, _, rest = text[len(root) :].replace(os.sep, "/").partition("/")
    return f"{scheme}://{rest}"


def shown(path: Path | str) -> str:
    """A path as the user names it: an address for a place."""
    return address_of(path) or str(path)


def can_be_named(name: str) -> bool:
    """Whether a part of an address can be the name of a file."""
    return (
        name not in ("", ".", "..")
        and "\0" not in name
        and len(os.fsencode(name)) <= (LONGEST_NAME)
    )


def opened(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, which remembers no listing, and the path in it.

    Raises:
        ConfigError: the package for it is not installed, or there is none.
    """
    scheme = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(
            f"`{address}` wants a package that is not installed ({error})",
            hint=f"pip install {_PACKAGES.get(scheme, _PACKAGES['s3'])}",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"`{address}` cannot be opened: {error}", hint="s3://, gs://, hf:// and https:// can"
        ) from error
    return fs, path


@contextlib.contextmanager
def reported(address: str, kind: type[CGDError] = DatasetError, left: str = "") -> Iterator[None]:
    """Word what a transfer raises; `FileNotFoundError` goes through.

    Raises:
        CGDError: of `kind`; what has arrived until then stays.
    """
    try:
        yield
    except (CGDError, FileNotFoundError):
        raise
    except Exception as error:
        # Each driver has errors of its own (OSError, botocore's, aiohttp's, gcsfs's ...).
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"no space for a copy of `{address}` below `{_root()}`",
                hint="make room, or set XDG_CACHE_HOME to a larger disk; copies may be removed",
            ) from error
        words = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(
            f"cannot reach `{address}`: {words}",
            hint=left
            or "check the network, the credentials (s3: AWS_PROFILE, AWS_ENDPOINT_URL) and the "
            "permissions there; the same command goes on from what is done",
        ) from error


def facts_of(info: dict[str, Any]) -> tuple[int | None, int | None]:
    """Size in bytes, and a number that stands for the content in place of a file's time of change.

    The number is of the ETag, else of the time; None where a server gives neither. It goes where
    nanoseconds of a time go, so that copy and index tell by `stat` whether a picture has changed.
    """
    said = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    if not said:
        said = _second(next((info[key] for key in _TIMES if info.get(key)), ""))
    size = info.get("size")
    if not said:
        return size, None
    digest = hashlib.sha256(said.strip('"').encode()).digest()
    return size, int.from_bytes(digest[:8], "big") >> 4  # 60 bits: years 1970 to 2006


def _second(time: Any) -> str:
    """A time in whole seconds: listings give fractions, text or numbers where single answers do
    not."""
    with contextlib.suppress(ValueError):
        time = datetime.fromisoformat(time) if isinstance(time, str) else time
    time = time.timestamp() if isinstance(time, datetime) else time
    return str(int(time) if isinstance(time, float) else time)


def info_of(place: Path) -> dict[str, Any] | None:
    """What the server says of a place's original; None where it is not there.

    Raises:
        DatasetError: it cannot be reached.
    """
    address = shown(place)
    fs, path = opened(address)
    with reported(address), contextlib.suppress(FileNotFoundError):
        info: dict[str, Any] = fs.info(path)
        return None if info.get("type") == "directory" else info
    return None


def download(place: Path, target: Path | None = None) -> bool:
    """Copy an original to its place, or to `target`, atomically; False where it is not there.

    Raises:
        DatasetError: it cannot be reached, or changes while it is copied.
        OutputError: the disk is full.
    """
    target, address = target or place, shown(place)
    info = info_of(place)  # before the copy: what changes in between is seen the next time
    if info is None:
        return False
    size, stamp = facts_of(info)
    fs, path = opened(address)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with reported(address):
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(path, str(temporary))
            if size is not None and temporary.stat().st_size != size:
                raise DatasetError(
                    f"`{address}` came as {temporary.stat().st_size} bytes of {size}: it is being "
                    "changed, or the connection broke",
                    hint="the same command goes on from what is done",
                )
            if stamp is not None:
                os.utime(temporary, ns=(stamp, stamp))
            temporary.replace(target)
    except FileNotFoundError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def upload(place: Path, left: str) -> None:
    """Copy a place's file to its address, whole or not at all as far as the service has it.

    Args:
        left: what the user can do after a failure.

    Raises:
        OutputError: it cannot be written there.
    """
    address = shown(place)
    fs, path = opened(address)
    try:
        with reported(address, OutputError, left):
            fs.put_file(str(place), path)
    except FileNotFoundError as error:
        raise OutputError(f"`{address}`: there is no such bucket or folder", hint=left) from error


def _root() -> Path:
    return user_cache() / "remote"
