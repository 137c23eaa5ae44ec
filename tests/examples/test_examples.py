"""The examples run as a user runs them, and the README says what is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import polluted

from cgdcli.cli import app

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, run("quickstart.py", "made", folder=folder)


@pytest.mark.slow
def test_quickstart_searches_unseen_classes_well_above_chance(quickstart):
    folder, said = quickstart
    recall = float(re.search(r"classes never trained on: R@1 ([\d.]+)", said)[1])
    chance = float(re.search(r"by chance it would be +R@1 ([\d.]+)", said)[1])
    assert recall > 5 * chance
    assert (folder / "made/sheet.png").stat().st_size > 10_000
    assert np.load(folder / "made/feats.npy").shape == (192, 128)


@pytest.mark.slow
def test_quickstart_touches_no_folder_that_exists(quickstart):
    folder, _ = quickstart
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), "made"]
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists" in again.stderr


@pytest.mark.slow
def test_search_folder(quickstart, tmp_path):
    made = quickstart[0] / "made"
    query = next((made / "pictures/test").rglob("*.jpg"))
    model = next((made / "runs").iterdir())
    said = run("search_folder.py", made / "pictures/test", query, model, folder=tmp_path)
    assert "192 pictures embedded" in said
    assert said.splitlines()[1].startswith("1  1.0000")


@pytest.mark.slow
def test_compare_descriptors(quickstart):
    made = quickstart[0] / "made"
    model = next((made / "runs").iterdir())
    said = run("compare_descriptors.py", made / "pictures/test", model, folder=made)
    assert [line.split()[0] for line in said.splitlines()] == [*"SMGRCW", "SG", "SMG"]


def test_convert_old_checkpoint(tmp_path):
    torch.save(polluted("resnet18_SG_256_21", "0.0.31.post2005241907"), tmp_path / "old.pth")
    said = run("convert_old_checkpoint.py", "old.pth", folder=tmp_path)
    assert "181 entries" in said and "52 dropped" in said and "129 written" in said
    assert "11319381 parameters" in said


def test_readme_names_every_command_and_ci_runs_its_second_one():
    readme = (ROOT / "README.md").read_text()
    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    assert [name for name in names if f"| `{name} " not in readme] == []
    commands = re.findall(r"^    (python3 -m venv .*)$", readme, re.M)
    assert len(commands) == 2
    assert commands[1].replace("pip install -e", "pip install -q -e") in (
        (ROOT / ".ci/run").read_text()
    )
    assert len(readme.splitlines()) <= 120


def test_readme_four_lines_are_the_ones_of_the_help():
    from typer.testing import CliRunner

    readme = (ROOT / "README.md").read_text()
    said = CliRunner().invoke(app, ["--help"]).output
    for line in re.findall(r"^  (cgd .*)$", said, re.M):
        assert f"    {line}" in readme


def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.slow
def test_the_speed_of_training_is_measured(quickstart, tmp_path):
    pictures = quickstart[0] / "made/pictures/train"
    small = {"--image-size": 32, "--batch-size": 16, "--turns": 1, "--batches": 1}
    settings = [word for pair in small.items() for word in pair]
    said = run("benchmarks/train_speed.py", pictures, *settings, "--device", "cpu", folder=tmp_path)
    speeds = [float(line.split("|")[2]) for line in said.splitlines() if line.startswith("| cgd")]
    assert len(speeds) == 5
    assert min(speeds) > 0
