"""Paths as they are shown."""

from pathlib import Path

from cgdcli.remote import address_of


def display_path(path: Path) -> str:
    """Relative to the current folder where it lies below it, else absolute; or its address."""
    address = address_of(path)
    if address is not None:
        return address
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
