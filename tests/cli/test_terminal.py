"""What a terminal says of itself, and that asking leaves it as it was."""

import subprocess
import sys

import pytest
from cli_toys import environment
from terminals import ANSWERS, in_terminal

from cgdcli.cli.terminal import TerminalAnswer, understood
from cgdcli.config import Thumbnails

ASK = "from cgdcli.cli.terminal import ask_terminal; print(ask_terminal())"


@pytest.mark.parametrize(
    ("terminal", "protocol", "cell"),
    [
        ("kitty", "kitty", (11, 22)),
        ("old kitty", "blocks", (11, 22)),  # says yes to kitty's graphics, shows no placeholders
        ("ghostty", "kitty", (11, 22)),
        ("xterm", "sixel", (10, 20)),
        ("iTerm2", "iterm2", (16, 34)),
        ("WezTerm", "sixel", (10, 20)),
        ("VTE", "blocks", None),
        ("console", "blocks", None),
        ("silent", "blocks", None),
    ],
)
def test_answers_are_understood(terminal, protocol, cell):
    assert understood(ANSWERS[terminal]) == TerminalAnswer(Thumbnails(protocol), cell)


def test_sixel_is_an_attribute_of_its_own():
    """14 and 42 have a 4 in them."""
    assert understood(b"\x1b[?62;14;42c").protocol is Thumbnails.blocks


@pytest.mark.parametrize("noise", [b"", b"q", b"ls -l\n", b"\x1b[A"])
def test_keys_struck_meanwhile_do_not_confuse(noise):
    assert understood(noise + ANSWERS["xterm"]).protocol is Thumbnails.sixel


def test_size_of_a_cell_that_makes_no_sense():
    assert understood(b"\x1b[6;0;0t\x1b[?4c").cell is None


def test_a_terminal_is_asked_and_left_as_it_was():
    code = f"import termios; before = termios.tcgetattr(0)\n{ASK}\n"
    code += "assert termios.tcgetattr(0) == before"
    ended, seen = in_terminal("xterm", "-c", code)
    assert ended == 0 and b"sixel" in seen and b"cell=(10, 20)" in seen
    assert ANSWERS["xterm"][2:] not in seen  # the answer is not echoed on the screen


def test_stdin_may_be_a_file(tmp_path):
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as stdin:
        _, seen = in_terminal("iTerm2", "-c", ASK, stdin=stdin)
    assert b"iterm2" in seen


def test_a_silent_terminal_costs_a_second_once():
    code = f"import time; t = time.monotonic()\n{ASK}\nprint('took', time.monotonic() - t)"
    _, seen = in_terminal("silent", "-c", code)
    assert b"blocks" in seen and 0.9 < float(seen.split(b"took")[1]) < 3


def test_in_the_background_nothing_is_asked():
    """A question from there would stop the process (SIGTTOU)."""
    code = f"""import os
child = os.fork()
if not child:
    os.setpgid(0, 0)
    {ASK}
    os._exit(0)
_, status = os.waitpid(child, os.WUNTRACED)
print('stopped' if os.WIFSTOPPED(status) else 'ended')"""
    _, seen = in_terminal("xterm", "-c", code)
    assert b"ended" in seen and b"\x1b[c" not in seen


def test_without_a_terminal_nothing_is_asked():
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=True,
    )
    assert done.stdout.startswith(b"TerminalAnswer(protocol=<Thumbnails.blocks")
