"""Pictures that come from elsewhere than a file: stdin, the clipboard, an address.

They are copied to a folder that is there as long as this process, so that whoever draws a contact
sheet or a page of them afterwards finds them.
"""

import functools
import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from cgdcli.errors import DatasetError
from cgdcli.images.mirror import fetch, list_remote
from cgdcli.remote import address_of, place_of

STDIN, CLIPBOARD = "-", "clipboard"
MOST_BYTES = 200_000_000  # of one picture
SECONDS_OF_SILENCE = 30.0
_WEB = re.compile(r"https?://.+", re.DOTALL)


def is_elsewhere(name: str) -> bool:
    """Whether a name means no file of this machine."""
    if name in (STDIN, CLIPBOARD):
        return not Path(name).exists() or name == STDIN
    return bool(_WEB.fullmatch(name)) or address_of(place_of(name)) is not None


def received(name: str) -> Path:
    """A file with the picture that `name` means; see `is_elsewhere`.

    Raises:
        DatasetError: there is none, it cannot be had, or it is larger than `MOST_BYTES`.
        ConfigError: an address whose package is not installed.
    """
    if name == STDIN:
        return _kept(name, sys.stdin.buffer)
    if name == CLIPBOARD:
        return _from_clipboard()
    if _WEB.fullmatch(name):
        return _from_web(name)
    return _from_address(name)


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="cgd-")


def _kept(name: str, stream: BinaryIO) -> Path:
    data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DatasetError(
            f"the query `{name}` is larger than {MOST_BYTES // 10**6} MB; a picture is wanted",
            hint="give a smaller one",
        )
    if not data:
        raise DatasetError(
            f"the query `{name}` is empty; a picture is wanted",
            hint="such as: cgd search - --index feats.npy < query.jpg",
        )
    file = Path(_folder().name) / hashlib.sha256(data).hexdigest()
    file.write_bytes(data)
    return file


def kept(name: str, file: Path) -> Path:
    """A picture that can be read only once, as from a pipe: `<(convert a.tif png:-)`."""
    try:
        with file.open("rb") as stream:
            return _kept(name, stream)
    except OSError as error:
        raise DatasetError(
            f"the query `{name}` cannot be read: {error.strerror or error}",
            hint="save the picture and name the file",
        ) from error


def _from_address(name: str) -> Path:
    place = place_of(name)
    listing = list_remote(place)  # which removes a copy of what has changed there
    if listing.root == place:
        raise DatasetError(f"the query `{name}` is a folder; a picture is wanted", hint="name one")
    if not fetch(place).exists():
        raise DatasetError(
            f"nothing is at `{name}`; a picture is wanted", hint="check the spelling"
        )
    return place


def _from_web(address: str) -> Path:
    import http.client  # 15 ms, which other queries need not pay
    import urllib.parse
    import urllib.request

    # As browsers do: letters beyond ASCII and blanks are escaped, what is escaped stays.
    quoted = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")
    try:
        request = urllib.request.Request(quoted, headers={"User-Agent": "cgd"})
        with urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE) as answer:
            return _kept(address, answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DatasetError(
            f"cannot get the query `{address}`: {reason}",
            hint="check the address and the network, or save the picture and name the file",
        ) from error


def _from_clipboard() -> Path:
    from PIL import Image, ImageGrab

    try:
        found = ImageGrab.grabclipboard()
    except (NotImplementedError, OSError) as error:
        raise DatasetError(
            f"cannot read the clipboard: {error}",
            hint="on Linux install wl-clipboard or xclip, or save the picture and name the file",
        ) from error
    if isinstance(found, list) and found:
        return Path(found[0])
    if not isinstance(found, Image.Image):
        raise DatasetError("no picture is in the clipboard", hint="copy one, and ask again")
    file = Path(_folder().name) / "clipboard.png"
    found.save(file)
    return file
