"""Which part a picture is of, and which files a name means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgdcli.errors import ConfigError, MismatchError
from cgdcli.index.shards import (
    Shard,
    check_layout,
    numbers_of_parts,
    part_named,
    part_of,
    parts_meant,
    shards,
)


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_the_part_of_a_path_is_the_same_for_ever():
    """Of 16 the sixteenth digit of `printf %s a.jpg | sha256sum`."""
    digits = {"a.jpg": 0xA, "red/0.png": 0x0, "red/1.png": 0xE, "kaffee/\u00e9.jpg": 0x9}
    assert {path: part_of(path, 16) for path in digits} == digits
    assert part_of("red/\udcff.jpg", 7) in range(7)  # a name that is no UTF-8


def test_parts_are_even_and_only_one_holds_a_picture():
    paths = [f"{i % 97}/{i}.jpg" for i in range(4000)]
    counts = [sum(shard.holds(path) for path in paths) for shard in shards(8)]
    assert sum(counts) == 4000
    assert min(counts) > 400 and max(counts) < 600  # 500 expected, deviation 21


@given(st.integers(1, 99_999), st.data())
def test_a_part_is_found_again_by_its_name(of, data):
    shard = Shard(data.draw(st.integers(0, of - 1)), of)
    path = shard.path(Path("some/feats.npy"))
    for name in (path, path.with_suffix(".sqlite"), path.with_suffix("")):
        assert part_named(name) == (Path("some/feats.npy"), shard)
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize("name", ["feats.npy", "feats.00016-of-00016.npy", "feats.1-of-2.npy"])
def test_other_names_are_no_parts(name):
    assert part_named(Path(name)) is None


@pytest.mark.parametrize("text", ["", "3", "3/", "/16", "a/16", "3/16/2", "-1/16", "1 of 2"])
def test_a_shard_is_i_of_n(text):
    with pytest.raises(ConfigError, match="i/n") as caught:
        Shard.parse(text)
    assert "SLURM_ARRAY_TASK_ID" in caught.value.hint


@pytest.mark.parametrize("text", ["16/16", "0/0", "99/16"])
def test_parts_are_counted_from_0(text):
    with pytest.raises(ConfigError, match="parts"):
        Shard.parse(text)


def test_what_a_name_means(tmp_path):
    touch(tmp_path, "feats.00001-of-00004.npy", "other.00000-of-00002.sqlite")
    whole = tmp_path / "feats.npy"
    assert parts_meant(whole) == parts_meant(tmp_path / "feats") == (whole, 4)
    assert parts_meant(tmp_path / "feats.sqlite") == (whole, 4)
    assert parts_meant(tmp_path / "feats.?????-of-00004.npy") == (whole, 4)
    assert parts_meant(tmp_path / "feats.00000-of-00004.npy") == (whole, 4)
    assert parts_meant(tmp_path / "nothing.npy") is None
    touch(tmp_path, "feats.npy")
    assert parts_meant(whole) is None


def test_two_numbers_of_parts_mean_nothing_until_one_is_named(tmp_path):
    touch(tmp_path, "feats.00001-of-00004.npy", ".feats.00000-of-00002.npy.part")
    with pytest.raises(MismatchError, match="of 2 and of 4"):
        parts_meant(tmp_path / "feats.npy")
    assert parts_meant(tmp_path / "feats.00000-of-00004.npy") == (tmp_path / "feats.npy", 4)
    assert numbers_of_parts(tmp_path / "feats.npy") == [2, 4]


def test_one_layout_at_a_time(tmp_path):
    whole = tmp_path / "feats.npy"
    check_layout(whole, shards(4))
    touch(tmp_path, "feats.00003-of-00004.npy")
    check_layout(whole, shards(4))
    for others in (shards(8), [Shard(0, 3)], []):
        with pytest.raises(MismatchError, match="in 4 parts"):
            check_layout(whole, others)
    (tmp_path / "feats.00003-of-00004.npy").rename(whole)
    check_layout(whole, [])
    with pytest.raises(MismatchError, match="as one index"):
        check_layout(whole, [Shard(0, 4)])
