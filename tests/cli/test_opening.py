"""`--open`: the browser that is asked, and what is said where there is none."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgdcli.cli.opening import open_in_browser

LINUX = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="displays of Linux")


@pytest.fixture
def page(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "a page é.html"
    file.write_text("<p>")
    return file


@LINUX
def test_without_a_display_it_is_said(page):
    assert open_in_browser(page) == "there is no display"


@LINUX
def test_a_browser_does_not_hold_the_pipe(page):
    """The one asked talks and stays for ten seconds; whoever reads our stdout need not wait."""
    browser = page.with_name("browser.sh")
    says = f'echo "opening in existing session"\necho "$1" > {page.parent}/url'
    browser.write_text(f"#!/bin/sh\n{says}\nexec sleep 10\n")
    browser.chmod(0o755)
    code = (
        "import sys\nfrom pathlib import Path\nfrom cgdcli.cli.opening import open_in_browser\n"
        "print('before')\nprint(open_in_browser(Path(sys.argv[1])))"
    )
    repository = str(Path(__file__).parents[2])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, page.name],
        cwd=page.parent,
        env=os.environ | {"BROWSER": f"{browser} %s &", "PYTHONPATH": repository},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    assert time.monotonic() - started < 8
    assert done.stdout == "before\nNone\n"
    assert (page.parent / "url").read_text().strip() == page.as_uri()


@LINUX
def test_a_browser_that_is_not_there(page, monkeypatch):
    monkeypatch.setenv("BROWSER", "/no/such/browser %s")
    monkeypatch.setattr("webbrowser._tryorder", None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert open_in_browser(page) == "no browser was found"
