"""Answers that come while later queries are not read yet."""

import json

import numpy as np
import pytest
from cli_toys import draw

from cgdcli import SearchConfig, search_images
from cgdcli.cli import main
from cgdcli.errors import DatasetError
from cgdcli.reports import SkippedImage
from cgdcli.retrieval import queries, search_each

ROWS = [f"row:{number}" for number in (4, 0, 8, 4, 2)]


@pytest.fixture
def read(monkeypatch):
    """What was read, block by block, and how often a network was looked for."""
    seen = {"read": [], "engines": 0}
    whole, engine = queries.QueryReader.read, queries.query_engine

    def reading(self, names):
        seen["read"].append(list(names))
        return whole(self, names)

    def making(*arguments):
        seen["engines"] += 1
        return engine(*arguments)

    monkeypatch.setattr(queries.QueryReader, "read", reading)
    monkeypatch.setattr(queries, "query_engine", making)
    return seen


def test_blocks_give_what_all_at_once_gives(in_toy, tmp_path, read):
    for number in range(3):
        draw(tmp_path / f"{number}.png", "red", 60 + number)
    asked = [*ROWS, *map(str, sorted(tmp_path.glob("*.png")))]
    whole = search_images(asked, "feats.npy").results
    assert read["engines"] == 1
    assert tuple(search_each(asked, "feats.npy", together=2)) == whole
    assert read["engines"] == 2  # one for all blocks


def test_an_answer_comes_before_the_next_block_is_read(in_toy, read):
    answers = search_each(ROWS, "feats.npy", together=2)
    assert [next(answers).query for _ in range(2)] == ROWS[:2]
    assert read["read"] == [[], ROWS[:2]]  # the first: of what is added and taken
    assert next(answers).query == ROWS[2] and read["read"][-1] == ROWS[2:4]


def test_what_is_missing_is_said_before_any_answer(in_toy):
    with pytest.raises(DatasetError, match="no_such"):
        next(search_each([*ROWS, "no_such.jpg"], "feats.npy", together=1))


def test_those_that_cannot_be_read_come_in_their_place(in_toy, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    broken = str(tmp_path / "broken.jpg")
    answers = list(search_each(["row:1", broken, "row:2"], "feats.npy", together=1))
    assert [isinstance(answer, SkippedImage) for answer in answers] == [False, True, False]
    with pytest.raises(DatasetError, match="no query can be read"):
        list(search_each([broken, broken], "feats.npy", together=1))


def test_the_mean_is_of_all_of_them(in_toy):
    (answer,) = search_each(ROWS, "feats.npy", SearchConfig(mean=True), together=2)
    assert answer == search_images(ROWS, "feats.npy", SearchConfig(mean=True)).results[0]


def test_lines_are_printed_while_it_works(in_toy, read, monkeypatch, capsysbinary):
    monkeypatch.setattr("cgdcli.retrieval.TOGETHER", 2)
    printed = []
    monkeypatch.setattr(
        "cgdcli.cli.output.Output.lines",
        lambda _, lines: printed.extend((len(read["read"]), line) for line in lines),
    )
    assert main(["search", *ROWS, "--index", "feats.npy", "--jsonl", "-k", "1"]) == 0
    assert [blocks - 1 for blocks, _ in printed] == [1, 1, 2, 2, 3]
    assert [json.loads(line)["query"] for _, line in printed] == ROWS


@pytest.mark.parametrize("length", [1 - 6e-8, 1.0, 1 + 1e-7])
def test_a_row_is_as_similar_to_itself_as_can_be(tmp_path, length):
    rows = np.zeros((3, 4), np.float32)
    rows[0, 0], rows[1, :2], rows[2, 1] = length, (0.999, 0.0447), 1
    np.save(tmp_path / "rows.npy", rows)
    config = SearchConfig(k=3, min_similarity=1.0)
    (answer,) = search_images("row:0", tmp_path / "rows.npy", config).results
    assert [hit.row for hit in answer.hits] == [0]
