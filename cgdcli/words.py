"""Small words for people."""

import shlex
from pathlib import Path

from cgdcli.launch import is_launched


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 picture`, `2 pictures`, `3 classes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def resume_command(run: Path) -> str:
    """What to type to go on with a run."""
    command = ["torchrun", "...", "-m", "cgdcli"] if is_launched() else ["cgd"]
    line = [*command, "train", "--resume", "--name", run.name]
    if run.parent != Path("runs"):
        line += ["--runs", str(run.parent)]
    return shlex.join(line)
