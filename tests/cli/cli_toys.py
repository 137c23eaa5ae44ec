"""Drawn pictures, real processes and the form of an expected failure, for the tests of the CLI."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {
    "red": (215, 45, 40),
    "green": (40, 190, 70),
    "blue": (50, 70, 215),
    "yellow": (225, 205, 40),
}
TINY = ("--backbone-weights", "none", "--image-size", "32", "--precision", "fp32")
# Of torchvision's smallest backbone, where nothing is asked of the network: a quarter of the time.
SMALL = (*TINY, "--backbone", "shufflenet_v2_x0_5", "--stride", "standard")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def picture(label: str, number: int, size: tuple[int, int] = (44, 36)) -> Image.Image:
    """A noisy picture in the label's colour; the same for the same label and number."""
    rng = np.random.default_rng([list(COLOURS).index(label), number])
    noise = rng.normal(0, 25, (size[1], size[0], 3))
    values = np.clip(np.array(COLOURS[label]) + noise, 0, 255)
    values[: size[1] // 3] = values[: size[1] // 3] * 0.4  # darker above: upright is visible
    return Image.fromarray(values.astype(np.uint8))


def draw(file: Path, label: str, number: int, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(label, number).save(file, **options)
    return file


def draw_classes(folder: Path, labels: str, each: int, first: int = 0) -> Path:
    """`labels` apart by blanks, `each` pictures in a folder of each."""
    for label in labels.split():
        for number in range(first, first + each):
            draw(folder / label / f"{number}.png", label, number)
    return folder


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CGD_")}
    repository = str(Path(__file__).parents[2])
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR"):
        kept.pop(name, None)
    return kept | {"PYTHONPATH": repository} | extra


def process(*arguments: object, cwd: Path, **env: str) -> Ran:
    """`cgd ARGUMENTS` as a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "cgdcli", *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below, hidden ones too, with the hash of what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def check_failure(ran: Ran, code: int, *words: object) -> None:
    """`error:` with every one of `words`, then `hint:`, no traceback, nothing on stdout."""
    assert ran.code == code, (ran.code, ran.out, ran.err)
    assert "Traceback" not in ran.err
    assert ran.out == ""
    lines = ran.err.splitlines()
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    assert len(errors) == 1, ran.err
    error, rest = lines[errors[0]], lines[errors[0] + 1 :]
    assert len(rest) == 1 and rest[0].startswith("hint: ") and len(rest[0]) > 12, ran.err
    for word in words:
        assert str(word) in error, f"{word!r} is not in {error!r}"
    for ugly in ("PosixPath", "Errno", "None", "object at 0x", "Value error", "parse string"):
        assert ugly not in error, error
