"""Importing the package or its command line loads nothing heavy; names come on demand."""

import subprocess
import sys
from pathlib import Path

import pytest

import cgdcli

HEAVY = ("torch", "torchvision", "numpy", "PIL", "rich", "safetensors")
REPOSITORY = Path(__file__).parents[1]


def loaded_after(code):
    """Top-level modules in a fresh interpreter after `code`."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import cgdcli", "import cgdcli.cli", "import cgdcli.config"])
def test_import_loads_nothing_heavy(code):
    loaded = loaded_after(code)
    assert "cgdcli" in loaded
    assert not loaded & set(HEAVY)


def test_the_check_sees_what_is_loaded():
    assert "torch" in loaded_after("import cgdcli; cgdcli.load_model")


@pytest.mark.parametrize("name", ["CGDConfig", "TrainConfig", "CGDError"])
def test_names_of_the_lowest_floor_load_nothing_heavy(name):
    assert not loaded_after(f"from cgdcli import {name}") & set(HEAVY)


@pytest.mark.parametrize(
    "modules",
    [
        "cgdcli.weights.header",
        "cgdcli.index.store",
        "cgdcli.auditing.duplicates, cgdcli.judging.pairing, cgdcli.judging.calibrating",
    ],
)
def test_what_needs_no_torch_loads_none(modules):
    assert "torch" not in loaded_after(f"import {modules}")


def test_a_row_of_an_index_is_searched_without_what_reads_pictures():
    assert not loaded_after("import cgdcli.retrieval, cgdcli.cli.search") & {"torch", "PIL"}


@pytest.mark.parametrize("module", ["cgdcli.images.decoding", "cgdcli.datasets.checking"])
def test_pictures_load_no_torch(module):
    assert "torch" not in loaded_after(f"import {module}, cgdcli.images.transforms")


@pytest.mark.parametrize("name", cgdcli.__all__)
def test_every_public_name_is_there(name):
    assert getattr(cgdcli, name) is not None
    assert name in dir(cgdcli)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        cgdcli.nonsense  # noqa: B018
