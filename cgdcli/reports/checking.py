"""What was found of labelled pictures before anything is trained or judged on them."""

from dataclasses import dataclass
from pathlib import Path

from cgdcli.reports.base import Report


@dataclass(frozen=True)
class SplitCount(Report):
    """One split; `queries` and `gallery` count all its pictures where nothing tells them apart."""

    name: str
    pictures: int
    classes: int
    queries: int
    gallery: int
    boxes: int


@dataclass(frozen=True)
class Finding(Report):
    """Something wrong, or worth knowing.

    Attributes:
        kind: a word for programs, such as `broken` or `identical-across-splits`.
        severity: `error`, which would spoil training or a figure, or `warning`.
        count: how many pictures or classes it is about.
        what: the finding in words, with its rule.
        hint: what to do about it.
        examples: pictures or classes, 1 000 at most.
    """

    kind: str
    severity: str
    count: int
    what: str
    hint: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckReport(Report):
    """What `cgd check` says of a dataset.

    Attributes:
        dataset: its layout.
        sound: there is no error among the findings.
        decoded: pictures that were opened; 0 in the quick mode.
        seconds: wall time of the whole check.
    """

    data: Path
    dataset: str
    sound: bool
    splits: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    decoded: int
    seconds: float
