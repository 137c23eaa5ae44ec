"""Many pictures inside a page: each once, small ones first, enlarged copies as far as room goes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from PIL import Image

from cgdcli.errors import ImageError
from cgdcli.images.decoding import read_image
from cgdcli.images.loading import read_ahead, worker_count
from cgdcli.images.mirror import fetch
from cgdcli.remote import place_of
from cgdcli.streaming import OnProgress
from cgdcli.views.thumbnails import data_uri

SMALL_SIDE, LARGE_SIDE = 200, 640  # px, of the longer side
# Bytes of the page, as base64: of photographs about 4 000 small and 450 enlarged copies. JPEG: WebP
# would be a quarter smaller and take fourteen times as long (640 px: 30 of 40 kB, 32 of 2 ms).
SMALL_BYTES, LARGE_BYTES = 32_000_000, 24_000_000


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as data URIs.

    Attributes:
        number: its own on the page.
        small, large: None where the picture cannot be read, or there is no room left.
        is_whole: the small one has every pixel of it, and no large one is needed.
        found: it could be read.
    """

    number: int = 0
    small: str | None = None
    large: str | None = None
    is_whole: bool = False
    found: bool = True


def embed_pictures(
    paths: Iterable[str],
    *,
    small_bytes: int = SMALL_BYTES,
    large_bytes: int = LARGE_BYTES,
    on_progress: OnProgress | None = None,
) -> dict[str, EmbeddedPicture]:
    """Read each picture once and make its copies, as far as there is room in the order of `paths`.

    Args:
        small_bytes, large_bytes: room for the copies of each kind.
        on_progress: called with pictures done, pictures in all, and those not found.
    """
    once = list(dict.fromkeys(paths))
    small_left, large_left = small_bytes, large_bytes

    def read(path: str) -> EmbeddedPicture:
        # Threads read ahead of what is taken below; once the room is gone they have no more to do.
        return EmbeddedPicture() if small_left < 0 else _copies(path, enlarged=large_left >= 0)

    found: dict[str, EmbeddedPicture] = {}
    missing = 0
    for number, picture in enumerate(read_ahead(read, once, workers=worker_count(0))):
        small, large = picture.small, picture.large
        # The first one without room closes its kind: all before it are there, and none after it.
        if small is not None and small_left >= 0:
            small_left -= len(small)
        if large is not None and large_left >= 0:
            large_left -= len(large)
        found[once[number]] = replace(
            picture,
            number=number,
            small=small if small_left >= 0 else None,
            large=large if min(small_left, large_left) >= 0 else None,
        )
        missing += not picture.found
        if on_progress is not None:
            on_progress(len(found), len(once), missing)
    return found


def _copies(path: str, *, enlarged: bool) -> EmbeddedPicture:
    side = LARGE_SIDE if enlarged else SMALL_SIDE
    try:
        image, _ = read_image(fetch(place_of(path)), at_least=(side, side))
    except ImageError:
        return EmbeddedPicture(found=False)
    is_whole, large = max(image.size) <= SMALL_SIDE, None
    if enlarged and not is_whole:
        image.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS)
        large = data_uri(image)
    image.thumbnail((SMALL_SIDE, SMALL_SIDE), Image.Resampling.LANCZOS)
    return EmbeddedPicture(small=data_uri(image), large=large, is_whole=is_whole)
