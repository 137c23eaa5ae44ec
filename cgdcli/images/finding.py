"""Finding pictures in files and folders, without opening any."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cgdcli.errors import DatasetError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".jp2", ".ico"}
)


@dataclass(frozen=True)
class FoundImage:
    """A picture: `path` is relative to `root`, an absolute folder."""

    root: Path
    path: str

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.root / self.path


@dataclass(frozen=True)
class Listing:
    """Pictures in byte order of their absolute paths, and how many files were passed over.

    `passed_over` counts visible files without a picture's extension (Thumbs.db, .mov, .txt).
    """

    images: tuple[FoundImage, ...]
    passed_over: int


def find_images(sources: Iterable[Path]) -> Listing:
    """List the pictures in files and folders, folders recursively; each picture once.

    Hidden files and folders (a leading dot, also macOS's `._x.jpg`) are left out, links are
    followed, a loop of links is walked once. The root of a file is its folder.

    Raises:
        DatasetError: a source does not exist, or a folder cannot be read.
    """
    images: dict[str, FoundImage] = {}
    passed_over: set[str] = set()
    for source in sources:
        root = source if source.is_dir() else source.parent
        absolute = absolute_path(root)
        files: Iterable[Path] = [source] if source.is_file() else _walk(source)
        for file in files:
            relative = os.path.relpath(file, root)
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                passed_over.add(str(absolute / relative))
                continue
            images.setdefault(str(absolute / relative), FoundImage(absolute, relative))
    ordered = sorted(images, key=os.fsencode)
    return Listing(tuple(images[place] for place in ordered), len(passed_over))


def absolute_path(path: Path) -> Path:
    """Absolute, links kept as the user named them; but `link/..` is where the system says it is."""
    return path.resolve() if ".." in path.parts else Path(os.path.abspath(path))


def _walk(folder: Path) -> Iterator[Path]:
    if not folder.exists():
        raise DatasetError(
            f"`{folder}` does not exist; a picture or a folder of pictures is wanted",
            hint="check the spelling, and the folder you are in",
        )
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up: already walked
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders before links to them, by name: what a picture is called is no accident.
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(visible, key=lambda name: (Path(place, name).is_symlink(), name))
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise DatasetError(
        f"cannot read the folder `{error.filename}`: {error.strerror}",
        hint="check its permissions, or give a folder without it",
    ) from error
