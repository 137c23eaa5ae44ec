"""Opening a page in the user's browser."""

import contextlib
import os
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path


def open_in_browser(page: Path) -> str | None:
    """Ask the user's browser (`$BROWSER`, else the system's) to show a file.

    Returns:
        Why it cannot be asked; None where it was.
    """
    # Without a display Python's `webbrowser` would start a text browser in the terminal, and wait.
    shows = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if sys.platform not in ("win32", "darwin") and not shows:
        return "there is no display"
    with _stdout_kept():
        return None if webbrowser.open(page.absolute().as_uri()) else "no browser was found"


@contextlib.contextmanager
def _stdout_kept() -> Iterator[None]:
    """What a browser says goes to stderr; with our stdout it would also hold a pipe open, and
    `cgd search ... | jq` would end when the browser does."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
