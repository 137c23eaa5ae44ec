"""Which rows count: `label == "007" and path like "front/%"`, for the table and for Milvus.

The language is the part of Milvus's filter expressions that a table of pictures has fields for:

    FIELD == VALUE, != < <= > >=       FIELD in [VALUE, ...], not in
    FIELD like "front%"                % stands for anything, _ for one character
    FIELD is null, is not null         and, or, not (also && || !), ( )

Fields are `label`, `path` (relative to its source), `row` and `size` (bytes). A row without label
is true of `label is null` alone, and of nothing else that is said of labels.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from cgdcli.errors import ConfigError
from cgdcli.index.records import blob_or_text

TEXT_FIELDS, NUMBER_FIELDS = ("label", "path"), ("row", "size")
FIELDS = TEXT_FIELDS + NUMBER_FIELDS
HINT = """try --where 'label == "007"', 'label in ["a", "b"]' or 'path like "front/%"'"""
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+)"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<sign>==|!=|<=|>=|&&|\|\||[=<>!()\[\],]))""",
    re.DOTALL,
)
_WORD_OF = {"&&": "and", "||": "or", "!": "not", "=": "=="}
# SQLite's parser holds 100 signs and words that wait for what follows, its trees are 1000 deep; it
# takes 32 766 values and patterns of 50 000 bytes.
DEEPEST = 15  # of parentheses and `not`
MOST_CONDITIONS, MOST_VALUES, LONGEST_PATTERN = 400, 30_000, 10_000
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_OPPOSITE |= {"and": "or", "or": "and"}
# What says in Milvus that a field is null, and that it is not; `path` and `row` never are.
_NULL_IN_MILVUS = {
    "label": ("labelled == false", "labelled == true"),
    "size": ("size < 0", "size >= 0"),
}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}

Value = str | int


@dataclass(frozen=True)
class Compare:
    """FIELD sign VALUE."""

    field: str
    sign: str
    value: Value


