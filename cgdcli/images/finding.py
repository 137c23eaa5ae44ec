"""Finding pictures in files and folders, without opening any."""

import fnmatch
import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgdcli.errors import DatasetError
from cgdcli.images.mirror import Facts, list_remote
from cgdcli.remote import address_of, shown

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".jp2", ".ico", ".heic", ".heif", ".jxl"}
)

Keep = Callable[[str], bool]


@dataclass(frozen=True)
class FoundImage:
    """A picture: `path` is relative to `root`, an absolute folder.

    Attributes:
        facts: of one at an address, whose copy need not be here: its size and stamp as listed.
    """

    root: Path
    path: str
    facts: Facts | None = None

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.root / self.path

    @property
    def folder(self) -> str:
        """The folder it lies in, below the root; empty for the root itself."""
        return self.path.rpartition(os.sep)[0]  # of millions: a `Path` takes ten times as long


@dataclass(frozen=True)
class Listing:
    """Pictures in byte order of their absolute paths, and what was found beside them.

    Attributes:
        passed_over: how many visible files have no picture's extension (Thumbs.db, .mov, .txt).
        unreadable: absolute paths of folders that could not be read, with the reason.
        excluded: how many pictures the patterns left out.
        found: how many pictures there are; more than `images` where only some were kept.
        folders: by root, the folders below it that hold pictures, kept or not.
    """

    images: tuple[FoundImage, ...]
    passed_over: int
    unreadable: dict[str, str] = field(default_factory=dict)
    excluded: int = 0
    found: int = 0
    folders: dict[Path, set[str]] = field(default_factory=dict)


def find_images(
    sources: Iterable[Path],
    exclude: Sequence[str] = (),
    *,
    tolerant: bool = False,
    keep: Keep | None = None,
) -> Listing:
    """List the pictures in files and folders, folders recursively; each picture once.

    Hidden files and folders (a leading dot, also macOS's `._x.jpg`) are left out, links are
    followed, a loop of links is walked once. The root of a file is its folder, that of a pattern
    (`imgs/**/*.jpg`, of `glob`) the folder before its first wildcard. Of the place of an address
    (`remote.place_of`) what is listed there; copies are made when they are wanted.

    Args:
        exclude: patterns (`fnmatch`) of pictures to leave out: with a `/` for the path below the
            source, without for the name of the file or of any folder on the way to it.
        tolerant: note a folder below a source that cannot be read, and walk the others.
        keep: says by the path below its root whether a picture is listed; the others are counted.

    Raises:
        DatasetError: a source does not exist, or a folder cannot be read.
    """
    given = list(sources)
    gathered = _Gathered(keep, once=len(given) == 1)
    passed_over: set[str] = set()
    unreadable: dict[str, str] = {}
    excluded: set[str] = set()

    def note(error: OSError) -> None:
        if not tolerant or Path(error.filename) in given:
            raise DatasetError(
                f"cannot read the folder `{error.filename}`: {error.strerror}",
                hint="check its permissions, or give a folder without it",
            ) from error
        unreadable[str(absolute_path(Path(error.filename)))] = str(error.strerror)

    for source in given:
        facts: dict[str, Facts] = {}
        if address_of(source) is None:
            root, files = _files_of(source, note)
        else:
            there = list_remote(source)
            root, facts = there.root, there.facts
            files = (root / name for name in facts)
            unreadable |= there.unnamed
        absolute = absolute_path(root)
        for file in files:
            relative = os.path.relpath(file, root)
            place = str(absolute / relative)
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                passed_over.add(place)
            elif is_excluded(relative, exclude):
                excluded.add(place)
            else:
                gathered.add(place, absolute, relative, facts.get(relative))
    return gathered.listing(len(passed_over), unreadable, len(excluded))


