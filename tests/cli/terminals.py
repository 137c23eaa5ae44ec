"""Terminals for tests: a process in a pty, and what answers its questions."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
import time

from cli_toys import environment

# What these answer to the questions for name, size of a cell and attributes.
ANSWERS = {
    "kitty": b"\x1bP>|kitty(0.40.1)\x1b\\\x1b[6;22;11t\x1b[?62;52;c",
    "old kitty": b"\x1bP>|kitty(0.26.5)\x1b\\\x1b[6;22;11t\x1b[?62;c",
    "ghostty": b"\x1bP>|ghostty 1.2.0\x1b\\\x1b[6;22;11t\x1b[?62;22;52c",
    "xterm": b"\x1bP>|XTerm(390)\x1b\\\x1b[6;20;10t\x1b[?64;1;4;22c",
    "iTerm2": b"\x1bP>|iTerm2 3.5.14\x1b\\\x1b[6;34;16t\x1b[?64;1;2;4;6;17;18;21;22c",
    "WezTerm": b"\x1bP>|WezTerm 20240203\x1b\\\x1b[6;20;10t\x1b[?65;4;6;18;22c",
    "VTE": b"\x1bP>|VTE(7600)\x1b\\\x1b[?61;1;21;22c",
    "console": b"\x1b[?6c",
    "silent": b"",
}
LINES, COLUMNS = 50, 120


def in_terminal(terminal, *command, cwd=None, stdin=None, columns=COLUMNS, **env):
    """Run Python with `command` in a terminal; exit code, and all that went to it."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    wanted = environment(TERM="xterm-256color", COLORTERM="truecolor") | env
    wanted.pop("COLUMNS", None)  # pytest-xdist sets it, and it goes before the terminal's own

    def own_terminal():
        os.setsid()
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    running = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=its if stdin is None else stdin,
        stdout=its,
        stderr=its,
        cwd=cwd,
        env=wanted,
        preexec_fn=own_terminal,  # noqa: PLW1509
    )
    os.close(its)
    seen = bytearray()

    def answer():
        asked = False
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux's word for: nobody has the other end
                return
            if not data:
                return
            seen.extend(data)
            if not asked and b"\x1b[c" in seen:
                asked = True
                # In two pieces, as a network brings it.
                whole = ANSWERS[terminal]
                os.write(ours, whole[:9])
                time.sleep(0.02)
                os.write(ours, whole[9:])

    reader = threading.Thread(target=answer)
    reader.start()
    code = running.wait(120)
    reader.join(10)
    os.close(ours)
    return code, bytes(seen)