@dataclass(frozen=True)
class Among:
    """FIELD in [VALUES]."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Like:
    """FIELD like PATTERN."""

    field: str
    pattern: str


@dataclass(frozen=True)
class IsNull:
    """FIELD is null."""

    field: str


@dataclass(frozen=True)
class Not:
    """not TERM."""

    term: "Term"


@dataclass(frozen=True)
class Both:
    """LEFT and RIGHT, or LEFT or RIGHT."""

    word: str
    left: "Term"
    right: "Term"


Term = Compare | Among | Like | IsNull | Not | Both


@dataclass(frozen=True)
class RowFilter:
    """A condition that whoever keeps the rows looks at by himself, as `milvus` writes it."""

    condition: str


def parse(text: str) -> Term:
    """Read an expression.

    Raises:
        ConfigError: it is none; what stands at which place, and what was wanted there.
    """
    return _Parser(text).all()


def sql(term: Term, first_row: int = 0) -> tuple[str, list[Value | bytes]]:
    """A condition on the table `pictures`, and its values; text that is not UTF-8 is compared as
    the bytes that the table has.

    Args:
        first_row: the number of the table's first row in the whole index.
    """
    if isinstance(term, Both):
        parts = [sql(part, first_row) for part in _chain(term)]
        joined = f" {term.word.upper()} ".join(condition for condition, _ in parts)
        return f"({joined})", [value for _, values in parts for value in values]
    if isinstance(term, Not):
        inner, values = sql(term.term, first_row)
        return f"(NOT {inner})", values
    column = f"(pictures.row + {first_row})" if term.field == "row" else f"pictures.{term.field}"
    if isinstance(term, IsNull):
        return f"{column} IS NULL", []
    if isinstance(term, Like):
        # Of bytes, as a path that is not UTF-8 is, GLOB is never true.
        return f"CAST({column} AS TEXT) GLOB CAST(? AS TEXT)", [blob_or_text(_glob(term.pattern))]
    if isinstance(term, Among):
        marks = ", ".join("?" * len(term.values))
        return f"{column} IN ({marks})", [_stored(value) for value in term.values]
    return f"{column} {term.sign} ?", [_stored(term.value)]


def milvus(term: Term, *, negated: bool = False, prefixes: bool = False) -> str:
    """The same as a filter expression of Milvus, over the fields that `index.milvus.layout` makes.

    Nulls are said by other fields there, since servers know none before 2.5: `labelled` is false,
    `size` is below 0. `not` goes down to the comparisons, each true of rows that have the field
    alone, so that `label != "a"` and `not label == "a"` mean what they mean here. Of a name that is
    no UTF-8 what is none is looked for as U+FFFD.

    Args:
        negated: the opposite.
        prefixes: of a server before 2.4, which knows no pattern but `front%`.

    Raises:
        ConfigError: what Milvus, or such a server, cannot look for.
    """
    if isinstance(term, Not):
        return milvus(term.term, negated=not negated, prefixes=prefixes)
    if isinstance(term, Both):
        word = _OPPOSITE[term.word] if negated else term.word
        sides = (term.left, term.right)
        left, right = (milvus(side, negated=negated, prefixes=prefixes) for side in sides)
        return f"({left} {word} {right})"
    if isinstance(term, IsNull):
        is_null, is_not = _NULL_IN_MILVUS.get(term.field, ("row < 0", "row >= 0"))
        return is_not if negated else is_null
    if isinstance(term, Like) and not set(term.pattern) & set("%_"):
        # A server before 2.4 takes an empty pattern for any text.
        return milvus(Compare(term.field, "==", term.pattern), negated=negated)
    if isinstance(term, Like):
        found = f"{term.field} like {_quoted(_pattern(term, prefixes))}"
        found = f"(not ({found}))" if negated else found
    elif isinstance(term, Among):
        word = "not in" if negated else "in"
        found = f"{term.field} {word} [{', '.join(map(_quoted, term.values))}]"
    else:
        sign = _OPPOSITE[term.sign] if negated else term.sign
        found = f"{term.field} {sign} {_quoted(term.value)}"
    if term.field in _NULL_IN_MILVUS:
        return f"({_NULL_IN_MILVUS[term.field][1]} and {found})"
    return found


def _pattern(term: Like, prefixes: bool) -> str:
    """A backslash is an escape there, and a letter here."""
    front = term.pattern.removesuffix("%")
    if prefixes and any(sign in front for sign in "%_\\"):
        raise ConfigError(
            f"--where: the pattern {term.pattern!r} is no text with % at its end, and this Milvus "
            "server (before 2.4) can look for no other",
            hint='write it as `path like "front/%"`, or search an index in files',
        )
    return term.pattern.replace("\\", "\\\\")


def _chain(term: Both) -> list[Term]:
    """a, b and c of `a or b or c`: without parentheses around each pair."""
    parts, left = [term.right], term.left
    while isinstance(left, Both) and left.word == term.word:
        parts.append(left.right)
        left = left.left
    return [left, *reversed(parts)]


def _stored(value: Value) -> Value | bytes:
    return value if isinstance(value, int) else blob_or_text(value)


def _quoted(value: Value) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(blob_or_text(value), bytes):
        raise ConfigError(
            f"--where: {value!r} is no UTF-8, and Milvus keeps no other text",
            hint="ask by other fields, such as `row`, or search an index in files",
        )
    for letter, escape in _ESCAPES.items():
        value = value.replace(letter, escape)
    return f'"{value}"'


def _glob(pattern: str) -> str:
    """SQLite's LIKE takes a for A; GLOB does not."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(letter, letter) for letter in pattern)


