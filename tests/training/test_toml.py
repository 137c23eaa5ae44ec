"""Settings as TOML: every text comes back, any reader takes the file, old files are read."""

import json
import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgdcli.training.toml import read_toml, toml_value

# Surrogates and control characters, which `st.text()` alone seldom draws.
texts = st.text(
    st.one_of(st.characters(), st.sampled_from('\0\x7f\x1b\\"ud\U0001f600\ud83d\ude00\udce9'))
)


@given(text=texts, several=st.lists(texts, max_size=3))
def test_every_text_comes_back_and_any_reader_takes_it(tmp_path_factory, text, several):
    file = tmp_path_factory.getbasetemp() / "texts.toml"
    written = f"[data]\npath = {toml_value(text)}\nheld_out = {toml_value(several)}\n"
    file.write_bytes(written.encode())
    tomllib.loads(written)
    assert read_toml(file) == {"data": {"path": text, "held_out": several}}


def test_plain_text_stays_legible():
    assert toml_value("pictures/été \U0001f600") == '"pictures/été \U0001f600"'
    assert toml_value(os.fsdecode(b"caf\xe9")) == r'"caf\u0000dce9"'
    assert [toml_value(value) for value in (3, 1e-7, True)] == ["3", "1e-07", "true"]


@pytest.mark.parametrize(
    "name", ["\U0001f600", os.fsdecode(b"caf\xe9"), r"C:\ud83d\ude00" + "\U0001f600"]
)
def test_a_file_of_before_is_read(tmp_path, name):
    """It had JSON's escapes, which TOML forbids."""
    text = f"a = {json.dumps(name)}\n"
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    (tmp_path / "old.toml").write_text(text)
    assert read_toml(tmp_path / "old.toml") == {"a": name}


def test_what_is_no_toml_is_told_of_the_file_as_it_is(tmp_path):
    (tmp_path / "bad.toml").write_text('a = "\\ud83d\\ude00"\nb = \n')
    with pytest.raises(tomllib.TOMLDecodeError, match="line 1"):
        read_toml(tmp_path / "bad.toml")
