"""Thumbnails of `cgd search`: in a terminal only, by its protocol, not where they are unwanted."""

import subprocess
import sys

import pytest
from cli_toys import environment
from terminals import in_terminal

SIGNS = {"blocks": "▀".encode(), "kitty": b"\x1b_G", "sixel": b"\x1bP0", "iterm2": b"\x1b]1337;"}
SEARCH = ("-m", "cgdcli", "search", "row:0", "--index", "feats.npy", "-k", "3")


def drawn(seen):
    return [name for name, sign in SIGNS.items() if sign in seen]


@pytest.mark.parametrize(
    ("terminal", "options", "env", "wanted"),
    [
        ("VTE", (), {}, ["blocks"]),
        ("kitty", (), {}, ["kitty"]),
        ("kitty", (), {"COLORTERM": ""}, ["blocks"]),
        ("xterm", (), {"TERM": "xterm", "COLORTERM": ""}, ["sixel"]),
        ("VTE", (), {"TERM": "xterm", "COLORTERM": ""}, []),
        ("VTE", ("--thumbnails", "iterm2"), {}, ["iterm2"]),
        ("kitty", ("--thumbnails", "kitty"), {"COLORTERM": ""}, []),
        ("xterm", ("--thumbnails", "off"), {}, []),
        ("xterm", (), {"NO_COLOR": "1"}, []),
        ("xterm", (), {"CGD_SEARCH_THUMBNAILS": "blocks"}, ["blocks"]),
        ("xterm", ("--json",), {}, []),
    ],
    ids=lambda value: str(value) if isinstance(value, (str, list)) else None,
)
def test_what_a_terminal_gets(toy, terminal, options, env, wanted):
    code, seen = in_terminal(terminal, *SEARCH, *options, cwd=toy.folder, **env)
    assert code == 0 and drawn(seen) == wanted
    assert b"imgs/blue/10.png" in seen and (b"1.0000" in seen or "--json" in options)
    asks = bool(wanted) or (terminal == "VTE" and not options)
    assert (b"\x1b[c" in seen) == asks


def test_a_narrow_terminal_has_the_table_alone(toy):
    code, seen = in_terminal("xterm", *SEARCH, cwd=toy.folder, columns=50)
    assert code == 0 and drawn(seen) == [] and b"1.0000" in seen


def test_a_pipe_never_gets_any(cgd, in_toy):
    for options in ((), ("--thumbnails", "auto"), ("--thumbnails", "off")):
        ran = cgd("search", "row:0", "--index", "feats.npy", *options)
        assert ran.code == 0 and "\x1b" not in ran.out and "thumbnails" not in ran.err
    ran = cgd("search", "row:0", "--index", "feats.npy", "--thumbnails", "sixel")
    assert ran.code == 0 and "\x1b" not in ran.out
    assert "no thumbnails: stdout is not a terminal" in ran.err


def test_an_unknown_protocol(cgd, in_toy):
    ran = cgd("search", "row:0", "--index", "feats.npy", "--thumbnails", "ascii")
    assert ran.code == 2 and "ascii" in ran.err


def test_without_the_extra_the_table_is_as_it_was(toy, tmp_path):
    """`auto` says nothing; who names a protocol is told what to install."""
    block = "import sys; sys.modules['textual_image'] = None\n"
    code = block + "from cgdcli.cli import main; sys.exit(main(sys.argv[1:]))"
    search = ("-c", code, *SEARCH[2:])
    ended, seen = in_terminal("xterm", *search, cwd=toy.folder)
    assert ended == 0 and drawn(seen) == []
    ended, seen = in_terminal("xterm", *search, "--thumbnails", "sixel", cwd=toy.folder)
    assert ended == 2 and b"cgdcli[pictures]" in seen


def test_no_module_for_pictures_is_loaded_in_a_pipe(toy):
    code = (
        "import sys\nfrom cgdcli.cli import main\nmain(sys.argv[1:])\n"
        "print([n for n in ('torch', 'textual_image') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SEARCH[2:]],
        cwd=toy.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
