"""Pictures as they come in: no larger, no slower and no more of them than there is room for."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

# Of pictures that are asked with, so many of the largest are held at a time; each comes within so
# many seconds.
LARGEST_AT_ONCE, SECONDS_OF_AN_UPLOAD = 16, 60.0


class Room:
    """Bounds the memory of what is received, however slowly it comes and from however many."""

    def __init__(self, most: int) -> None:
        self.left = most

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """To be called with the bytes that each part takes; they are given back at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self.left:
                words = "too many pictures are being received"
                raise HTTPException(503, words, {"Retry-After": "1"})
            self.left -= count
            taken += count

        try:
            yield take
        finally:
            self.left += taken


async def body_of(request: Request, limit: int, take: Callable[[int], None]) -> bytes:
    """The body, read no further than is allowed.

    Args:
        limit: bytes that it may have.
        take: called with the bytes of each part; see `Room.share`.

    Raises:
        HTTPException: it is too large, empty, too slow, or more than there is room for.
    """
    problem = HTTPException(413, f"a picture of at most {limit / 2**20:g} MB is wanted")
    if int(request.headers.get("content-length") or 0) > limit:
        raise problem
    data = bytearray()
    try:
        async with asyncio.timeout(SECONDS_OF_AN_UPLOAD):
            async for part in request.stream():
                take(len(part))
                data += part
                if len(data) > limit:
                    raise problem
    except TimeoutError:
        words = f"the picture was not here within {SECONDS_OF_AN_UPLOAD:g} seconds"
        raise HTTPException(408, words) from None
    except ClientDisconnect:
        raise HTTPException(400, "the picture broke off") from None  # nobody reads it
    if not data:
        raise HTTPException(422, "the body is empty; a picture is wanted")
    return bytes(data)
