"""`--where`: what it means, against Python's own reading of every row; what is refused."""

import re
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


texts = st.text(st.sampled_from('007Bond say"hi%_[x]*?/\\\n'), max_size=6)
known = st.sampled_from([value for row in ROWS for value in row[1:3] if value])
numbers = st.integers(-1, 51)
leaves = st.one_of(
    st.builds(
        Compare,
        st.sampled_from(["label", "path"]),
        st.sampled_from(["==", "!=", "<", ">="]),
        texts | known,
    ),
    st.builds(Compare, st.sampled_from(["row", "size"]), st.sampled_from(["!=", ">="]), numbers),
    st.builds(Among, st.just("label"), st.lists(texts | known, min_size=1, max_size=3).map(tuple)),
    st.builds(Like, st.sampled_from(["label", "path"]), texts | known.map(lambda k: k[:3] + "%")),
    st.builds(IsNull, st.sampled_from(["label", "path", "row", "size"])),
)
terms = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner), st.builds(Both, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def sent():
    """A picture without size beside the others; and the fields that are sent of all."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE pictures (row, path, label, size)")
    every = [*ROWS, (5, "back/sizeless", "007", None)]
    database.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?)", every)
    database.execute(
        "CREATE TABLE sent AS SELECT row, path, coalesce(label, '') AS label, "
        "label NOT NULL AS labelled, coalesce(size, -1) AS size FROM pictures"
    )
    database.execute("PRAGMA case_sensitive_like = ON")
    yield database
    database.close()


def read_as_milvus_does(table, text):
    """Rows of a filter expression, by SQLite over the fields that are sent."""
    values = [re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), found[1:-1])
              for found in re.findall(QUOTED, text)]  # fmt: skip
    condition = re.sub(QUOTED, "?", text).replace("[", "(").replace("]", ")")
    condition = condition.replace("like ?", "like ? ESCAPE '\\'")
    found = table.execute(f"SELECT row FROM sent WHERE {condition} ORDER BY row", values)
    return [row for (row,) in found]


QUOTED = r'"(?:[^"\\]|\\.)*"'


@settings(max_examples=300, deadline=None)
@given(terms)
def test_what_goes_to_milvus_means_the_same(sent, term):
    condition, values = sql(term)
    found = sent.execute(f"SELECT row FROM pictures WHERE {condition} ORDER BY row", values)
    assert read_as_milvus_does(sent, milvus(term)) == [row for (row,) in found]


def test_not_goes_down_to_the_comparisons():
    """A server before 2.4 takes `not` before parentheses and `like` alone."""
    term = parse('not (label == "a" and not row < 3 or path like "b%")')
    assert milvus(term) == (
        '(((labelled == true and label != "a") or row < 3) and (not (path like "b%")))'
    )


@pytest.mark.parametrize("pattern", ["%.jpg", "a_b%", "a%b", "a\\\\b%", "%%"])
def test_patterns_that_a_server_before_2_4_reads_otherwise(pattern):
    """There `_` is a letter, in silence."""
    with pytest.raises(ConfigError, match=r"before 2\.4"):
        milvus(parse(f'path like "{pattern}"'), prefixes=True)
    assert milvus(parse('path like "front/%"'), prefixes=True) == 'path like "front/%"'


def test_what_is_no_utf8():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE pictures (row, path)")
    database.execute("INSERT INTO pictures VALUES (0, ?), (1, 'a')", (b"\xff",))
    assert rows(database, 'path == "\udcff"') == [0]
    assert rows(database, 'path in ["\udcff", "a"]') == [0, 1]
    assert rows(database, 'path like "\udcff%"') == [0]
    with pytest.raises(ConfigError, match="no UTF-8"):
        milvus(parse('path == "\udcff"'))