def list_images(
    files: Iterable[Path], exclude: Sequence[str] = (), *, keep: Keep | None = None
) -> Listing:
    """The same for a list of files, whatever they are called: they need not exist, nothing is
    walked. Those below the current folder have it as their root."""
    base = Path.cwd()
    gathered = _Gathered(keep)
    excluded: set[str] = set()
    for file in files:
        absolute = absolute_path(file)
        if address_of(absolute) is not None:
            raise DatasetError(
                f"a list of pictures names `{shown(absolute)}`; it takes files of a disk",
                hint="name addresses, or a folder of them, as IMAGES",
            )
        root = base if absolute.is_relative_to(base) else absolute.parent
        relative = os.path.relpath(absolute, root)
        if is_excluded(relative, exclude):
            excluded.add(str(absolute))
        else:
            gathered.add(str(absolute), root, relative)
    return gathered.listing(0, {}, len(excluded))


class _Gathered:
    """Pictures by their places, each once: under the root that it was found in first.

    Args:
        once: none will come twice, so that what is not kept need not be remembered.
    """

    def __init__(self, keep: Keep | None, *, once: bool = False) -> None:
        self.keep, self.once = keep, once
        self.found = 0
        self.images: dict[str, FoundImage] = {}
        self.left: set[bytes] = set()
        self.folders: dict[Path, set[str]] = {}

    def add(self, place: str, root: Path, relative: str, facts: Facts | None = None) -> None:
        if place in self.images or (self.left and _short(place) in self.left):
            return
        self.found += 1
        image = FoundImage(root, relative, facts)
        self.folders.setdefault(root, set()).add(image.folder)
        if self.keep is None or self.keep(relative):
            self.images[place] = image
        elif not self.once:
            self.left.add(_short(place))

    def listing(self, passed_over: int, unreadable: dict[str, str], excluded: int) -> Listing:
        ordered = tuple(self.images[place] for place in sorted(self.images, key=os.fsencode))
        return Listing(ordered, passed_over, unreadable, excluded, self.found, self.folders)


def _short(place: str) -> bytes:
    """What stands for the place of a picture that is not kept, of which there may be millions."""
    return hashlib.blake2b(os.fsencode(place), digest_size=12).digest()


def is_excluded(relative: str, patterns: Sequence[str]) -> bool:
    """Whether a path below its source matches one of the patterns; see `find_images`."""
    if not patterns:
        return False
    path = Path(relative)
    return any(
        fnmatch.fnmatchcase(path.as_posix(), pattern.rstrip("/"))
        if "/" in pattern.rstrip("/")
        else any(fnmatch.fnmatchcase(part, pattern.rstrip("/")) for part in path.parts)
        for pattern in patterns
    )


def absolute_path(path: Path) -> Path:
    """Absolute, links kept as the user named them; but `link/..` is where the system says it is."""
    return path.resolve() if ".." in path.parts else Path(os.path.abspath(path))


def _files_of(source: Path, on_error: Callable[[OSError], None]) -> tuple[Path, Iterable[Path]]:
    """The root of a source, and the files in it."""
    if source.is_dir():
        return source, _walk(source, on_error)
    if source.exists() or not glob.has_magic(str(source)):
        return source.parent, [source] if source.is_file() else _walk(source, on_error)
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), source.parts)
    matches = [Path(match) for match in glob.glob(str(source), recursive=True)]  # noqa: PTH207 - of any path
    if not matches:
        raise DatasetError(
            f"`{source}` matches nothing; pictures or folders of them are wanted",
            hint="check the pattern, and the folder you are in; ** stands for any folders",
        )
    walked = ([m] if m.is_file() else _walk(m, on_error) for m in matches)
    return Path(*fixed), itertools.chain.from_iterable(walked)


def _walk(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    if not folder.exists():
        raise DatasetError(
            f"`{folder}` does not exist; a picture or a folder of pictures is wanted",
            hint="check the spelling, and the folder you are in",
        )
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=on_error):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up: already walked
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders before links to them, by name: what a picture is called is no accident.
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(visible, key=lambda name: (Path(place, name).is_symlink(), name))
        yield from (Path(place, name) for name in files if not name.startswith("."))
