"""Pictures as a terminal is sent them: which, how large, and that a table stays one."""

import base64
import io
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cgdcli.config import Thumbnails
from cgdcli.errors import ConfigError
from cgdcli.reports import Hit, QueryHits
from cgdcli.views import terminal_pictures as module
from cgdcli.views.tables import hits_table
from cgdcli.views.terminal_pictures import terminal_pictures

RED, BLUE = (220, 40, 30), (30, 60, 210)
ESCAPES = re.compile(r"\x1bP.*?\x1b\\|\x1b\][^\x07]*\x07|\x1b\[[0-9;]*[A-Za-z]|\x1b[78]", re.DOTALL)


@pytest.fixture
def files(tmp_path):
    """One wide and red, one tall and blue."""
    Image.new("RGB", (400, 200), RED).save(tmp_path / "red.png")
    Image.new("RGB", (100, 400), BLUE).save(tmp_path / "blue.png")
    return [str(tmp_path / "red.png"), str(tmp_path / "blue.png")]


def shown(renderable, width=120):
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, color_system="truecolor", highlight=False
    )
    console.print(renderable)
    return out.getvalue()


def table(files, protocol, width=120):
    hits = tuple(Hit(i, 0.5, file, f"label{i}", i) for i, file in enumerate(files, start=1))
    pictures = terminal_pictures([*files, "/gone.png"], protocol)
    result = QueryHits("q", (*hits, Hit(3, 0.25, "/gone.png", None, 3)), None, files[0])
    return shown(hits_table(result, pictures), width)


def test_half_blocks_have_the_pictures_colours(files):
    text = shown(terminal_pictures(files, Thumbnails.blocks)[files[0]])
    assert text.count("▀") == 20 * 5  # 20 cells of 10 px across, 5 of 20 px down: 2 to 1
    colours = np.array(re.findall(r"38;2;(\d+);(\d+);(\d+)", text), int)
    assert np.abs(colours - RED).max() <= 2


def test_kitty_is_sent_the_picture_and_its_place(files, capfd):
    text = shown(terminal_pictures(files, Thumbnails.kitty)[files[1]])
    sent = capfd.readouterr().out
    data = "".join(re.findall(r"\x1b_G[^;]*f=100[^;]*;([^\x1b]*)\x1b", sent))
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - BLUE).max() <= 2
    columns, rows = re.search(r"a=p,i=\d+,c=(\d+),r=(\d+),U=1", sent).groups()
    assert (int(columns), int(rows)) == (2, 5)  # 1 to 4, of cells 1 to 2
    assert text.count("\U0010eeee") == 10


def test_sixel_has_the_pictures_colour_and_size(files):
    text = shown(terminal_pictures(files, Thumbnails.sixel)[files[0]])
    (sixel,) = re.findall(r"\x1bP[^q]*q(.*?)\x1b\\", text, re.DOTALL)
    assert sixel.startswith('"1;1;140;80')  # 14 by 4 cells
    percent = [int(v) for v in re.search(r"#\d+;2;(\d+);(\d+);(\d+)", sixel).groups()]
    assert np.abs(np.array(percent) * 2.55 - RED).max() < 5


def test_iterm2_is_sent_a_jpeg(files):
    text = shown(terminal_pictures(files, Thumbnails.iterm2)[files[0]])
    found = re.search(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=14;height=4;[^:]*:(.*?)\x07", text
    )
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture).astype(int) - RED).max() <= 6


@pytest.mark.parametrize("protocol", ["blocks", "kitty", "sixel", "iterm2"])
@pytest.mark.parametrize("width", [120, 70])
def test_the_table_stays_a_table(files, protocol, width, capfd):
    """Without what draws, each hit's words are on one line, and in columns."""
    text = ESCAPES.sub("", table(files, Thumbnails(protocol), width))
    # kitty's placeholders carry marks that take no room.
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Mn")
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    found = [line for line in lines if "label" in line or "0.2500" in line]
    assert len(found) == 4
    at = [line.index(word) for line, word in zip(found[1:], ("label1", "label2", "-"), strict=True)]
    assert len(set(at)) == 1


@pytest.mark.parametrize("protocol", ["sixel", "iterm2"])
def test_the_cursor_goes_up_as_far_as_the_picture_is_high(files, protocol):
    """And comes back; so the picture lies on the lines that were left free for it."""
    text = table(files, Thumbnails(protocol))
    ups = [int(n) for n in re.findall(r"\x1b7\x1b\[(\d+)A", text)]
    assert ups == [4, 4, 5]  # the query's, the same as a hit, the tall one
    assert text.count("\x1b7") == text.count("\x1b8") == 3


def test_a_cells_own_shape_counts(files):
    """Square cells: the wide picture is half as high in them."""
    pictures = terminal_pictures(files, Thumbnails.iterm2, (10, 10))
    assert (pictures[files[0]].across, pictures[files[0]].down) == (10, 5)


def test_what_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert terminal_pictures([str(tmp_path / "broken.png"), "row:3"], Thumbnails.iterm2) == {}


def test_without_the_extra(files, monkeypatch):
    monkeypatch.setattr(module, "can_draw", lambda: False)
    with pytest.raises(ConfigError) as error:
        terminal_pictures(files, Thumbnails.sixel)
    assert "cgdcli[pictures]" in error.value.hint and "sixel" in error.value.what
    assert len(terminal_pictures(files, Thumbnails.iterm2)) == 2  # which is ours


def test_the_library_is_kept_from_asking():
    """Its import asks by stdin and stdout where these are terminals, even a pipe's: not here."""
    import subprocess
    import sys

    code = (
        "import sys\nclass Terminal:\n    def isatty(self): return True\n"
        "    def __getattr__(self, name): raise AssertionError('asked: ' + name)\n"
        "real, sys.__stdout__ = sys.__stdout__, Terminal()\n"
        "from cgdcli.views.terminal_pictures import _renderables\n"
        "kinds = _renderables((7, 9))\n"
        "from textual_image.renderable import sixel, halfcell, tgp\n"
        "print([tuple(m.get_cell_size()) for m in (sixel, halfcell, tgp)])\n"
        "assert isinstance(sys.__stdout__, Terminal)\nsys.__stdout__ = real"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[(7, 9), (7, 9), (7, 9)]\n", done.stderr
