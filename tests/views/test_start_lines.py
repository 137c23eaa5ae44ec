"""What is said as a run begins, or goes on."""

from pathlib import Path

import pytest

from cgdcli.reports import StartReport
from cgdcli.views.tables import start_lines


@pytest.mark.parametrize(
    ("first", "epochs", "words"),
    [
        (1, 3, "6 steps of 16 an epoch, epochs 1 to 3, on cpu"),
        (3, 3, "6 steps of 16 an epoch, epochs 3 to 3, on cpu"),
        (2, 1, "nothing is left to train after 1 epoch, on cpu"),
        (4, 3, "nothing is left to train after 3 epochs, on cpu"),
    ],
)
def test_the_epochs_to_come(first, epochs, words):
    report = StartReport(Path("runs/one"), 4, 96, 6, epochs, first, 16, "cpu", "val", ("a note",))
    note, line = start_lines(report)
    assert note == "note: a note"
    assert line == f"run runs/one: 96 pictures of 4 classes, {words}; judged on val"
