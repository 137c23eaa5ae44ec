"""`cgd train` in a terminal, by a terminal of our own, and without one."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from cli_toys import SMALL, draw_classes, environment

from cgdcli.cli.output import Output
from cgdcli.cli.train_display import TrainDisplay

TRAIN = ("train", "data", *SMALL, "--batch-size", "4", "--per-class", "2")
CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """What a terminal of so many columns shows; enough of one for what rich sends."""

    def __init__(self, columns):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.cursor_hidden, self.colours, self.folds = False, set(), 0
        self.frames = []  # the screen each time before it is drawn over

    def feed(self, text):
        while text:
            code = CODE.match(text)
            if code:
                self._code(*code.groups())
                text = text[code.end() :]
            else:
                self._letter(text[0])
                text = text[1:]

    def _code(self, private, numbers, letter):
        if letter in "AK":
            self.frames.append(list(self.lines))
        if letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif letter == "K":
            self.lines[self.row] = ""
        elif letter in "hl" and private:
            self.cursor_hidden = letter == "l"
        elif letter == "m":
            self.colours |= set(numbers.split(";"))
        else:
            raise AssertionError(f"a code that this terminal does not know: {numbers}{letter}")

    def _letter(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            if self.column == self.columns:
                self.folds += 1
                self._letter("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1


def in_terminal(folder, columns, *options, **env):
    """Run with stderr in a terminal; the screen, what went to stdout, and the exit code."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    env = environment(**{"TERM": "xterm-256color"} | env)
    env.pop("COLUMNS", None)  # pytest-xdist sets it, and it goes before the terminal's own
    running = subprocess.Popen(
        [sys.executable, "-m", "cgdcli", *TRAIN, *options],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(mine, 65_536)
        except OSError:  # Linux: the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(mine)
    out = running.stdout.read()
    running.stdout.close()
    screen = Screen(columns)
    screen.feed(shown.decode())
    return screen, out, running.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "env"), [(60, {"NO_COLOR": "1"}), (120, {})])
def test_a_terminal_gets_a_live_view_and_stdout_stays_clean(tmp_path, columns, env):
    """stderr is a terminal, stdout a file: what `cgd train --json > report.json` sees."""
    draw_classes(tmp_path / "data", "red blue", 3)
    screen, out, code = in_terminal(
        # At a margin wider than any distance triplets are left to learn from.
        *(tmp_path, columns, "--epochs", "2", "--evaluations", "1", "--margin", "3", "--json"),
        **env,
    )
    assert code == 0 and json.loads(out)["epochs"] == 2
    text = "\n".join(screen.lines)
    assert "Traceback" not in text and not screen.cursor_hidden
    assert bool(screen.colours & {"38", *map(str, range(30, 38))}) is not bool(env)
    # What was live is gone; what was said once has stayed, and each epoch just once.
    assert "pictures/s" in text and "step 1/" not in text and "lr " not in text
    assert [text.count(f"epoch {n}/2") for n in range(1, 3)] == [1, 1], text
    live = ["\n".join(frame) for frame in screen.frames]
    assert any("reading the data, measuring" in frame for frame in live)
    assert any("judging the backbone before training" in frame for frame in live)
    view = max((frame for frame in live if "Recall@1" in frame and " lr " in frame), key=len)
    lines = [line for line in view.splitlines() if line][-4:]
    assert re.match(r"epoch \d/2 step \d/\d ", lines[0]), lines
    assert re.match(r"loss \d\.\d{3} \(class \d\.\d{3}, ranking \d\.\d{3}, proxy", lines[1]), lines
    assert re.match(r"active \d+ %  distance \d\.\d\d  lr .* pictures/s", lines[2]), lines
    assert re.match(r"Recall@1 .*untrained \d+\.\d %", lines[3]), lines
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize(("term", "live"), [("dumb", False), ("xterm", True)])
def test_a_terminal_without_cursor_codes_gets_lines(monkeypatch, capsys, term, live):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with TrainDisplay(Output()) as display:
        assert (display._live is not None) is live


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_is_live_in_a_file_nor_when_quiet(monkeypatch, capsys, quiet):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: quiet, raising=False)
    with TrainDisplay(Output(quiet=quiet)) as display:
        assert display._live is None
