"""The file with each query's own result: what was kept comes back; what is damaged is said."""

import numpy as np
import pytest
from judgements import clustered, judgement

from cgdcli.errors import CheckpointError, OutputError
from cgdcli.judging.judged import JUDGED_FILE, judged_queries, load_judged, save_judged


@pytest.fixture
def kept():
    rows, labels = clustered(spread=1.6)
    judged = judgement(rows, [*labels[:-1], "lon\udcffely"])
    return judged, judged_queries(judged, "test", "f" * 64)


def test_comes_back_as_it_was(kept, tmp_path):
    judged, queries = kept
    save_judged(tmp_path, queries)
    again = load_judged(tmp_path)
    assert (again.what, again.fingerprint) == ("test", "f" * 64)
    for name in ("paths", "labels", "sha256", "ranks", "hits", "average_precision"):
        np.testing.assert_array_equal(getattr(again, name), getattr(queries, name))
    for i, rank in enumerate(again.ranks.tolist()):
        assert again.hits[:, i].mean() == pytest.approx(judged.report.recall[rank])
    assert np.isnan(again.average_precision).tolist() == [False] * 29 + [True]
    assert np.nanmean(again.average_precision) == pytest.approx(judged.report.map_at_r)
    assert [f.name for f in tmp_path.iterdir()] == [JUDGED_FILE]


def test_a_run_without_has_none(tmp_path):
    assert load_judged(tmp_path) is None


def test_another_version_is_none(kept, tmp_path):
    save_judged(tmp_path, kept[1])
    with np.load(tmp_path / JUDGED_FILE) as arrays:
        values = dict(arrays)
    np.savez(tmp_path / JUDGED_FILE, **values | {"format": np.array(99)})
    assert load_judged(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "other", "lacks", "short", "pickle", "empty"])
def test_damage_is_said(kept, tmp_path, damage):
    file = tmp_path / JUDGED_FILE
    save_judged(tmp_path, kept[1])
    whole = file.read_bytes()
    with np.load(file) as arrays:
        values = dict(arrays)
    if damage in ("cut", "empty"):
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    elif damage == "other":
        file.write_text("no archive")
    elif damage == "lacks":
        np.savez(file, **{k: v for k, v in values.items() if k != "hits"})
    elif damage == "short":
        np.savez(file, **values | {"hits": values["hits"][:-1]})
    else:
        np.savez(file, **values | {"paths": np.array([object()] * 30)}, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"judged\.npz` is damaged"):
        load_judged(tmp_path)


def test_a_folder_that_is_gone_is_said_and_nothing_is_left(kept, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_judged(tmp_path / "gone", kept[1])
    assert not list(tmp_path.iterdir())