class _Parser:
    """Recursive descent, a method a rule."""

    def __init__(self, text: str) -> None:
        self.text, self.depth, self.conditions, self.values = text, 0, 0, 0
        self.tokens = list(self._tokens())
        self.place = 0

    def all(self) -> Term:
        term = self._either()
        if self._kind():
            self._fail("`and`, `or` or the end")
        return term

    def _either(self) -> Term:
        left = self._both()
        while self._takes("or"):
            left = Both("or", left, self._both())
        return left

    def _both(self) -> Term:
        left = self._not()
        while self._takes("and"):
            left = Both("and", left, self._not())
        return left

    def _not(self) -> Term:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"at most {DEEPEST} parentheses")
        try:
            if self._takes("not"):
                return Not(self._not())
            if self._takes("("):
                term = self._either()
                self._must(")")
                return term
            return self._about_a_field()
        finally:
            self.depth -= 1

    def _about_a_field(self) -> Term:
        self.conditions += 1
        if self.conditions > MOST_CONDITIONS:
            self._fail(f"at most {MOST_CONDITIONS} conditions (`in [...]` takes many values)")
        field = self._next("word", f"a field ({', '.join(FIELDS)})", FIELDS)
        if self._takes("is"):
            negated = self._takes("not")
            self._must("null")
            return Not(IsNull(field)) if negated else IsNull(field)
        if self._takes("like"):
            if field not in TEXT_FIELDS:
                self._fail(f"a number to compare `{field}` with")
            return Like(field, self._pattern())
        negated = self._takes("not")
        if self._takes("in"):
            term: Term = Among(field, self._values(field))
            return Not(term) if negated else term
        if negated:
            self._fail("`in`")
        signs = ("==", "!=", "<", "<=", ">", ">=")
        sign = self._next("sign", "one of == != < <= > >=, `in`, `like` or `is null`", signs)
        return Compare(field, sign, self._value(field))

    def _pattern(self) -> str:
        pattern = _unquoted(self._next("text", 'a pattern in quotes, "front%"'))
        if len(pattern) > LONGEST_PATTERN:
            self._fail(f"a pattern of at most {LONGEST_PATTERN} characters before it")
        return pattern

    def _values(self, field: str) -> tuple[Value, ...]:
        self._must("[")
        values = [self._value(field)]
        while self._takes(","):
            values.append(self._value(field))
        self._must("]")
        return tuple(values)

    def _value(self, field: str) -> Value:
        self.values += 1
        if self.values > MOST_VALUES:
            self._fail(f"at most {MOST_VALUES} values")
        if field in TEXT_FIELDS:
            return _unquoted(self._next("text", f'text in quotes, as `{field}` is: "007"'))
        digits = self._next("number", f"a whole number, as `{field}` is")
        if len(digits) > 20 or abs(int(digits)) >= 2**63:
            self._fail("a number below 2^63")
        return int(digits)

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        place = 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None:
                self._raise(place, "a field, a sign, a number or text in quotes")
            kind = str(match.lastgroup)
            word = match[kind]
            yield kind, _WORD_OF.get(word, word), match.start(kind)
            place = match.end()

    def _kind(self) -> str:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def _takes(self, word: str) -> bool:
        kind = self._kind()
        found = kind in ("word", "sign") and self.tokens[self.place][1] == word
        if kind == "word":
            found = self.tokens[self.place][1].lower() == word
        self.place += found
        return found

    def _must(self, word: str) -> None:
        if not self._takes(word):
            self._fail(f"`{word}`")

    def _next(self, kind: str, wanted: str, known: tuple[str, ...] = ()) -> str:
        if self._kind() != kind or (known and self.tokens[self.place][1] not in known):
            self._fail(wanted)
        self.place += 1
        return self.tokens[self.place - 1][1]

    def _fail(self, wanted: str) -> NoReturn:
        there = self.place < len(self.tokens)
        self._raise(self.tokens[self.place][2] if there else len(self.text), wanted)

    def _raise(self, place: int, wanted: str) -> NoReturn:
        rest = self.text[place:].strip()
        found = f"`{rest[:20]}`" if rest else "its end"
        raise ConfigError(f"--where {self.text!r}: at {found} {wanted} is wanted", hint=HINT)


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
