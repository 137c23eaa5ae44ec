"""The way on for files that are refused: the command of the hint, run as it stands."""

import argparse
import pathlib
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
import sources
import torch
from cli_toys import environment
from corpus import CORPUS
from torch import nn

from cgdcli.conversion import plan_conversion
from cgdcli.errors import CheckpointError
from cgdcli.weights.pickles import is_hostile
from cgdcli.weights.plain import HARMLESS, as_plain, main, write_plain
from cgdcli.weights.reading import read_content


def follow_the_hint(cgd, path):
    """What the hint says to run, run by this Python; the file it makes."""
    hint = cgd("inspect", path).err.partition("hint: ")[2]
    start = hint.index("python -m cgdcli.weights.plain")
    words = shlex.split(hint[start:].partition("; then convert")[0])
    subprocess.run([sys.executable, *words[1:]], check=True, env=environment(), cwd=path.parent)
    return path.with_name("plain.pth"), words


EXTRAS = {
    "args": argparse.Namespace(lr=1e-4, path=pathlib.PurePosixPath("a/b"), deep=[1, (2, 3)]),
    "best": np.float64(0.5),
    "history": np.arange(4.0),
    "when": types.SimpleNamespace(epoch=3),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_extras_beside_a_network_change_nothing_of_it(cgd, tmp_path, zipped):
    """deep-image-retrieval's options and transform stand in the same file, and must stay."""
    source = sources.deep_image_retrieval()
    torch.save(source.content, tmp_path / "clean.pth")
    with_extras = source.content | EXTRAS
    torch.save(with_extras, tmp_path / "it has.pth", _use_new_zipfile_serialization=zipped)
    plain, words = follow_the_hint(cgd, tmp_path / "it has.pth")
    assert "--run-its-code" not in words
    read = read_content(plain)
    assert read["best"] == 0.5 and read["when"] == {"epoch": 3}
    assert read["args"] == {"lr": 1e-4, "path": "a/b", "deep": [1, [2, 3]]}
    assert torch.equal(read["history"], torch.arange(4.0).double())
    clean, again = (plan_conversion(tmp_path / n) for n in ("clean.pth", "plain.pth"))
    assert again.format == clean.format and again.config == clean.config
    assert {e.source: e.status for e in again.entries} == {
        e.source: e.status for e in clean.entries
    }


@pytest.mark.parametrize("name", ["namespace", "numpy-scalar", "simple-namespace", "path",
                                  "whole-module", "whole-module-legacy"])  # fmt: skip
def test_the_way_on_works(name, cgd, tmp_path):
    broken = next(b for b in CORPUS if b.name == name)
    broken.build(tmp_path / "old file.pth", tmp_path / "executed")
    plain, words = follow_the_hint(cgd, tmp_path / "old file.pth")
    assert ("--run-its-code" in words) is name.startswith("whole-module")
    read = read_content(plain)
    read = read.get("state_dict", read)
    assert any(isinstance(t, torch.Tensor) for t in read.values())


def test_a_module_is_not_run_unasked(tmp_path, capsys):
    torch.save(nn.Sequential(nn.Linear(1, 1)), tmp_path / "old.pth")
    assert main([str(tmp_path / "old.pth"), str(tmp_path / "plain.pth")]) == 1
    said = capsys.readouterr().err
    assert "Sequential" in said and "hint: " in said and "--run-its-code" in said
    assert not (tmp_path / "plain.pth").exists()


@pytest.mark.parametrize("name", ["code-zip", "code-legacy", "code-protocol-0", "code-inst"])
def test_an_attack_is_never_run_without_the_word(name, tmp_path):
    broken, marker = next(b for b in CORPUS if b.name == name), tmp_path / "executed"
    broken.build(tmp_path / "old.pth", marker)
    with pytest.raises(CheckpointError, match="system"):
        write_plain(tmp_path / "old.pth", tmp_path / "plain.pth")
    assert not marker.exists() and not (tmp_path / "plain.pth").exists()


@pytest.mark.parametrize(
    ("name", "hostile"),
    [
        *((name, False) for name in HARMLESS),
        ("torchvision.models.resnet.ResNet", False),
        ("mine.networks.Retrieval", False),
        ("__main__.Model", False),
        ("functools.partial", False),
        ("marshal.loads", True),
        ("pickle.loads", True),
        ("os.system", True),
        ("posix.system", True),
        ("builtins.exec", True),
        ("__builtin__.eval", True),
        ("subprocess.Popen", True),
        ("numpy.testing._private.utils.runstring", True),
        ("torch.load", True),
        ("operator.attrgetter", True),
        ("mine.helpers.run_it", True),
    ],
)
def test_attacks_are_told_from_networks(name, hostile):
    assert is_hostile(name) is hostile


def test_harmless_classes_only_hold_values():
    """Nothing among them calls what it is given."""
    for name, kind in HARMLESS.items():
        assert isinstance(kind, type) or name.rpartition(".")[2] in (
            *("scalar", "_reconstruct", "encode"),
        ), name


def test_as_plain_leaves_text_where_nothing_else_can():
    assert as_plain({"a": {1}, "b": np.dtype("f4")}) == {"a": [1], "b": "float32"}
    assert as_plain(np.array(["x"])) == ["x"]
    assert as_plain((None, True, 1.5, "t")) == [None, True, 1.5, "t"]
