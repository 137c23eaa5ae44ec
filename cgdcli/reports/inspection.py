"""What a file is, what is odd about it, and how two files differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgdcli.errors import CGDError, CheckpointError, MismatchError
from cgdcli.reports.base import Report


@dataclass(frozen=True)
class Anomaly(Report):
    """Something in a file that is not as it should be.

    Attributes:
        kind: a few words, the same for all of a kind: `NaN`, `picture gone`.
        entry: the tensor, layer, row, picture or model it is about; the first where it is several.
        detail: what was found there, in words.
        count: values of that tensor, or rows or pictures, that it concerns.
    """

    kind: str
    entry: str
    detail: str
    count: int = 1


@dataclass(frozen=True)
class KeyEntry(Report):
    """One entry of a weights file.

    Attributes:
        group: stem, layer1 to layer4, or backbone where it is no ResNet's; branches, exponents,
            classifier, profiler or other.
        dtype: NumPy's word (`float32`; `bfloat16`), None for what is no tensor; so with `shape`.
        elements, bytes: 0 for what is no tensor.
        status: what a conversion makes of it: kept, renamed, dropped, unknown or clash; None in
            one of our own files.
        becomes: our name; None where it has none.
        why: the rule by which it is renamed, or why it is dropped, unknown or a clash.
    """

    name: str
    group: str
    dtype: str | None
    shape: tuple[int, ...] | None
    elements: int
    bytes: int
    status: str | None = None
    becomes: str | None = None
    why: str = ""


@dataclass(frozen=True)
class KeyGroup(Report):
    """The entries of one part of a network.

    Attributes:
        parameters: values that training changes: without BatchNorm's statistics and counters.
        bytes: of all entries.
        dtypes: how many entries have which.
    """

    name: str
    entries: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class Refusal(Report):
    """Why every other command refuses what was inspected, as it would say it."""

    what: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: CGDError) -> "Refusal":
        """The words of an error."""
        return cls(error.what, error.hint, error.exit_code)

    def error(self) -> CGDError:
        """The error again, to be raised once the facts have been shown."""
        kind = MismatchError if self.exit_code == MismatchError.exit_code else CheckpointError
        return kind(self.what, hint=self.hint)


@dataclass(frozen=True)
class InspectReport(Report):
    """What a file is: `kind` in words, then named facts in the order to show them.

    Attributes:
        groups: parts of the network; empty for an index.
        keys: every entry, where they were asked for.
        anomalies: what is odd; empty in a sound file.
        refusal: set where the file is damaged so that other commands refuse it.
    """

    path: Path
    kind: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    groups: tuple[KeyGroup, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True)
class EntryDifference(Report):
    """One entry, or one group of entries, that two weights files have in common.

    Attributes:
        entries: how many it stands for.
        bit_equal: how many of them are of the same type and the same bytes.
        max_difference, mean_difference: of absolute values, over values finite in both; None
            where there are none.
        cosine: of the two as one long vector each; None where one is all zero.
        not_finite: values that are NaN or Inf in one or both; they are in no figure.
    """

    name: str
    entries: int
    bit_equal: int
    values: int
    max_difference: float | None
    mean_difference: float | None
    cosine: float | None
    not_finite: int = 0


@dataclass(frozen=True)
class WeightsComparison(Report):
    """Two weights files, entry by entry under our names.

    Attributes:
        kinds: what each is.
        fingerprints: of each; of a foreign file the one that its conversion would have; None
            where it does not convert.
        same_embeddings: whether the fingerprints are equal; None where one is not known.
        config: what differs, as (of a, of b); a name that one lacks is None there.
        only_in_a, only_in_b: entries by our names.
        shapes, dtypes: of common entries where they differ, as (of a, of b).
        groups: entries of the same shape, by part of the network.
        entries: each of them, where they were asked for.
    """

    a: Path
    b: Path
    kinds: tuple[str, str]
    fingerprints: tuple[str | None, str | None]
    same_embeddings: bool | None
    config: dict[str, tuple[Any, Any]]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    dtypes: dict[str, tuple[str, str]]
    groups: tuple[EntryDifference, ...]
    total: EntryDifference
    entries: tuple[EntryDifference, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    compared: str = "two weights files"


@dataclass(frozen=True)
class RowDifference(Report):
    """One picture in two indexes; `cosine` of its rows, `changed` if its content differs."""

    picture: str
    rows: tuple[int, int]
    cosine: float
    changed: bool


@dataclass(frozen=True)
class IndexComparison(Report):
    """Two indexes, picture by picture.

    Attributes:
        rows, dims: of each.
        matched_by: what made two rows one picture: its place, its path below the folder that was
            embedded, or the row's number where one of them is an array alone.
        only_in_a, only_in_b: pictures, by that.
        changed: pictures in both whose content (SHA-256) differs.
        bit_equal: common rows that are the same bytes.
        cosine_mean, cosine_min: over common rows; None without any, or with unequal dimensions.
        farthest: the common rows that differ most, the worst first.
        header: what differs in model, config and how the rows were made, as (of a, of b).
    """

    a: Path
    b: Path
    rows: tuple[int, int]
    dims: tuple[int, int]
    matched_by: str
    common: int
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    changed: tuple[str, ...]
    bit_equal: int
    cosine_mean: float | None
    cosine_min: float | None
    farthest: tuple[RowDifference, ...]
    header: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    compared: str = "two indexes"


@dataclass(frozen=True)
class OriginComparison(Report):
    """A weights file and an index: whether the index comes from that model."""

    weights: Path
    index: Path
    fingerprints: tuple[str, str]
    belongs: bool
    config: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    compared: str = "weights and an index"


Comparison = WeightsComparison | IndexComparison | OriginComparison
