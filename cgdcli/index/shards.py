"""Which part of an index a picture belongs to, and what the files of parts are called.

`feats.npy` in 16 parts is `feats.00000-of-00016.npy` to `feats.00015-of-00016.npy`, each with its
`.sqlite`: each one an index of its own, that only names the others. The names are those of
TensorFlow's and Beam's sharded files.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cgdcli.errors import ConfigError, MismatchError
from cgdcli.index.records import index_path, sidecar

MOST_PARTS = 99_999
_NAME = re.compile(r"(?P<stem>.+)\.(?P<part>\d{5})-of-(?P<of>\d{5})")
_GIVEN = re.compile(r"(\d{1,5})/(\d{1,5})")
# Of a pattern: `feats.?????-of-00016.npy`, as a shell would be given it.
_PATTERN = re.compile(r"(?P<stem>.+)\.[?*]+-of-(?P<of>\d{5})")


@dataclass(frozen=True)
class Shard:
    """Part `part`, from 0, of `of`.

    Raises:
        ConfigError: there is no such part.
    """

    part: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= MOST_PARTS:
            raise ConfigError(
                f"{self.of} parts of an index; 1 to {MOST_PARTS} are possible",
                hint="a part of 100 000 to a million pictures is a good size",
            )
        if not 0 <= self.part < self.of:
            raise ConfigError(
                f"part {self.part} of {self.of}: parts are numbered from 0 to {self.of - 1}",
                hint="of a job array that counts from 1, take one less: --array=0-15, not 1-16",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `3/16`.

        Raises:
            ConfigError: it is not of that form, or there is no such part.
        """
        match = _GIVEN.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"--shard {text!r} is not of the form i/n, as in 0/16",
                hint='in a Slurm array: --shard "$SLURM_ARRAY_TASK_ID/16"; in a Kubernetes indexed '
                'job: --shard "$JOB_COMPLETION_INDEX/16"',
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"

    def holds(self, path: str) -> bool:
        """Whether a picture is of this part, by its path below the folder that is embedded."""
        return part_of(path, self.of) == self.part

    def path(self, index: Path) -> Path:
        """The `.npy` of this part of `index`, the name of the whole (`feats.npy`)."""
        return index.with_name(f"{index.stem}.{self.part:05d}-of-{self.of:05d}.npy")


def part_of(path: str, of: int) -> int:
    """The part of a picture, by its path below the folder that is embedded.

    It is the first eight bytes of the path's SHA-256, big-endian, modulo the number of parts: it
    depends on nothing else, so that a folder that grows moves no picture.
    """
    name = os.fsencode(path if os.sep == "/" else path.replace(os.sep, "/"))
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % of


def shards(of: int) -> list[Shard]:
    """All parts."""
    Shard(0, of)
    return [Shard(part, of) for part in range(of)]


def part_named(path: Path) -> tuple[Path, Shard] | None:
    """The whole's name and the part, of a path that is named like a part; else None."""
    match = _NAME.fullmatch(_stem(path))
    if match is None or int(match["part"]) >= int(match["of"]):
        return None
    return path.with_name(match["stem"] + ".npy"), Shard(int(match["part"]), int(match["of"]))


def parts_meant(path: Path) -> tuple[Path, int] | None:
    """The whole's name and the number of parts, where a path means an index in parts: one of them,
    a pattern for them, or the name of the whole where only parts are there.

    Raises:
        MismatchError: parts of two numbers are there, and none is named.
    """
    named = part_named(path)
    if named is not None:
        return named[0], named[1].of
    pattern = _PATTERN.fullmatch(_stem(path))
    if pattern is not None and int(pattern["of"]):
        return path.with_name(pattern["stem"] + ".npy"), int(pattern["of"])
    whole = path.with_name(_stem(path) + ".npy") if path.name else path
    if path.exists() or index_path(path).exists() or sidecar(whole).exists():
        return None
    numbers = numbers_of_parts(whole)
    if len(numbers) > 1:
        raise MismatchError(
            f"`{whole}` is there in parts of {' and of '.join(map(str, numbers))}",
            hint=f"name a part of those that are meant: {Shard(0, numbers[0]).path(whole)}",
        )
    return (whole, numbers[0]) if numbers else None


def numbers_of_parts(whole: Path) -> list[int]:
    """In how many parts an index is there, finished or under way: usually in none or one number."""
    if not whole.parent.is_dir():
        return []
    found = set()
    for name in os.listdir(whole.parent):  # noqa: PTH208 - names of any bytes, no pattern in them
        named = part_named(Path(name.removeprefix(".").removesuffix(".part").removesuffix(".done")))
        if named is not None and named[0].name == whole.name:
            found.add(named[1].of)
    return sorted(found)


def check_layout(whole: Path, parts: Sequence[Shard]) -> None:
    """Refuse to write an index in parts beside the same in one, or in another number of parts:
    nobody could tell which of them `feats.npy` means.

    Args:
        parts: that are to be written; none: the whole as one.

    Raises:
        MismatchError: another layout is there.
    """
    of = parts[0].of if parts else 0
    others = [number for number in numbers_of_parts(whole) if number != of]
    if others:
        there = Shard(0, others[0]).path(whole)
        raise MismatchError(
            f"`{whole}` is there in {others[0]} parts ({there.name} ...), and it would be made in "
            f"{of or 'one'}",
            hint=f"go on with --parts {others[0]}, choose another -o, or remove those parts",
        )
    if of and (whole.exists() or sidecar(whole).exists()):
        raise MismatchError(
            f"`{whole}` is there as one index, and it would be made in {of} parts",
            hint="leave out --parts and --shard, choose another -o, or remove it",
        )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".sqlite").removesuffix(".npy")
