"""`--where`: what it means, against Python's own reading of every row; what is refused."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgdcli.errors import ConfigError
from cgdcli.index.where import Among, Both, Compare, IsNull, Like, Not, milvus, parse, sql

ROWS = [
    (0, "front/a.jpg", "007", 10),
    (1, "front/b.jpg", "Bond", 20),
    (2, "back/A.jpg", None, 30),
    (3, "back/100%_[x]*?.jpg", 'say "hi"', 40),
    (4, "front", "bond", 50),
]


@pytest.fixture(scope="module")
def table():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE pictures (row, path, label, size)")
    database.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?)", ROWS)
    yield database
    database.close()


def rows(table, text, first_row=0):
    condition, values = sql(parse(text), first_row)
    found = table.execute(f"SELECT row FROM pictures WHERE {condition} ORDER BY row", values)
    return [row for (row,) in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('label == "007"', [0]),
        ("label = '007'", [0]),
        ('label != "007"', [1, 3, 4]),  # one without label is nothing but without label
        ('not (label == "007")', [1, 3, 4]),
        ("label is null", [2]),
        ("label is not null", [0, 1, 3, 4]),
        ('label in ["007", "bond"]', [0, 4]),
        ('label not in ["007", "bond"]', [1, 3]),
        ('path like "front/%"', [0, 1]),
        ('path like "%/_.jpg"', [0, 1, 2]),
        ('path like "back/a%"', []),  # cases differ
        ('path like "%[x]*?.jpg"', [3]),
        ('label == "say \\"hi\\""', [3]),
        ("label == 'say \"hi\"'", [3]),
        ("row < 2", [0, 1]),
        ("size >= 30 and row != 3", [2, 4]),
        ('label == "007" or label == "Bond" and row == 4', [0]),  # `and` binds more than `or`
        ('(label == "007" or label == "bond") and row == 4', [4]),
        ('label == "007" || ! (row in [0, 1]) && size > 40', [0, 4]),
        ('label == "007" OR NOT row IN [0, 1, 2, 3]', [0, 4]),
        ("  row  ==  1  ", [1]),
        ("row == -1", []),
    ],
)
def test_what_an_expression_finds(table, text, expected):
    assert rows(table, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(["row == 1"] * 400),
        f"row in [{', '.join(['1'] * 30_000)}]",
        f'path like "front/b.jpg{"%" * 9_980}"',
        "(" * 14 + " and ".join(["row == 1"] * 400) + ")" * 14,
        "(row == 7 or row == 3 and " * 14 + "row in [1]" + " or row == 1)" * 14,
        "not (row == 2 or " * 7 + "row == 2 and row == 3" + ")" * 7 + " and row == 1",
        "not " * 14 + "row == 1",
    ],
    ids=["conditions", "values", "pattern", "parentheses", "mixed", "both", "not"],
)
def test_the_longest_that_is_read_is_what_the_table_takes(table, text):
    assert rows(table, text) == [1]


def test_what_is_not_utf8_is_found_by_its_bytes(table):
    odd = b"caf\xe9".decode(errors="surrogateescape")
    with table:
        table.execute("INSERT INTO pictures VALUES (9, ?, ?, 1)", (b"caf\xe9/1.jpg", b"caf\xe9"))
    try:
        for text in (
            f'label == "{odd}"',
            f'label in ["x", "{odd}"]',
            f'path like "{odd}/%"',
            'path like "caf%.jpg"',
        ):
            assert rows(table, text) == [9], text
        assert rows(table, 'path not in ["a"] and not path like "%"') == []
    finally:
        with table:
            table.execute("DELETE FROM pictures WHERE row = 9")


def test_rows_of_a_part_have_the_numbers_of_the_whole(table):
    assert rows(table, "row >= 103", first_row=100) == [3, 4]
    assert rows(table, "row in [100, 2]", first_row=100) == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("its end", "a field")),
        ("colour == 1", ("`colour == 1`", "label, path, row, size")),
        ("label == 7", ("`7`", "text in quotes")),
        ('row == "7"', ('`"7"`', "a whole number")),
        ("label ==", ("its end", "text in quotes")),
        ('label == "a" label == "b"', ('`label == "b"`', "`and`, `or` or the end")),
        ('(label == "a"', ("its end", "`)`")),
        ("label in []", ("`]`", "text in quotes")),
        ('label in "a"', ('`"a"`', "`[`")),
        ("row like 5", ("`5`", "a number to compare `row` with")),
        ('label not like "a"', ("`like", "`in`")),
        ("label is 5", ("`5`", "`null`")),
        ("label ~ 5", ("`~ 5`", "a field, a sign")),
        ('label == "open', ('`"open`', "text in quotes")),
        ("row == 99999999999999999999", ("2^63",)),
        ("(" * 500 + "row == 1" + ")" * 500, ("at most 15 parentheses",)),
        ("row == 1; DROP TABLE pictures", ("`; DROP TABLE",)),
        ("row == " + "1" * 5_000, ("2^63",)),
        (" or ".join(["row == 1"] * 401), ("at most 400 conditions", "`in [...]`")),
        (f"row in [{', '.join(['1'] * 30_001)}]", ("at most 30000 values",)),
        (f'path like "{"a" * 10_001}"', ("at most 10000 characters",)),
    ],
)
def test_what_is_no_expression_is_said_with_its_place(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    for word in words:
        assert word in caught.value.what, caught.value.what
    assert "--where" in caught.value.hint


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.integers(-(2**62), 2**62)
leaves = st.one_of(
    st.builds(Compare, st.sampled_from(["label", "path"]), st.sampled_from(["==", "<"]), texts),
    st.builds(Compare, st.sampled_from(["row", "size"]), st.sampled_from(["!=", ">="]), numbers),
    st.builds(Among, st.just("label"), st.lists(texts, min_size=1, max_size=3).map(tuple)),
    st.builds(Like, st.just("path"), texts),
    st.builds(IsNull, st.sampled_from(["label", "row"])),
)
terms = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner), st.builds(Both, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(terms)
def test_what_goes_to_milvus_is_read_as_the_same(term):
    """Its language contains ours, so that our own reader can judge what is written."""
    assert parse(milvus(term)) == term
