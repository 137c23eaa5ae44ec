"""Foreign formats, one file each: tables of names, no files read and nothing computed.

A format says whether a set of names is its own, what each name is called here, what is left out
and why, what cannot be had here and why, and what the source knows that shapes do not say.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cgdcli.config import CGDConfig, Head, StrideMode

Names = Collection[str]
Beside = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """A pattern for whole names and what they become, or why they do not.

    Attributes:
        pattern: regular expression, matched against the whole name.
        ours: template of the other name, for `re.Match.expand`; None in a table of dropped,
            refused or left out names.
        why: the reason, in words that end a sentence on one entry.
    """

    pattern: str
    ours: str | None = None
    why: str = ""

    def match(self, name: str) -> re.Match[str] | None:
        """The match of the whole name."""
        return re.fullmatch(self.pattern, name)

    def __str__(self) -> str:
        pattern = self.pattern.replace(r"\.", ".")  # for people; a dot is a dot
        return f"{pattern} -> {self.ours}" if self.ours else f"{pattern}: {self.why}"


@dataclass(frozen=True)
class Facts:
    """What a source knows of its network beyond shapes; None where it says nothing.

    Attributes:
        head: of every branch.
        why: where the values are a convention of that source and not in the file: whose, to be
            said of each; empty where the file itself says them.
        notes: what differs there and cannot be had here, such as how pictures were resized; each
            is said with the conversion and kept in the new file.
        misfits: what of the network ours does not have; one of them refuses the file.
    """

    descriptors: str | None = None
    stride: StrideMode | None = None
    gem_p: float | None = None
    head: Head | None = None
    image_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()


def _no_facts(tensors: Mapping[str, Tensor], beside: Beside) -> Facts:
    return Facts()


@dataclass(frozen=True)
class Format:
    """One foreign way of naming.

    Attributes:
        name: for people.
        recognises: whether names (wrappers' prefixes removed) are of this format; the second
            argument is what stood beside the state_dict in the file, by its keys.
        rules: source name to ours; the first that matches holds.
        dropped: known names that are left out.
        refused: known names of what our network does not have; one of them refuses the file.
        read_facts: from all tensors of the source, by its names, and what stood beside them.
        has_classifier: whether a whole network of this format has the auxiliary classifier.
        backward: our name to its, for `--to`; empty for a format that is only read.
        left_out: our names that it has no place for.
        cannot_say: what of one of our networks a network of this format cannot be; such a one is
            not written, since it would load there and give other embeddings.
    """

    name: str
    recognises: Callable[[Names, Beside], bool]
    rules: tuple[Rule, ...]
    dropped: tuple[Rule, ...] = ()
    refused: tuple[Rule, ...] = ()
    read_facts: Callable[[Mapping[str, Tensor], Beside], Facts] = _no_facts
    has_classifier: bool = False
    backward: tuple[Rule, ...] = ()
    left_out: tuple[Rule, ...] = ()
    cannot_say: Callable[[CGDConfig], list[str]] = lambda config: []

    def rename(self, name: str) -> tuple[str, Rule] | None:
        """Our name and the rule that says so, or None for a name that no rule knows."""
        return _expand(self.rules, name)

    def name_there(self, name: str) -> str | None:
        """The format's name for one of ours, or None where no rule of `backward` knows it."""
        found = _expand(self.backward, name)
        return found[0] if found else None


def three_numbers(values: Any) -> tuple[float, float, float] | None:
    """A mean or std as found in a file; None for anything else."""
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError):
        return None
    return red, green, blue


def _expand(rules: tuple[Rule, ...], name: str) -> tuple[str, Rule] | None:
    for rule in rules:
        match = rule.match(name)
        if match and rule.ours:
            return match.expand(rule.ours), rule
    return None


def first_match(rules: tuple[Rule, ...], name: str) -> Rule | None:
    """The first rule whose pattern is the whole name."""
    return next((rule for rule in rules if rule.match(name)), None)
